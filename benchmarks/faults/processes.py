"""A `lime` command in a process of its own, with its JVM and its Python workers, to be killed or paused."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from benchmarks.standalone import ROOT

LIME = (sys.executable, "-m", "jobs.cli")
SECONDS = 600  # no small night takes so long
GROUP, DRIVER, JVM = "the night with its JVM", "the driver's Python", "the driver's JVM"  # what can be killed


class Process:
    """A running command; what it says is in the file `log`."""

    def __init__(self, command: Sequence[str], log: Path, environment: Mapping[str, str] = os.environ) -> None:
        self._log = log
        with log.open("wb") as file:
            self._process = subprocess.Popen(
                command,
                cwd=ROOT,
                env=environment,
                stdout=file,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    @property
    def said(self) -> str:
        """Its output so far."""
        return self._log.read_text()

    @property
    def error(self) -> str:
        """The product's last sentence about why it ended, without its name before it; empty where there is none."""
        lines = [line for line in self.said.splitlines() if line.startswith("lime: ")]
        return lines[-1].removeprefix("lime: ") if lines else ""

    @property
    def running(self) -> bool:
        """Whether it has not ended yet."""
        return self._process.poll() is None

    def wait_until(self, came: Callable[[], bool]) -> bool:
        """Wait for something, or for the end; returns whether it came while the process ran."""
        end = time.monotonic() + SECONDS
        while not came():
            if not self.running:
                return False
            if time.monotonic() > end:
                raise TimeoutError(f"expected in {SECONDS} s what is waited for, found:\n{self.said[-2000:]}")
            time.sleep(0.005)
        return self.running

    def wait_for(self, words: str) -> bool:
        """Wait until it has said the words, or ended; returns whether it said them while it ran."""
        return self.wait_until(lambda: words in self.said)

    def sleep(self, seconds: float) -> bool:
        """Wait some time, or for the end; returns whether it still runs."""
        end = time.monotonic() + seconds
        return self.wait_until(lambda: time.monotonic() >= end)

    def finish(self) -> int:
        """Wait for its exit code."""
        return self._process.wait(SECONDS)

    def kill(self, what: str = GROUP) -> None:
        """SIGKILL; when this returns the driver has ended, but its JVM may still be at work if it was spared."""
        if what == JVM:
            os.kill(self._jvm(), signal.SIGKILL)
        elif what == DRIVER:
            self._process.kill()
        else:
            self.signal(signal.SIGKILL)
        self.finish()

    def signal(self, number: signal.Signals) -> None:
        """To the driver and its JVM at once."""
        os.killpg(self._process.pid, number)

    def _jvm(self) -> int:
        """The driver's child that runs Java."""
        children = Path(f"/proc/{self._process.pid}/task/{self._process.pid}/children").read_text().split()
        return next(int(child) for child in children if Path(f"/proc/{child}/comm").read_text().strip() == "java")
