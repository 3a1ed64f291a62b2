"""The lock of a root that is a folder: the operating system's, on `_lock` in it, gone with the process that held it.

The file's text is its holder's tenure; it stays when the lock is dropped, for the next token. On a shared mount the
server must know of the lock (NFS does, unless mounted with local_lock).
"""

import fcntl
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from jobs.tenure import Tenure, is_held, is_superseded, tenure_after


@dataclass
class FileLock:
    """A held lock; `tenure` is what the file says."""

    file: Path
    descriptor: int
    tenure: Tenure

    def note(self, heads: Mapping[str, int]) -> None:
        """Write down the version of every table."""
        self.tenure = self.tenure.noted(heads)
        self._write()

    def check(self) -> None:
        """Raise RetryableError where the file or its token is not this holder's any more."""
        if not _is_file_of(self.descriptor, self.file):
            raise is_superseded(str(self.file.parent), self.tenure, f"no {self.file.name} of it")
        newest = _read(self.descriptor)
        if newest != self.tenure:
            raise is_superseded(str(self.file.parent), self.tenure, newest)

    def release(self) -> None:
        """Drop the lock."""
        os.close(self.descriptor)

    def _write(self) -> None:
        """The new text first, then its end: a holder killed in between leaves a readable one."""
        text = self.tenure.to_json().encode() + b"\n"
        os.pwrite(self.descriptor, text, 0)
        os.ftruncate(self.descriptor, len(text))


def take_file(root: str, command: str) -> FileLock:
    """Take the lock of a folder; raises RetryableError that names the holder where there is one."""
    folder = Path(root)
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / "_lock"
    while True:
        descriptor = os.open(file, os.O_RDWR | os.O_CREAT, 0o644)  # not passed on to a process that is started
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            holder = _read(descriptor)
            os.close(descriptor)
            raise is_held(root, holder) from error
        if _is_file_of(descriptor, file):
            break
        os.close(descriptor)  # it was removed after it was opened
    lock = FileLock(file, descriptor, tenure_after(_read(descriptor), command))
    lock._write()
    return lock


def _read(descriptor: int) -> Tenure | None:
    """The text's tenure; None where nothing whole was ever written (a new file, a crash of the machine)."""
    text = os.pread(descriptor, os.fstat(descriptor).st_size, 0).decode(errors="replace")
    try:
        described, _ = json.JSONDecoder().raw_decode(text)
    except json.JSONDecodeError:
        return None
    return Tenure(**described)


def _is_file_of(descriptor: int, file: Path) -> bool:
    """Whether a name still is the file that was opened."""
    try:
        return os.path.samestat(os.fstat(descriptor), file.stat())
    except FileNotFoundError:
        return False
