"""What a package says of where it comes from."""

import re
from pathlib import Path

import pytest

from jobs import train_model


def test_the_commit_is_that_of_the_clone() -> None:
    assert re.fullmatch("[0-9a-f]{40}|unknown", train_model._git_commit())


def test_code_that_was_imported_from_a_zip_has_no_commit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "lime.zip").touch()
    monkeypatch.setattr(train_model, "__file__", str(tmp_path / "lime.zip" / "jobs" / "train_model.py"))
    assert train_model._git_commit() == "unknown"
