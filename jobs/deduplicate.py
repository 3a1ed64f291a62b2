"""Two records with one event id: the same twice, a later version, or a conflict. Never "the first one read"."""

from pyspark.sql import Column, DataFrame, Window
from pyspark.sql import functions as F

CONFLICT = "event_id: conflicting duplicate"
DUPLICATE = "duplicate"
SUPERSEDED = "superseded by a later version"
NEW = "new"
UPDATE = "update"


def as_conflicts(quarantine: DataFrame) -> DataFrame:
    """The event ids that were refused as conflicts, with the latest update time among the rivals: one row an id."""
    conflicts = quarantine.where(F.col("reason") == CONFLICT).groupBy("event_id")
    return conflicts.agg(F.max("source_updated_at").alias("source_updated_at"))


def with_outcome(cleaned: DataFrame, known: DataFrame, conflicts: DataFrame) -> DataFrame:
    """Add `outcome`: the `reason` of a refused record, else new, update, duplicate, superseded, or conflict.

    `known` is unique by event_id and holds (event_id, content, source_updated_at) of accepted events, `conflicts`
    is `as_conflicts`. What is accepted or disputed decides before what was read together, so that the outcome does
    not depend on which files were. Rows kept.
    """
    accepted = known.select(
        "event_id",
        F.col("content").alias("known_content"),
        F.col("source_updated_at").alias("known_updated_at"),
    )
    disputed = conflicts.select(
        "event_id", F.lit(True).alias("disputed"), F.col("source_updated_at").alias("disputed_at")
    )
    # both are unique by event_id
    joined = cleaned.join(accepted, on=["event_id"], how="left").join(disputed, on=["event_id"], how="left")
    settled = F.coalesce("reason", _if_accepted_already())
    resolved = _resolve_batch(joined.withColumn("settled", settled))
    outcome = F.coalesce("settled", "outcome", _if_disputed(), _against_known())
    extra = ("known_content", "known_updated_at", "disputed", "disputed_at", "settled")
    return resolved.withColumn("outcome", outcome).drop(*extra)


def _resolve_batch(settled: DataFrame) -> DataFrame:
    """Outcome among the records read together: null for the one that stands for its id."""
    by_id = Window.partitionBy("event_id", F.col("settled").isNull())  # a settled record is nobody's rival
    whole = by_id.rowsBetween(Window.unboundedPreceding, Window.unboundedFollowing)
    order = by_id.orderBy(F.col("source_updated_at").desc_nulls_last(), "source_file", "line")
    newest = settled.withColumn("latest", F.max("source_updated_at").over(whole))
    contents = F.when(F.col("source_updated_at").eqNullSafe(F.col("latest")), F.col("content"))
    ranked = newest.withColumns(
        {
            # Versions that claim to be the latest and differ: nobody can say which one is right.
            "rivals": F.min(contents).over(whole) != F.max(contents).over(whole),
            "place": F.row_number().over(order),
        }
    )
    outcome = (
        F.when(F.col("rivals"), F.lit(CONFLICT))
        .when(~F.col("source_updated_at").eqNullSafe(F.col("latest")), F.lit(SUPERSEDED))
        .when(F.col("place") > 1, F.lit(DUPLICATE))
    )
    return ranked.withColumn("outcome", outcome).drop("latest", "rivals", "place")


def _if_accepted_already() -> Column:
    """Outcome of a record that `events` holds as it is or in a later version; else null."""
    there = F.col("known_content") == F.col("content")
    later = _later(F.col("known_updated_at"), F.col("source_updated_at"))
    return F.when(there, F.lit(DUPLICATE)).when(later, F.lit(SUPERSEDED))


def _if_disputed() -> Column:
    """Outcome of a record whose id was refused as a conflict: only a later version ends that; else null."""
    return F.when(F.col("disputed") & ~_later(F.col("source_updated_at"), F.col("disputed_at")), F.lit(CONFLICT))


def _against_known() -> Column:
    """Outcome of a record that the event already accepted under its id, if any, does not settle."""
    later = _later(F.col("source_updated_at"), F.col("known_updated_at"))
    return F.when(F.col("known_content").isNull(), F.lit(NEW)).when(later, F.lit(UPDATE)).otherwise(F.lit(CONFLICT))


def _later(one: Column, other: Column) -> Column:
    """Whether one update time is the later; any is later than none, as within a batch."""
    return F.coalesce(one > other, one.isNotNull() & other.isNull())
