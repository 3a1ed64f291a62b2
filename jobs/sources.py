"""Raw sources, whatever their format, as one shape: a verbatim record with its fields as strings.

A frame of raw records has the columns `record` (verbatim), `source_file`, `sequence` (line or row number in
that file, from 1) and `fields` (map of source column to string; null where the record could not be split).
Line formats hold one record a line; a quoted line break is not supported.
"""

import csv
from collections import Counter
from collections.abc import Collection, Sequence

from pyspark.sql import Column, DataFrame, SparkSession
from pyspark.sql import functions as F
from pyspark.sql.types import ArrayType, MapType, StructType

from jobs.config import ItemSource, UserSource
from jobs.raw_files import Source, reading
from jobs.stage import RawFile
from schemas.errors import InputError

DELIMITERS = {"csv": ",", "tsv": "\t"}
CORRUPT = "_corrupt"


def read_records(spark: SparkSession, name: str, source: Source, raw_files: Sequence[RawFile]) -> DataFrame:
    """Raw records of the files of the source `name`.

    Raises InputError where the files cannot be read, or where none of them has a column that the mapping names: a
    misspelt optional column would be null in every row. JSON lines have no header, and a key may be rare: not checked.
    """
    files = [f.name for f in raw_files]
    with reading(name, source.path):
        if source.format in ("parquet", "delta"):
            rows = _open_columnar(spark, source.format, files)
            _check_columns(name, source, rows.columns)
            return _typed_records(rows, source.format)
        lines = _numbered_lines(spark.read.text(files))
        if source.format == "jsonl":
            fields = F.from_json("record", "map<string,string>")
            # a map parsed from a broken line is null or empty; an empty line is no record
            return lines.where(F.trim("record") != "").withColumn("fields", F.when(F.size(fields) > 0, fields))
        headers = _headers(name, files[0], lines, DELIMITERS[source.format])
    _check_columns(name, source, {column for header in headers for column in header})
    return _delimited_records(lines, headers, DELIMITERS[source.format])


def mapped_columns(source: Source) -> set[str]:
    """Every column of the source that its mapping names."""
    columns = set(source.columns.values())
    if isinstance(source, ItemSource):
        columns |= {feature.column for feature in {**source.features, **source.attributes}.values()}
    if isinstance(source, UserSource):
        columns |= set(source.attributes.values())
    return columns


def _check_columns(name: str, source: Source, found: Collection[str]) -> None:
    missing = sorted(mapped_columns(source) - set(found))
    if missing:
        raise InputError(f"source {name}: {source.path}: expected columns {missing}, found only {sorted(found)}")


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


Header = tuple[str, ...]


def _headers(name: str, where: str, lines: DataFrame, delimiter: str) -> dict[Header, list[str]]:
    """Which files have which header; `where` stands for them all. Collects one row a header."""
    first = lines.where("sequence = 1").groupBy("record").agg(F.collect_list("source_file").alias("files"))
    headers: dict[Header, list[str]] = {}
    for row in first.collect():
        header = tuple(next(csv.reader([row["record"].lstrip("\ufeff")], delimiter=delimiter), ()))
        twice = [column for column, count in Counter(header).items() if count > 1]
        if twice:
            file = row["files"][0]
            raise InputError(f"source {name}: {file}: expected a header of different names, found {twice} twice")
        headers[header] = headers.get(header, []) + row["files"]
    if not headers:
        raise InputError(f"source {name}: {where}: expected a header line, found only empty files")
    return headers


def _delimited_records(lines: DataFrame, headers: dict[Header, list[str]], delimiter: str) -> DataFrame:
    """Lines of files with a header each; files may differ in their columns."""
    body = lines.where((F.col("sequence") > 1) & (F.trim("record") != ""))
    frames = [
        body.where(F.col("source_file").isin(files)).withColumn("fields", _split(header, delimiter))
        for header, files in headers.items()
    ]
    records = frames[0]
    for frame in frames[1:]:
        records = records.unionByName(frame)
    return records


def _split(header: Header, delimiter: str) -> Column:
    """A line as a map by its file's header; null where the number of values or the quoting is wrong."""
    values = [f"c{i}" for i in range(len(header))]  # whatever the header's names contain
    schema = ", ".join(f"{value} string" for value in [*values, CORRUPT])
    options = {"sep": delimiter, "mode": "PERMISSIVE", "columnNameOfCorruptRecord": CORRUPT}
    parsed = F.from_csv(F.col("record"), schema, options)
    as_map = F.map_from_arrays(
        F.array(*[F.lit(column) for column in header]), F.array(*[parsed.getField(value) for value in values])
    )
    return F.when(parsed.getField(CORRUPT).isNull(), as_map)


def _open_columnar(spark: SparkSession, format_: str, files: Sequence[str]) -> DataFrame:
    if format_ == "parquet":
        return spark.read.parquet(*files)
    path, version = files[0].rsplit("@", 1)
    return spark.read.format("delta").option("versionAsOf", version).load(path)


def _typed_records(rows: DataFrame, format_: str) -> DataFrame:
    """Rows of columnar files; the verbatim record is the row as JSON."""
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
