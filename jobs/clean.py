"""Raw records -> typed events with an outcome: null, or the reason why the record is refused."""

from functools import reduce

from pyspark.sql import Column, DataFrame, Window
from pyspark.sql import functions as F

from jobs.config import EventSource
from jobs.ts_formats import ISO, ISO_DATE, UNITS
from schemas.digest import row_digest

EARLIEST, LATEST = "1970-01-01T00:00:00Z", "2100-01-01T00:00:00Z"
MAX_ID_LENGTH = 512
CONTROL = r"[\x00-\x1f\x7f]"

CONTENT = ("user_id", "item_id", "event_type", "event_ts", "value", "source_updated_at")


def as_events(records: DataFrame, source: EventSource) -> DataFrame:
    """Typed columns of `events` beside the raw record, and `reason`: the first check that fails, or null.

    Rows kept; also adds `content`, the digest by which two records with one id are the same.
    """
    raw = {column: F.col("fields").getItem(name) for column, name in source.columns.items()}
    none = F.lit(None).cast("string")
    value, sequence = raw.get("value", none), raw.get("sequence", none)
    updated = raw.get("source_updated_at", none)
    typed = records.select(
        "record",
        "source_file",
        F.col("sequence").alias("line"),
        F.col("fields").isNull().alias("unsplit"),
        raw["user_id"].alias("user_id"),
        raw["item_id"].alias("item_id"),
        raw["event_ts"].alias("raw_ts"),
        raw.get("event_type", none).alias("raw_type"),
        value.alias("raw_value"),
        sequence.alias("raw_sequence"),
        updated.alias("raw_updated"),
        raw.get("event_id", none).alias("source_id"),
        as_timestamp(raw["event_ts"], source.ts_format).alias("event_ts"),
        as_timestamp(updated, source.ts_format).alias("source_updated_at"),
        value.try_cast("double").alias("value"),
        sequence.try_cast("bigint").alias("source_sequence"),
        _event_type(raw.get("event_type"), source).alias("event_type"),
    )
    checked = typed.withColumn("reason", _reason(source))
    # A source without an order of its own is ordered by line; a line number is no part of the content, for
    # the same record may stand on another line of another file.
    ordered = checked.withColumn("sequence", F.coalesce("source_sequence", "line"))
    digested = ordered.withColumn("content", row_digest(*CONTENT, "source_sequence"))
    return digested.withColumn("event_id", F.coalesce("source_id", "content"))


def with_content(events: DataFrame, source: EventSource) -> DataFrame:
    """Accepted events with the digest that `as_events` gave them."""
    own_order = F.col("sequence") if "sequence" in source.columns else F.lit(None).cast("bigint")
    return events.withColumn("content", row_digest(*CONTENT, own_order.alias("source_sequence")))


def as_timestamp(value: Column, ts_format: str) -> Column:
    """A string as a UTC timestamp; null where it is not one."""
    if ts_format in UNITS:
        # through decimal: a double would lose microseconds, and fractions of a unit are legal
        return F.timestamp_micros((value.try_cast("decimal(20,6)") * UNITS[ts_format]).try_cast("bigint"))
    if ts_format == ISO:
        return F.when(value.rlike(ISO_DATE), value.try_cast("timestamp"))
    return F.try_to_timestamp(value, F.lit(ts_format))


def _event_type(raw: Column | None, source: EventSource) -> Column:
    """The platform's word for the source's value; null where the mapping has none."""
    if raw is None:
        return F.lit(source.default_type)
    if not source.types:
        return F.when(F.trim(raw) != "", raw)
    pairs = [F.lit(word) for pair in source.types.items() for word in pair]
    return F.create_map(*pairs)[raw]


def _reason(source: EventSource) -> Column:
    """The first check that a record fails, naming column, expected and found; null where it passes all."""
    checks: list[tuple[Column, Column]] = [(F.col("unsplit"), F.lit(f"record: not a {source.format} record"))]
    for column in ("user_id", "item_id", *(["source_id"] if "event_id" in source.columns else [])):
        name = "event_id" if column == "source_id" else column
        checks.append((F.coalesce(F.trim(column) == "", F.lit(True)), F.lit(f"{name}: missing")))
        too_long = F.length(column) > MAX_ID_LENGTH
        checks.append((too_long, F.lit(f"{name}: longer than {MAX_ID_LENGTH} characters")))
        checks.append((F.col(column).rlike(CONTROL), F.lit(f"{name}: control character")))
    checks.append((F.coalesce(F.trim("raw_ts") == "", F.lit(True)), F.lit("event_ts: missing")))
    checks.append((F.col("event_ts").isNull(), F.lit(f"event_ts: not a timestamp ({source.ts_format})")))
    bounds = F.col("event_ts").between(F.lit(EARLIEST).cast("timestamp"), F.lit(LATEST).cast("timestamp"))
    checks.append((~bounds, F.lit(f"event_ts: outside {EARLIEST[:10]} to {LATEST[:10]}")))
    checks.append((F.col("event_type").isNull(), F.lit("event_type: missing or not in the mapping")))
    checks.append((F.col("event_type").rlike(CONTROL), F.lit("event_type: control character")))
    for raw, typed, name in (
        ("raw_value", "value", "value"),
        ("raw_sequence", "source_sequence", "sequence"),
        ("raw_updated", "source_updated_at", "source_updated_at"),
    ):
        filled = F.coalesce(F.trim(raw) != "", F.lit(False))
        checks.append((filled & F.col(typed).isNull(), F.lit(f"{name}: not of its type")))
    checks.append(
        (F.col("value").isin(float("inf"), float("-inf")) | F.isnan("value"), F.lit("value: not finite"))
    )
    if "sequence" in source.columns:
        checks.append((F.col("source_sequence").isNull(), F.lit("sequence: missing")))
    return reduce(
        lambda otherwise, check: F.when(check[0], check[1]).otherwise(otherwise),
        checks[::-1],
        F.lit(None).cast("string"),
    )


def as_quarantine(refused: DataFrame, numbered: bool) -> DataFrame:
    """Refused records in the quarantine's columns, but for the run: grain one row a record of a file.

    `numbered`: file and line name a record for good. A Delta table deals them anew with each version, so there a
    record is told from its equals by counting them, whichever is which.
    """
    equals = Window.partitionBy("record", "reason").orderBy("source_file", "line")
    place = ["source_file", "line"] if numbered else [F.row_number().over(equals).alias("copy")]
    of_events = {"event_id": "string", "source_updated_at": "timestamp"}  # catalogue and user records have neither
    return refused.select(
        row_digest(*place, "record", "reason").alias("record_id"),
        "reason",
        "record",
        "source_file",
        F.col("line").alias("sequence"),
        *[c if c in refused.columns else F.lit(None).cast(t).alias(c) for c, t in of_events.items()],
    )
