"""What the report reads from the lake: a few plain scans, each collected as a few rows or one small arrow table."""

from datetime import UTC, date, timedelta

import pyarrow as pa
from pyspark.sql import Row
from pyspark.sql import functions as F

from jobs.accuracy import Evaluation
from jobs.evaluate_lists import STAGE as EVALUATE
from jobs.intervals import as_of
from jobs.lake import Lake
from jobs.stage import Night, StageRecord, StageReport, timestamp
from schemas.errors import InputError
from schemas.events import EVENTS
from schemas.items import ITEMS
from schemas.runs import RUNS

PUBLISH = "publish"


def catalogue(night: Night) -> pa.Table:
    """(item_id, events) of the items that may be shown: events in the popularity window. Collects a row an item."""
    available = as_of(night.lake.read(ITEMS), night.cutoff).where("available").select("item_id")
    since = timestamp(night.cutoff - timedelta(days=night.config.score.popularity_days))
    events = night.lake.read(EVENTS)
    recent = events.where((F.col("event_ts") >= since) & (F.col("event_ts") < timestamp(night.cutoff)))
    taken = recent.groupBy("item_id").agg(F.count("*").alias("taken"))
    counted = available.join(taken, on=["item_id"], how="left")  # both unique by item_id
    return counted.select("item_id", F.coalesce("taken", F.lit(0)).alias("events")).toArrow()


def evaluations(lake: Lake, until: date) -> list[Evaluation]:
    """What `runs` holds of evaluations up to and with a night, oldest first. Collects one row a night."""
    if not lake.exists(RUNS):
        return []
    rows = lake.read(RUNS).where((F.col("stage") == EVALUATE) & (F.col("logical_date") <= F.lit(until)))
    found = rows.select("started_at", "logical_date", "metrics").collect()
    return [Evaluation(row["logical_date"], row["metrics"]) for row in sorted(found, key=lambda r: r["started_at"])]


def is_recorded(night: Night, stage: str) -> bool:
    """Whether `runs` holds this run's row of a stage."""
    if not night.lake.exists(RUNS):
        return False
    rows = night.lake.read(RUNS).where((F.col("run_id") == F.lit(night.run_id)) & (F.col("stage") == F.lit(stage)))
    return not rows.isEmpty()


def newest_run(lake: Lake, logical_date: date) -> tuple[str, list[StageRecord]]:
    """The newest run of a date that reached publication, else the newest. Collects the rows of one date.

    Raises InputError where there is none.
    """
    found = lake.read(RUNS).where(F.col("logical_date") == F.lit(logical_date)).collect()
    if not found:
        raise InputError(f"runs: expected a run of {logical_date}, found none")
    rows = sorted(found, key=lambda row: row["started_at"])
    whole = [row["run_id"] for row in rows if row["stage"] == PUBLISH]
    run_id = whole[-1] if whole else rows[-1]["run_id"]
    return run_id, [as_record(row) for row in rows if row["run_id"] == run_id]


def as_record(row: Row) -> StageRecord:
    """A row of `runs` as the record it was made from; raw files stay behind, the report does not name them."""
    report = StageReport(
        row["rows_in"], row["rows_out"], row["dropped"], row["metrics"], model_digest=row["model_digest"]
    )
    reads = {table["name"]: table["version"] for table in row["inputs"] if table["version"] is not None}
    writes = {table["name"]: table["version"] for table in row["outputs"]}
    return StageRecord(row["stage"], report, reads, writes, row["started_at"].astimezone(UTC), row["seconds"])
