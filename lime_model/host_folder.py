"""Folders of this user on this host, for what all its processes share: candidates to map, a kernel to run."""

import os
import stat
import tempfile
from pathlib import Path

from schemas.errors import ConfigError


def private_folder(name: str) -> Path:
    """`lime-<uid>/<name>` in the host's temporary folder, made if need be.

    Raises ConfigError unless both levels are this user's alone: anybody may have made a folder of that name there.
    """
    home = Path(tempfile.gettempdir()) / f"lime-{os.geteuid()}"
    for level in (home, home / name):
        _require_private(level)
    return home / name


def _require_private(folder: Path) -> None:
    """Make the folder if need be; ConfigError where others may read or write it."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    found = folder.lstat()
    mode = stat.S_IMODE(found.st_mode)
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.geteuid() or mode & 0o077:
        raise ConfigError(
            f"host cache {folder}: expected a folder of user {os.geteuid()} with mode 700, "
            f"found owner {found.st_uid} and mode {mode:o}"
        )
