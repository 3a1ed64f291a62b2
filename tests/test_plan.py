"""`lime plan` says what a night would read and compute and leaves the disk as it was."""

from pathlib import Path

import pytest

from benchmarks.tiny import USERS, write_platform
from jobs.cli import main
from schemas.errors import EXIT_INPUT, EXIT_OK
from tests.test_resume import files_below


def plan(config: Path, caplog: pytest.LogCaptureFixture, *more: str) -> list[str]:
    """What is said of the night, after finding that nothing was written."""
    before = files_below(str(config.parent))
    caplog.clear()
    assert main(["plan", "--config", str(config), *more]) == EXIT_OK
    assert files_below(str(config.parent)) == before
    return caplog.messages


def test_of_the_next_night_it_says_what_would_be_read_and_computed(
    first_night: Path, caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]
) -> None:
    caplog.set_level("INFO", "lime")
    said = plan(first_night, caplog)
    assert said[0] == "night of 2026-01-07: events before 2026-01-08 UTC; nothing is written now"
    size = (first_night.parent / "events" / "2026-01-07.tsv").stat().st_size
    assert said[1] == f"raw files: events 1 new ({size:,} bytes); 8 read before"
    assert said[2].startswith("table versions: events 1, items 1, users 1, user_history 1")
    assert said[2].endswith("; not made yet: events_quarantine")
    (package,) = (first_night.parent / "lake" / "models").iterdir()
    assert said[3] == f"model: {package.name}, trained on events before 2026-01-07T00:00:00+00:00"
    unread = " (the new raw files are not read yet)"
    assert said[4] == f"users: {USERS + 3}; items that may be shown: 32; pairs: {43 * 32:,}{unread}"
    assert said[5] == f"touched users: 0{unread}"
    assert [line.split(":")[0] for line in said[6:]] == [
        "stage ingest_events", "stage build_histories", "stage evaluate_lists", "stage embed_users",
        "stage weigh_candidates", "stage score_candidates", "stage publish", "time",
    ]  # fmt: skip
    assert all("; about " in line for line in said[6:-1])
    assert said[-1].startswith("time: about ")
    again = plan(first_night, caplog, "--retrain")
    assert again[3] == f"model: one would be trained, in place of {package.name}"
    last = plan(first_night, caplog, "--date", "2026-01-06")
    assert last == ["nothing to do: 2026-01-06 is published from the same inputs"]
    assert main(["plan", "--config", str(first_night), "--date", "2026-01-05"]) == EXIT_INPUT
    assert "expected 2026-01-06 (served) or later" in capsys.readouterr().err


def test_of_the_first_night_it_says_what_is_not_known_and_makes_no_lake(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", "lime")
    said = plan(write_platform(tmp_path / "platform"), caplog)
    assert said[1].startswith("raw files: events 6 new (")
    assert said[2].startswith("table versions: none; not made yet: events, ")
    assert said[3] == "model: one would be trained"
    assert said[4] == "users, items, pairs: unknown until the raw files are read"
    assert said[-1] == "time: unknown"
