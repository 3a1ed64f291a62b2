"""What a person sees while a night runs: a spinner with the running stage on a terminal, plain lines otherwise."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import Progress as Bars
from rich.progress import SpinnerColumn, TextColumn, TimeElapsedColumn


class Progress:
    """Shows the stage at work; `note` adds what the stage is at (a training step, say)."""

    def __init__(self, log: logging.Logger, console: Console | None = None) -> None:
        self._log = log
        self._console = console or Console()
        self._bars: Bars | None = None

    @contextmanager
    def stage(self, name: str, number: int, total: int) -> Iterator[None]:
        """While the stage runs."""
        label = f"[{number}/{total}] {name}"
        if not self._console.is_terminal:
            self._log.info("%s ...", label)
            yield
            return
        columns = (SpinnerColumn(), TextColumn("{task.description}"), TimeElapsedColumn())
        with Bars(*columns, console=self._console, transient=True) as bars:
            task = bars.add_task(label, total=None)
            self._bars, self._label, self._task = bars, label, task
            try:
                yield
            finally:
                self._bars = None

    def note(self, text: str) -> None:
        """What the running stage is at."""
        if self._bars is None:
            self._log.info("  %s", text)
        else:
            self._bars.update(self._task, description=f"{self._label}: {text}")

    def skip(self, name: str, why: str) -> None:
        """A stage that this night does without."""
        self._log.info("%s: skipped, %s", name, why)
