"""Raw sources, whatever their format, as one shape: a verbatim record with its fields as strings.

A frame of raw records has the columns `record` (verbatim), `source_file`, `sequence` (line or row number in
that file, from 1) and `fields` (map of source column to string; null where the record could not be split).
Line formats hold one record a line; a quoted line break is not supported.
"""

import csv
import re
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, date, datetime
from typing import Protocol

from pyspark.errors import AnalysisException
from pyspark.sql import Column, DataFrame, SparkSession
from pyspark.sql import functions as F
from pyspark.sql.types import ArrayType, MapType, StructType

from jobs.stage import RawFile
from schemas.errors import InputError

DELIMITERS = {"csv": ",", "tsv": "\t"}
CORRUPT = "_corrupt"
DIGEST_LIMIT = 2_000_000_000  # bytes; Spark cannot hold a longer file as one value
_DATE = r"(\d{4}-\d{2}-\d{2})"


class Source(Protocol):
    """What the three sources of a configuration have in common."""

    @property
    def format(self) -> str: ...

    @property
    def path(self) -> str: ...


def list_files(spark: SparkSession, name: str, source: Source, until: date) -> list[RawFile]:
    """A source's files, without digests; `{date}` in its path keeps those named up to and with `until`.

    A Delta source is one "file", `PATH@VERSION`. Raises InputError where nothing matches. Collects one row
    per file.
    """
    path = source.path
    if source.format == "delta":
        return [_delta_version(spark, name, path)]
    files = _glob(spark, name, path.replace("{date}", "*"))
    if "{date}" in path:
        pattern = re.compile(re.escape(path.rsplit("/", 1)[-1]).replace(re.escape("{date}"), _DATE) + "$")
        dated = ((pattern.search(f.name), f) for f in files)
        files = [f for match, f in dated if match and date.fromisoformat(match.group(1)) <= until]
    if not files:
        raise InputError(f"source {path}: expected files up to {until}, found none")
    return sorted(files, key=lambda f: f.name)


def _glob(spark: SparkSession, name: str, glob: str) -> list[RawFile]:
    """Files that match; a folder stands for the files in it. Asks the file system once a folder, not Spark."""
    jvm, conf = spark._jvm, spark._jsc.hadoopConfiguration()
    pattern = jvm.org.apache.hadoop.fs.Path(glob)  # type: ignore[union-attr]
    system = pattern.getFileSystem(conf)
    found = list(system.globStatus(pattern) or [])
    found = [f for s in found for f in (system.listStatus(s.getPath()) if s.isDirectory() else [s])]
    files = (f for f in found if f.isFile() and not f.getPath().getName().startswith(("_", ".")))
    return [
        RawFile(
            name,
            f.getPath().toString(),
            f.getLen(),
            datetime.fromtimestamp(f.getModificationTime() / 1e3, UTC),
            "",
        )
        for f in files
    ]


def _delta_version(spark: SparkSession, name: str, path: str) -> RawFile:
    """The newest version of a Delta source."""
    try:
        row = spark.sql(f"DESCRIBE HISTORY delta.`{path}` LIMIT 1").select("version", "timestamp").first()
    except AnalysisException as error:
        raise InputError(f"source {path}: expected a Delta table, found none") from error
    if row is None:
        raise InputError(f"source {path}: expected a Delta table with a commit, found none")
    return RawFile(
        name, f"{path}@{row['version']}", 0, row["timestamp"].astimezone(UTC), f"version:{row['version']}"
    )


def with_digests(spark: SparkSession, files: Sequence[RawFile]) -> list[RawFile]:
    """The files with the sha256 of their bytes; one too large for one value is named by size and time."""
    small = [f.name for f in files if not f.digest and f.bytes < DIGEST_LIMIT]
    digests = {f.name: f.digest for f in files if f.digest}
    if small:
        content = spark.read.format("binaryFile").load(small)
        rows = content.select("path", F.sha2("content", 256).alias("digest")).collect()
        digests |= {row["path"]: row["digest"] for row in rows}
    return [
        replace(f, digest=digests.get(f.name, f"size-and-time:{f.bytes}:{f.modified_at.isoformat()}"))
        for f in files
    ]


