"""What is typed through spark-submit about a night, and the exit codes that come back."""

import sys
from pathlib import Path

import pytest

from benchmarks.packaging import lime_zip
from benchmarks.standalone import ROOT, StandaloneCluster
from schemas.errors import EXIT_OK, EXIT_RETRY


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (("plan",), EXIT_OK, "night of 2026-01-07: events before 2026-01-08 UTC; nothing is written now"),
        (("status", "--date", "2026-01-07"), EXIT_RETRY, "no night of 2026-01-07 has written its plan"),
        (("resume", "--nothing-to-do-code", "7"), 7, "nothing to do: no night was interrupted"),
    ],
    ids=lambda value: value[0] if isinstance(value, tuple) else "",
)
def test_a_command_about_a_night_is_submitted_and_its_exit_code_comes_back(
    words: tuple[str, ...], code: int, said: str, first_night: Path, tmp_path: Path
) -> None:
    local = StandaloneCluster("local[1]", Path(sys.executable), tmp_path)  # no cluster: the driver does the work
    command = local.command(
        ROOT / "jobs" / "submit.py",
        [words[0], "--config", str(first_night), *words[1:]],
        py_files=[lime_zip()],
        properties=ROOT / "spark-conf" / "local.conf",
    )
    answer = local.submit(command)
    assert answer.returncode == code, answer.stdout[-3000:] + answer.stderr[-3000:]
    assert said in answer.stdout.splitlines()
