"""Events -> histories: pure frames, no I/O. A user's order is (event_ts, sequence, event_id), everywhere."""

from pyspark.sql import DataFrame, Window
from pyspark.sql import functions as F

from jobs.changes import holds
from schemas.digest import row_digest
from schemas.types import user_bucket

ORDER = ("event_ts", "sequence", "event_id")
ARRAYS = ("item_ids", "features", "event_types", "event_ts")


def with_item_features(events: DataFrame, items: DataFrame) -> DataFrame:
    """Add `features`, the item's as of the event's time; `{}` for an item outside the catalogue. Rows kept.

    An item's intervals do not overlap, so at most one holds an event's time.
    """
    intervals = items.select("item_id", "valid_from", "valid_to", "features").alias("i")
    e = events.alias("e")
    start, end = F.col("i.valid_from"), F.col("i.valid_to")
    then = holds(start, end, end.isNull(), F.col("e.event_ts"))
    joined = e.join(intervals, on=(F.col("e.item_id") == F.col("i.item_id")) & then, how="left")
    return joined.select("e.*", F.coalesce("i.features", F.lit("{}")).alias("features"))


def limit_last_n(events: DataFrame, n: int) -> DataFrame:
    """Each user's last `n` events. Sorts and spills; holds no user's events in memory."""
    newest_first = Window.partitionBy("user_id").orderBy(*[F.col(c).desc() for c in ORDER])
    return events.withColumn("from_end", F.row_number().over(newest_first)).where(F.col("from_end") <= n)


def as_histories(events: DataFrame, items: DataFrame, n: int) -> DataFrame:
    """Grain: from events to users. `user_history` but for provenance.

    `collect_list` is bounded: `limit_last_n` left at most `n` events a user.
    """
    last = with_item_features(limit_last_n(events, n), items)
    event = F.struct(*ORDER, "item_id", "features", "event_type")
    users = last.groupBy("user_id").agg(F.array_sort(F.collect_list(event)).alias("h"))
    arrays = users.select(
        "user_id",
        user_bucket(F.col("user_id")).alias("user_bucket"),
        F.col("h.item_id").alias("item_ids"),
        F.col("h.features").alias("features"),
        F.col("h.event_type").alias("event_types"),
        F.col("h.event_ts").alias("event_ts"),
    )
    return arrays.withColumn("history_digest", row_digest(*ARRAYS))


def as_seen(events: DataFrame) -> DataFrame:
    """Grain: from events to users. `user_seen` but for provenance; a list is as long as the user's distinct items."""
    last = events.groupBy("user_id", "item_id", "event_type").agg(F.max("event_ts").alias("last_ts"))
    seen = F.array_sort(F.collect_list(F.struct("item_id", "event_type", "last_ts")))
    users = last.groupBy("user_id").agg(seen.alias("seen"))
    return users.withColumn("user_bucket", user_bucket(F.col("user_id")))