def read_records(spark: SparkSession, format_: str, raw_files: Sequence[RawFile]) -> DataFrame:
    """Raw records of the files; raises InputError where no file has a header to read the rest by."""
    files = [f.name for f in raw_files]
    if format_ in ("parquet", "delta"):
        return _typed_records(spark, format_, files)
    lines = _numbered_lines(spark.read.text(list(files)))
    if format_ == "jsonl":
        fields = F.from_json("record", "map<string,string>")
        # a map parsed from a broken line is null or empty; an empty line is no record
        return lines.where(F.trim("record") != "").withColumn("fields", F.when(F.size(fields) > 0, fields))
    return _delimited_records(lines, DELIMITERS[format_])


def _numbered_lines(lines: DataFrame) -> DataFrame:
    """Lines of text files with their exact line numbers, however the files were split.

    Ids rise by one within a block (one split of one file), so a line's number is its place in the block plus
    the lines of the blocks before it. Grain kept; the frame of blocks is small.
    """
    tagged = lines.select(
        F.col("value").alias("record"),
        F.col("_metadata.file_path").alias("source_file"),
        F.col("_metadata.file_block_start").alias("block"),
        F.monotonically_increasing_id().alias("id"),
    )
    blocks = tagged.groupBy("source_file", "block").agg(
        F.min("id").alias("first"), F.count("*").alias("lines")
    )
    before = F.coalesce(
        F.expr("sum(lines) OVER (PARTITION BY source_file ORDER BY block ROWS UNBOUNDED PRECEDING)")
        - F.col("lines"),
        F.lit(0),
    )
    offsets = blocks.select("source_file", "block", (before - F.col("first") + 1).alias("offset"))
    # `offsets` is unique by (source_file, block)
    numbered = tagged.join(F.broadcast(offsets), on=["source_file", "block"], how="inner")
    return numbered.select("record", "source_file", (F.col("id") + F.col("offset")).alias("sequence"))


def _delimited_records(lines: DataFrame, delimiter: str) -> DataFrame:
    """Lines of files with a header each; files may differ in their columns. Collects one row per header."""
    headers = (
        lines.where("sequence = 1")
        .groupBy("record")
        .agg(F.collect_list("source_file").alias("files"))
        .collect()
    )
    if not headers:
        raise InputError("source: expected a header line, found only empty files")
    body = lines.where((F.col("sequence") > 1) & (F.trim("record") != ""))
    frames = [
        body.where(F.col("source_file").isin(row["files"])).withColumn(
            "fields", _split(row["record"], delimiter)
        )
        for row in headers
    ]
    records = frames[0]
    for frame in frames[1:]:
        records = records.unionByName(frame)
    return records


def _split(header: str, delimiter: str) -> Column:
    """A line as a map by its file's header; null where the number of values or the quoting is wrong."""
    names = next(csv.reader([header.lstrip("\ufeff")], delimiter=delimiter))
    values = [f"c{i}" for i in range(len(names))]  # whatever the header's names contain
    schema = ", ".join(f"{value} string" for value in [*values, CORRUPT])
    options = {"sep": delimiter, "mode": "PERMISSIVE", "columnNameOfCorruptRecord": CORRUPT}
    parsed = F.from_csv(F.col("record"), schema, options)
    as_map = F.map_from_arrays(
        F.array(*[F.lit(name) for name in names]), F.array(*[parsed.getField(value) for value in values])
    )
    return F.when(parsed.getField(CORRUPT).isNull(), as_map)


def _typed_records(spark: SparkSession, format_: str, files: Sequence[str]) -> DataFrame:
    """Rows of columnar files; the verbatim record is the row as JSON."""
    if format_ == "delta":
        path, version = files[0].rsplit("@", 1)
        rows = spark.read.format("delta").option("versionAsOf", version).load(path)
    else:
        rows = spark.read.parquet(*files)
    # Delta does not tell a row's place in its file: a Delta source without an order of its own is ordered as read.
    number = F.monotonically_increasing_id() + 1 if format_ == "delta" else F.col("_metadata.row_index") + 1
    names = rows.columns
    simple = {
        f.name: not isinstance(f.dataType, ArrayType | MapType | StructType) for f in rows.schema.fields
    }
    values = [F.col(f"`{n}`").cast("string") if simple[n] else F.to_json(f"`{n}`") for n in names]
    return rows.select(
        F.to_json(F.struct(*[f"`{n}`" for n in names])).alias("record"),
        F.col("_metadata.file_path").alias("source_file"),
        number.alias("sequence"),
        F.map_from_arrays(F.array(*[F.lit(n) for n in names]), F.array(*values)).alias("fields"),
    )
