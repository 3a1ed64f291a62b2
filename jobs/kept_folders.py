"""Folders of plain files beside the tables, on whatever file system the lake is: published whole, or not there.

A folder is named by the digest of what it is made from, and ends with marks: empty files that say which inputs
lead to it. A mark is made after everything else, so a folder without one is not finished where a rename is not
atomic (object stores); and the newest mark tells when a folder was last of use.
"""

import shutil
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory, mkdtemp
from typing import Any
from uuid import uuid4

from pyspark.sql import SparkSession

KEPT = 2
_WORK = ".packing-"
_MARK = "from-"
_ABANDONED_MS = 24 * 3600 * 1000  # a folder in the making that is older has no maker any more


@dataclass(frozen=True)
class KeptFolder:
    """One published folder: its files (not the marks) with their sizes, its marks with their times in ms."""

    name: str
    files: Mapping[str, int]
    marks: Mapping[str, int]

    @property
    def last_used(self) -> int:
        return max(self.marks.values(), default=0)


class KeptFolders:
    """The folders below one root."""

    def __init__(self, spark: SparkSession, root: str) -> None:
        self._hadoop: Any = spark._jvm.org.apache.hadoop.fs  # type: ignore[union-attr]
        path = self._hadoop.Path(root)
        self._system = path.getFileSystem(spark._jsc.hadoopConfiguration())
        self._root = self._system.makeQualified(path)

    def folders(self) -> list[KeptFolder]:
        """What was published, last used first."""
        found = [_folder(name, self._list(name)) for name in self._list("") if not name.startswith(".")]
        return sorted(found, key=lambda folder: (folder.last_used, folder.name), reverse=True)

    def uri(self, folder: str, file: str) -> str:
        """What Spark can fetch the file by."""
        return str(self._path(folder, file).toUri().toString())

    @contextmanager
    def work_folder(self) -> Iterator[Path]:
        """A local folder to fill and publish: beside its place where that is local, so that it is renamed."""
        local = self._local()
        folder = Path(mkdtemp(prefix="lime-packing-")) if local is None else local / f"{_WORK}{uuid4().hex}"
        folder.mkdir(parents=True, exist_ok=True)
        try:
            yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)

    def publish(self, work: Path, name: str, mark: str) -> None:
        """Give a filled folder its name. Whoever comes second with the same content leaves the first one's."""
        local = self._local()
        if local is None:
            self._upload(work, name)
        else:
            try:
                work.rename(local / name)
            except OSError:
                if not (local / name).is_dir():
                    raise
        self.mark(name, mark)

    def mark(self, name: str, mark: str) -> None:
        """Say that these inputs lead to the folder, and that it is of use now."""
        self._system.create(self._path(name, f"{_MARK}{mark}"), True).close()

    def remove_older(self, needed: set[str]) -> None:
        """Keep the two last used and those that are `needed`; sweep up what was never finished."""
        kept = {folder.name for folder in self.folders()[:KEPT]} | needed
        now = time.time() * 1000
        for name, status in self._list("").items():
            work = name.startswith(_WORK)
            if now - status.getModificationTime() > _ABANDONED_MS if work else name not in kept:
                self._system.delete(self._path(name), True)

    def _upload(self, work: Path, name: str) -> None:
        """Copy under a temporary name, then rename, which is atomic on HDFS; see the module for object stores."""
        partial, published = self._path(f"{_WORK}{uuid4().hex}"), self._path(name)
        self._system.copyFromLocalFile(False, True, self._hadoop.Path(f"file:{work}"), partial)
        if self._system.exists(published) and not _folder(name, self._list(name)).marks:
            self._system.delete(published, True)
        if self._system.exists(published) or not self._system.rename(partial, published):
            self._system.delete(partial, True)

    def _list(self, name: str) -> dict[str, Any]:
        """Entries of a folder by name; empty where there is none."""
        path = self._path(name) if name else self._root
        if not self._system.exists(path):
            return {}
        return {str(found.getPath().getName()): found for found in self._system.listStatus(path)}

    def _path(self, *parts: str) -> Any:  # noqa: ANN401 - a Java object
        path = self._root
        for part in parts:
            path = self._hadoop.Path(path, part)
        return path

    def _local(self) -> Path | None:
        return _local_path(self._root)


def local_files(spark: SparkSession, folder: str, pattern: str) -> Iterator[Path]:
    """A folder's files in order of name, each local while it is looked at: copied one at a time if it is not."""
    hadoop: Any = spark._jvm.org.apache.hadoop.fs  # type: ignore[union-attr]
    path = hadoop.Path(folder, pattern)
    system = path.getFileSystem(spark._jsc.hadoopConfiguration())
    for found in sorted((status.getPath() for status in system.globStatus(path) or []), key=lambda p: p.getName()):
        local = _local_path(system.makeQualified(found))
        if local is not None:
            yield local
            continue
        with TemporaryDirectory(prefix="lime-staged-") as copies:
            copy = Path(copies) / found.getName()
            system.copyToLocalFile(False, found, hadoop.Path(f"file:{copy}"), True)
            yield copy


def _local_path(path: Any) -> Path | None:  # noqa: ANN401 - a Java object
    """A qualified Hadoop path as a path of this host, or None where it is elsewhere."""
    uri = path.toUri()
    return Path(uri.getPath()) if uri.getScheme() == "file" else None


def _folder(name: str, entries: Mapping[str, Any]) -> KeptFolder:
    marks = {n: int(status.getModificationTime()) for n, status in entries.items() if n.startswith(_MARK)}
    files = {n: int(status.getLen()) for n, status in entries.items() if not n.startswith((_MARK, "."))}
    return KeptFolder(name, files, {n.removeprefix(_MARK): at for n, at in marks.items()})
