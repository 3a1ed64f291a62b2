"""Which raw files a source is made of tonight, and what it means that one of them cannot be read."""

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, date, datetime
from itertools import groupby
from typing import Any
from urllib.parse import unquote

from py4j.protocol import Py4JJavaError
from pyspark.errors import PySparkException
from pyspark.sql import Row, SparkSession
from pyspark.sql import functions as F

from jobs.config import EventSource, ItemSource, UserSource
from jobs.stage import RawFile
from schemas.errors import InputError

Source = EventSource | ItemSource | UserSource

DIGEST_LIMIT = 2_000_000_000  # bytes; Spark cannot hold a longer file as one value
_VERSION = "version:"  # what begins the digest of a Delta source's version
_DATE = r"(\d{4}-\d{2}-\d{2})"


def list_files(spark: SparkSession, name: str, source: Source, until: date) -> list[RawFile]:
    """The files that are the source as of `until`, without digests; raises InputError where nothing matches.

    `{date}` in the path keeps files of dates up to and with `until`; of a complete snapshot, which replaces the
    one before it, those of the newest date. A Delta source is one "file", `PATH@VERSION`. Collects one row a file.
    """
    path = source.path
    with reading(name, path):
        files = [_delta_version(spark, name, path)] if source.format == "delta" else _glob(spark, name, path)
    if "{date}" in path:
        dated = [(_date_of(f.name, path), f) for f in files]
        found = {day for day, _ in dated if day and day <= until}
        wanted = {max(found)} if found and is_snapshot(source) else found
        files = [f for day, f in dated if day in wanted]
    if not files:
        raise InputError(f"source {name}: {path}: expected files up to {until}, found none")
    return sorted(files, key=lambda f: f.name)


def is_snapshot(source: Source) -> bool:
    """Whether the source's files together are the whole truth: what they do not mention is gone."""
    return not isinstance(source, EventSource) and source.complete


def in_order(source: Source, files: Sequence[RawFile]) -> list[list[RawFile]]:
    """The files in parts to be taken one after the other: those of one `{date}` together, oldest first."""
    days = {f.name: _date_of(f.name, source.path) if "{date}" in source.path else None for f in files}
    by_day = sorted(files, key=lambda f: (days[f.name] or date.min, f.name))
    return [list(part) for _, part in groupby(by_day, key=lambda f: days[f.name])]


def with_digests(spark: SparkSession, name: str, files: Sequence[RawFile]) -> list[RawFile]:
    """The files with the sha256 of their bytes; one too large for one value is named by size and time."""
    small = [f.name for f in files if not f.digest and f.bytes < DIGEST_LIMIT]
    digests = {f.name: f.digest for f in files if f.digest}
    if small:
        with reading(name, small[0] if len(small) == 1 else f"{len(small)} files"):
            content = spark.read.format("binaryFile").load(small)
            rows = content.select("path", F.sha2("content", 256).alias("digest")).collect()
        digests |= {row["path"]: row["digest"] for row in rows}
    return [
        replace(f, digest=digests.get(f.name, f"size-and-time:{f.bytes}:{f.modified_at.isoformat()}"))
        for f in files
    ]


def require_unchanged(spark: SparkSession, name: str, files: Sequence[RawFile]) -> None:
    """Raise InputError naming the first of the files that is not there, or not with the digest that it had."""
    present = [f for planned in files if (f := _as_it_stands(spark, name, planned)) is not None]
    found = {f.name: f.digest for f in with_digests(spark, name, present)}
    for f in files:
        if found.get(f.name) != f.digest:
            raise InputError(
                f"source {name}: {f.name}: expected the file with digest {f.digest}, found "
                + (f"digest {found[f.name]}" if f.name in found else "none")
            )


def _as_it_stands(spark: SparkSession, name: str, planned: RawFile) -> RawFile | None:
    """A planned file as it is now, its digest still to be made; None where there is none.

    A Delta table that was made again has other times at its versions: what was planned is gone.
    """
    with reading(name, planned.name):
        if planned.digest.startswith(_VERSION):
            path, version = planned.name.rsplit("@", 1)
            rows = spark.sql(f"DESCRIBE HISTORY delta.`{path}`").where(F.col("version") == int(version)).collect()
            found = [_delta_file(name, path, row) for row in rows]
            return next((f for f in found if f.modified_at == planned.modified_at), None)
        path = spark._jvm.org.apache.hadoop.fs.Path(planned.name)  # type: ignore[union-attr]
        system = path.getFileSystem(spark._jsc.hadoopConfiguration())
        return _plain_file(name, system.getFileStatus(path)) if system.exists(path) else None


