"""Progress: plain lines where nobody watches, a spinner on a terminal."""

import io
import logging

import pytest
from rich.console import Console

from jobs.progress import Progress


def test_plain_lines_where_output_is_no_terminal(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    progress = Progress(logging.getLogger("lime"), Console(file=io.StringIO()))
    with progress.stage("train_model", 3, 8):
        progress.note("step 50")
    progress.skip("train_model", "there is a model")
    assert caplog.messages == ["[3/8] train_model ...", "  step 50", "train_model: skipped, there is a model"]


def test_a_terminal_shows_the_stage_and_what_it_is_at() -> None:
    screen = io.StringIO()
    progress = Progress(logging.getLogger("lime"), Console(file=screen, force_terminal=True, width=80))
    with progress.stage("train_model", 3, 8):
        progress.note("step 50")
    assert "[3/8] train_model: step 50" in screen.getvalue()
