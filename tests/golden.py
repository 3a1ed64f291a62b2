"""Texts that a reviewer reads as a diff: compared with a file, which is written only under REBUILD_FIXTURES=yes."""

import os
from pathlib import Path


def assert_golden(file: Path, text: str) -> None:
    """Fail unless the file holds the text."""
    if os.environ.get("REBUILD_FIXTURES") == "yes":
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
    assert file.is_file(), f"{file.name}: expected a golden file, found none; REBUILD_FIXTURES=yes writes it"
    assert file.read_text() == text