@contextmanager
def reading(name: str, path: str) -> Iterator[None]:
    """Code that does nothing but read a source: whatever Spark or Hadoop says of it is an InputError."""
    try:
        yield
    except (Py4JJavaError, PySparkException) as error:
        raise _unreadable(name, _failed_file(error) or path, error) from error


@contextmanager
def scanning(name: str, files: Sequence[RawFile]) -> Iterator[None]:
    """Code that also does other work: an error is the source's only where it names one of the source's files."""
    try:
        yield
    except (Py4JJavaError, PySparkException) as error:
        failed = _failed_file(error)
        # a Delta source is `PATH@VERSION`, and the file that failed lies below the path
        paths = [_plain(re.sub(r"@\d+$", "", f.name)) for f in files]
        if failed is None or not _plain(failed).startswith(tuple(paths)):
            raise
        raise _unreadable(name, failed, error) from error


def _unreadable(name: str, path: str, error: Py4JJavaError | PySparkException) -> InputError:
    """One sentence of a page of Java: the innermost cause says what was found."""
    cause: Any = getattr(error, "java_exception", None)
    while cause is not None and cause.getCause() is not None:
        cause = cause.getCause()
    said = str(error) if cause is None else cause.getMessage() or cause.toString()
    return InputError(f"source {name}: {path}: expected to read it, found: {said.strip().splitlines()[0]}")


def _failed_file(error: Exception) -> str | None:
    """The file that Spark could not read, if the error is about one."""
    found = re.search(r"\[FAILED_READ_FILE\.\w+\] Encountered error while reading file (.+?)\.\s", str(error))
    return unquote(found.group(1)) if found else None


def _plain(path: str) -> str:
    """A path without scheme, for Spark writes `file:/a`, `file:///a` and `/a`."""
    return re.sub(r"^\w+:/+", "/", path)


def _glob(spark: SparkSession, name: str, path: str) -> list[RawFile]:
    """Files that match; a folder stands for the files in it. Asks the file system once a folder, not Spark."""
    jvm, conf = spark._jvm, spark._jsc.hadoopConfiguration()
    pattern = jvm.org.apache.hadoop.fs.Path(path.replace("{date}", "*"))  # type: ignore[union-attr]
    system = pattern.getFileSystem(conf)
    found = list(system.globStatus(pattern) or [])
    found = [f for s in found for f in (system.listStatus(s.getPath()) if s.isDirectory() else [s])]
    files = (f for f in found if f.isFile() and not f.getPath().getName().startswith(("_", ".")))
    return [_plain_file(name, f) for f in files]


def _plain_file(name: str, status: Any) -> RawFile:  # noqa: ANN401 - a Java object
    modified_at = datetime.fromtimestamp(status.getModificationTime() / 1e3, UTC)
    return RawFile(name, status.getPath().toString(), status.getLen(), modified_at, "")


def _date_of(name: str, path: str) -> date | None:
    """The date that stands for `{date}` in a file that `path` matched, itself or by its folder; None: no date."""
    for pattern in (path.rstrip("/"), path.rstrip("/") + "/*"):
        # from the end, for the file's name is absolute and the pattern need not be
        pairs = zip(reversed(name.split("/")), reversed(pattern.split("/")), strict=False)
        matches = [re.fullmatch(_as_regex(part), segment) for segment, part in pairs if "{date}" in part]
        found = {day for match in matches for day in (match.groups() if match else ("",))}
        if len(found) == 1 and (day := found.pop()):
            try:
                return date.fromisoformat(day)
            except ValueError:  # digits that are no day of any calendar
                return None
    return None


def _as_regex(part: str) -> str:
    """One segment of a glob."""
    escaped = re.escape(part).replace(re.escape("{date}"), _DATE)
    return escaped.replace(r"\*", ".*").replace(r"\?", ".")


def _delta_version(spark: SparkSession, name: str, path: str) -> RawFile:
    """The newest version of a Delta source."""
    row = spark.sql(f"DESCRIBE HISTORY delta.`{path}` LIMIT 1").first()
    if row is None:
        raise InputError(f"source {name}: {path}: expected a Delta table with a commit, found none")
    return _delta_file(name, path, row)


def _delta_file(name: str, path: str, row: Row) -> RawFile:
    """A row of a Delta source's history as the one "file" that the version is."""
    version = row["version"]
    return RawFile(name, f"{path}@{version}", 0, row["timestamp"].astimezone(UTC), f"{_VERSION}{version}")
