"""Raw catalogue and user records -> the snapshots that validity intervals are made of."""

from collections.abc import Mapping

from pyspark.sql import Column, DataFrame, Window
from pyspark.sql import functions as F

from jobs.config import Feature, ItemSource, UserSource
from jobs.deduplicate import DUPLICATE
from schemas.digest import row_digest
from schemas.types import user_bucket

CONFLICT = "conflicting duplicate"


def as_items(records: DataFrame, source: ItemSource) -> DataFrame:
    """Catalogue records as (item_id, title, features, attributes, available), the raw record and `reason` or null."""
    raw = {column: F.col("fields").getItem(name) for column, name in source.columns.items()}
    none = F.lit(None).cast("string")
    available = raw.get("available", none)
    typed = records.select(
        "record",
        "source_file",
        F.col("sequence").alias("line"),
        F.col("fields").isNull().alias("unsplit"),
        raw["item_id"].alias("item_id"),
        F.nullif(F.trim(raw.get("title", none)), F.lit("")).alias("title"),
        _json(source.features).alias("features"),
        _json(source.attributes).alias("attributes"),
        F.coalesce(available.try_cast("boolean"), F.lit(True)).alias("available"),
        _bad_feature(source, available).alias("bad"),
    )
    return _with_reason(typed, "item_id", ["title", "features", "attributes", "available"], "items")


def as_users(records: DataFrame, source: UserSource) -> DataFrame:
    """User records as (user_id, user_bucket, attributes) beside the raw record and a `reason` or null."""
    attributes = [
        _filled(F.col("fields").getItem(column)).alias(name)
        for name, column in sorted(source.attributes.items())
    ]
    typed = records.select(
        "record",
        "source_file",
        F.col("sequence").alias("line"),
        F.col("fields").isNull().alias("unsplit"),
        F.col("fields").getItem(source.columns["user_id"]).alias("user_id"),
        (F.to_json(F.struct(*attributes)) if attributes else F.lit("{}")).alias("attributes"),
        F.lit(None).cast("string").alias("bad"),
    )
    known = _with_reason(typed, "user_id", ["attributes"], "users")
    return known.withColumn("user_bucket", user_bucket(F.col("user_id")))


def users_of_events(events: DataFrame) -> DataFrame:
    """Whoever has an event, as a user snapshot without attributes."""
    users = events.select("user_id").distinct()
    return users.select(
        "user_id", user_bucket(F.col("user_id")).alias("user_bucket"), F.lit("{}").alias("attributes")
    )


def _filled(value: Column) -> Column:
    """A string, or null where it is blank."""
    return F.nullif(F.trim(value), F.lit(""))


def _json(features: Mapping[str, Feature]) -> Column:
    """The features as canonical JSON: keys sorted, a missing value is an absent key, `{}` where there is none."""
    values = [_feature(feature).alias(name) for name, feature in sorted(features.items())]
    return F.to_json(F.struct(*values)) if values else F.lit("{}")


def _feature(feature: Feature) -> Column:
    """One feature's value; null where the source has none, which leaves its key out of the JSON."""
    value = _filled(F.col("fields").getItem(feature.column))
    if feature.kind == "numeric":
        return value.try_cast("double")
    if not feature.separator:
        return value
    words = F.transform(F.split(value, f"\\Q{feature.separator}\\E"), lambda word: F.trim(word))
    several = F.array_sort(F.array_distinct(F.filter(words, lambda word: word != "")))
    return F.when(F.size(several) > 0, several)


def _bad_feature(source: ItemSource, available: Column) -> Column:
    """Which value of a catalogue record is not of its type; null where all are."""
    bad = F.when(_filled(available).isNotNull() & available.try_cast("boolean").isNull(), F.lit("available"))
    for name, feature in {**source.features, **source.attributes}.items():
        if feature.kind == "numeric":
            value = _filled(F.col("fields").getItem(feature.column))
            number = value.try_cast("double")
            wrong = number.isNull() | F.isnan(number) | number.isin(float("inf"), float("-inf"))
            bad = F.coalesce(bad, F.when(value.isNotNull() & wrong, F.lit(name)))
    return bad


def _with_reason(typed: DataFrame, key: str, content: list[str], table: str) -> DataFrame:
    """Add `reason`: the first check that fails; of equal records under one key one stands, the rest are duplicates."""
    broken = (
        F.when(F.col("unsplit"), F.lit(f"{table}: not a record of its format"))
        .when(_filled(F.col(key)).isNull(), F.lit(f"{table}: {key}: missing"))
        .when(F.col("bad").isNotNull(), F.concat(F.lit(f"{table}: "), "bad", F.lit(": not of its type")))
    )
    checked = typed.withColumn("reason", broken)
    by_key = Window.partitionBy(key, F.col("reason").isNull())  # a refused record is nobody's rival
    whole = by_key.rowsBetween(Window.unboundedPreceding, Window.unboundedFollowing)
    digest = row_digest(*content)
    ranked = checked.withColumns(
        {
            "rivals": F.min(digest).over(whole) != F.max(digest).over(whole),
            "place": F.row_number().over(by_key.orderBy("source_file", "line")),
        }
    )
    doubled = F.when(F.col("rivals"), F.lit(f"{table}: {key}: {CONFLICT}")).when(F.col("place") > 1, F.lit(DUPLICATE))
    return ranked.withColumn("reason", F.coalesce("reason", doubled)).drop("unsplit", "bad", "rivals", "place")
