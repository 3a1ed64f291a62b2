"""Events -> overlapping windows of each user's whole history: pure frames, no I/O."""

from pyspark.sql import DataFrame, Window
from pyspark.sql import functions as F

from jobs.histories import ORDER, with_item_features
from schemas.types import user_bucket


def as_windows(events: DataFrame, items: DataFrame, length: int, context: int) -> DataFrame:
    """Grain: from events to windows of `training_sequences`, but for provenance.

    Window w covers positions [w s, w s + length) with s = length - context, so that a target of a later window sees
    at least `context` events; the last one ends with the history and is full. As `lime_model.windows.cut_windows`;
    `collect_list` is bounded by the window's length.
    """
    stride = length - context
    by_user = Window.partitionBy("user_id")
    placed = with_item_features(events, items).withColumns(
        {
            "position": F.row_number().over(by_user.orderBy(*ORDER)) - 1,
            "total": F.count("*").over(by_user),
        }
    )
    last_window = F.greatest(F.lit(0), F.ceil((F.col("total") - length) / stride)).cast("int")
    placed = placed.withColumn("last", last_window)
    first = F.greatest(F.lit(0), F.ceil((F.col("position") - length + 1) / stride)).cast("int")
    in_last = F.col("position") >= F.col("total") - length
    until = F.when(in_last, F.col("last")).otherwise(F.floor(F.col("position") / stride).cast("int"))
    spread = placed.withColumn("window", F.explode(F.sequence(first, until)))
    event = F.struct("position", "item_id", "features", "event_type", F.unix_micros("event_ts").alias("ts"))
    windows = spread.groupBy("user_id", "window").agg(
        F.array_sort(F.collect_list(event)).alias("h"), F.first("total").alias("total")
    )
    # targets begin where the window before ends
    begun = F.col("window") * stride + context - F.element_at("h.position", 1)
    targets_from = F.when(F.col("window") == 0, 0).otherwise(begun)
    return windows.select(
        "user_id",
        user_bucket(F.col("user_id")).alias("user_bucket"),
        "window",
        F.col("h.item_id").alias("item_ids"),
        F.col("h.features").alias("features"),
        F.col("h.event_type").alias("event_types"),
        F.col("h.ts").alias("event_ts"),
        targets_from.cast("int").alias("targets_from"),
        (F.element_at("h.position", -1) == F.col("total") - 1).alias("is_last"),
    )
