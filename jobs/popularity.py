"""The list of users without a history: what others took lately."""

from datetime import timedelta

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from jobs.stage import Night, timestamp


def popular_items(
    night: Night, events: DataFrame, available: DataFrame, count: int
) -> list[tuple[str, float]]:
    """The `count` available items with most events in the window before the cut-off, ties by item_id.

    Items without events follow in id order, so the list is full as long as the catalogue is. Collects `count` rows.
    """
    since = night.cutoff - timedelta(days=night.config.score.popularity_days)
    recent = events.where(
        (F.col("event_ts") >= timestamp(since)) & (F.col("event_ts") < timestamp(night.cutoff))
    )
    taken = recent.groupBy("item_id").agg(F.count("*").alias("events"))
    counted = available.select("item_id").join(taken, on=["item_id"], how="left")  # both unique by item_id
    scored = counted.select("item_id", F.coalesce("events", F.lit(0)).cast("float").alias("score"))
    best = scored.orderBy(F.col("score").desc(), "item_id").limit(count).collect()
    return [(row["item_id"], row["score"]) for row in best]
