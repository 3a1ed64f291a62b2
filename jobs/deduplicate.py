"""Two records with one event id: the same twice, a later version, or a conflict. Never "the first one read"."""

from pyspark.sql import Column, DataFrame, Window
from pyspark.sql import functions as F

CONFLICT = "event_id: conflicting duplicate"
DUPLICATE = "duplicate"
SUPERSEDED = "superseded by a later version"
NEW = "new"
UPDATE = "update"


def with_outcome(cleaned: DataFrame, known: DataFrame) -> DataFrame:
    """Add `outcome`: the `reason` of a refused record, else new, update, duplicate, superseded, or conflict.

    `known` is unique by event_id and holds (event_id, content, source_updated_at) of accepted events. Rows kept.
    """
    within = _resolve_batch(cleaned)
    accepted = known.select(
        "event_id",
        F.col("content").alias("known_content"),
        F.col("source_updated_at").alias("known_updated_at"),
    )
    joined = within.join(accepted, on=["event_id"], how="left")  # `accepted` is unique by event_id
    outcome = F.coalesce("reason", "outcome", _against_known())
    return joined.withColumn("outcome", outcome).drop("known_content", "known_updated_at")


def _resolve_batch(cleaned: DataFrame) -> DataFrame:
    """Outcome among the records read together: null for the one that stands for its id."""
    by_id = Window.partitionBy("event_id", F.col("reason").isNull())  # a refused record is nobody's rival
    whole = by_id.rowsBetween(Window.unboundedPreceding, Window.unboundedFollowing)
    order = by_id.orderBy(F.col("source_updated_at").desc_nulls_last(), "source_file", "line")
    newest = cleaned.withColumn("latest", F.max("source_updated_at").over(whole))
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


def _against_known() -> Column:
    """Outcome of a record against the event already accepted under its id."""
    later = F.col("source_updated_at") > F.col("known_updated_at")
    earlier = F.col("source_updated_at") < F.col("known_updated_at")
    return (
        F.when(F.col("known_content").isNull(), F.lit(NEW))
        .when(F.col("known_content") == F.col("content"), F.lit(DUPLICATE))
        .when(later, F.lit(UPDATE))
        .when(earlier, F.lit(SUPERSEDED))
        .otherwise(F.lit(CONFLICT))
    )
