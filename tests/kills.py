"""A night in a process of its own, killed with its JVM when a test says so."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

from benchmarks.standalone import ROOT

NIGHT_SECONDS = 300


def kill_night(config: Path, root: Path, came: Callable[[], bool]) -> None:
    """Start the night on the lake `root` and kill it as soon as `came` is true."""
    said = root.with_suffix(".log")
    command = [sys.executable, "-m", "jobs.cli", "nightly", "--config", str(config), "--lake", str(root)]
    with said.open("wb") as log:
        process = subprocess.Popen(command, cwd=ROOT, stdout=log, stderr=log, start_new_session=True)
    end = time.monotonic() + NIGHT_SECONDS
    while not came():
        assert process.poll() is None, f"the night ended by itself: {said.read_text()[-2000:]}"
        assert time.monotonic() < end, f"the night did not come to where it is killed: {said.read_text()[-2000:]}"
        time.sleep(0.05)
    os.killpg(process.pid, signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
