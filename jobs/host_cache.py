"""Files that all Python workers of a host share: one copy each, published once, then only mapped.

Spark puts what it ships into a folder of every executor; workers that mapped those would hold a copy each. A
shipped file whose name ends in the digest of its bytes (`weights-<32 hex digits>.lime`) is linked, or copied,
into one folder of the user on this host. Publishing holds a lock, so that workers that start together make one
copy, and what a killed worker left under a temporary name is known to be nobody's. A file gets its own name
only after its bytes were found to have the digest in it.
"""

import fcntl
import hashlib
import os
import re
import shutil
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from lime_model.host_folder import private_folder
from schemas.errors import ModelArtifactError

KEPT = 2  # files of one kind: tonight's and the last one's
_NAME = re.compile(r"([a-z_]+)-([0-9a-f]{32})\.[a-z]+")
_PARTIAL = ".partial-"


def digest_of(file: Path) -> str:
    """The first half of the sha256 of a file's bytes: what its name ends in."""
    with file.open("rb") as content:
        return hashlib.file_digest(content, "sha256").hexdigest()[:32]


def host_file(source: Path) -> Path:
    """The host's own copy of a shipped file, published if it is not there.

    Raises ModelArtifactError where the source's bytes are not what its name says, ConfigError where the folder
    is not this user's alone. A file that is there costs a few calls of the file system.
    """
    kind, digest = _kind_and_digest(source)
    home = private_folder("candidates")
    published, size = home / source.name, source.stat().st_size
    if not _is_there(published, size):
        with _locked(home):
            if not _is_there(published, size):
                _publish(source, published, digest)
            _remove_older(home, kind, published)
    with suppress(FileNotFoundError):
        os.utime(published)  # what is in use is newest
    return published


def _publish(source: Path, published: Path, digest: str) -> None:
    """Link or copy under a temporary name, check, then take the name. The lock is held."""
    for orphan in published.parent.glob(f"{_PARTIAL}*"):
        orphan.unlink()
    partial = published.with_name(f"{_PARTIAL}{published.name}")
    try:
        partial.hardlink_to(source.resolve())
    except OSError:  # another file system, or one without links
        shutil.copyfile(source, partial)
    found = digest_of(partial)
    if found != digest:
        partial.unlink()
        raise ModelArtifactError(f"{source}: expected content of digest {digest}, found {found}")
    with partial.open("rb") as content:
        os.fsync(content)  # a name that survives a crash of the host must not outlive its bytes
    partial.replace(published)


def _is_there(published: Path, size: int) -> bool:
    """Whether the host has the file whole."""
    try:
        found = published.lstat()
    except FileNotFoundError:
        return False
    return stat.S_ISREG(found.st_mode) and found.st_size == size


def _remove_older(home: Path, kind: str, newest: Path) -> None:
    """Keep the files of a kind that were used last; whoever has mapped another goes on with it."""
    files = [file for file in home.iterdir() if (m := _NAME.fullmatch(file.name)) and m[1] == kind]
    files.sort(key=lambda file: (file == newest, file.lstat().st_mtime_ns), reverse=True)
    for file in files[KEPT:]:
        with suppress(FileNotFoundError):
            file.unlink()


@contextmanager
def _locked(home: Path) -> Iterator[None]:
    """One publisher at a time; the lock of a process that dies goes with it."""
    with (home / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _kind_and_digest(source: Path) -> tuple[str, str]:
    match = _NAME.fullmatch(source.name)
    if match is None:
        raise ModelArtifactError(f"{source}: expected a name that ends in its digest, found {source.name}")
    return match[1], match[2]
