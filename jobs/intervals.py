"""Validity intervals: a snapshot of a catalogue or user list folded into the intervals kept so far."""

from datetime import datetime

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from jobs.changes import holds_until
from jobs.stage import timestamp
from schemas.digest import row_digest

BEGINNING = "1970-01-01T00:00:00Z"
"""Where the first interval of everything opens; no event is older."""

UNCHANGED, CHANGED, NEW, GONE = "unchanged", "changed", "new", "gone"


def as_of(intervals: DataFrame, moment: datetime) -> DataFrame:
    """The interval of each key that holds the last instant before `moment`: at most one row a key."""
    start, end = F.col("valid_from"), F.col("valid_to")
    return intervals.where(holds_until(start, end, end.isNull(), timestamp(moment)))


def compare_snapshot(
    current: DataFrame, snapshot: DataFrame, key: str, complete: bool, held: DataFrame | None = None
) -> DataFrame:
    """Open intervals beside the snapshot, with `status`: one row a key that either side has.

    `snapshot` is unique by `key`; its columns other than the key are the content. What an incomplete snapshot
    does not mention stays as it is, and so do the keys of `held` (one column, unique) that it does not mention:
    the source names them, but nothing usable.
    """
    content = [c for c in snapshot.columns if c != key]
    open_ = current.where(F.col("valid_to").isNull()).select(key, F.struct("*").alias("old"))
    there = snapshot.select(key, F.struct(*content).alias("now"))
    joined = open_.join(there, on=[key], how="full_outer")  # both sides are unique by key
    closed = (
        current.where(F.col("valid_to").isNotNull()).select(key).distinct().withColumn("closed", F.lit(True))
    )
    gone = F.lit(complete)
    if held is not None:
        joined = joined.join(held.withColumn("held", F.lit(True)), on=[key], how="left")  # `held` is unique by key
        gone &= F.col("held").isNull()
    known = joined.join(closed, on=[key], how="left")
    same = row_digest(*[F.col(f"old.{c}").alias(c) for c in content]) == row_digest(
        *[F.col(f"now.{c}").alias(c) for c in content]
    )
    status = (
        F.when(F.col("now").isNull(), F.when(gone, F.lit(GONE)).otherwise(F.lit(UNCHANGED)))
        .when(F.col("old").isNull(), F.lit(NEW))
        .when(same, F.lit(UNCHANGED))
        .otherwise(F.lit(CHANGED))
    )
    return known.withColumn("status", status).drop("held")


def merge_snapshot(current: DataFrame, compared: DataFrame, key: str, at: datetime, run_id: str) -> DataFrame:
    """All intervals after the snapshot of `compare_snapshot` took effect at `at`.

    A change closes the open interval and opens another; a second change of the same instant replaces the first.
    """
    cut = timestamp(at)
    content = [f.name for f in compared.schema["now"].dataType.fields]  # type: ignore[attr-defined]
    closed = current.where(F.col("valid_to").isNotNull())
    old = [F.col(f"old.{c}").alias(c) for c in current.columns]
    kept = compared.where(F.col("status") == UNCHANGED).select(old)
    ended = compared.where(F.col("status").isin(CHANGED, GONE) & (F.col("old.valid_from") < cut)).select(old)
    opens = F.when(F.col("status") == CHANGED, F.greatest(cut, F.col("old.valid_from"))).when(
        F.col("closed"), cut
    )
    opened = compared.where(F.col("status").isin(CHANGED, NEW)).select(
        key,
        F.coalesce(opens, F.lit(BEGINNING).cast("timestamp")).alias("valid_from"),
        F.lit(None).cast("timestamp").alias("valid_to"),
        *[F.col(f"now.{c}").alias(c) for c in content],
        F.lit(run_id).alias("run_id"),
    )
    parts: list[DataFrame] = [closed, kept, ended.withColumn("valid_to", cut), opened]
    merged = parts[0]
    for part in parts[1:]:
        merged = merged.unionByName(part)
    return merged
