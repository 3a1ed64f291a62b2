"""What the report reads of `runs`, `items` and `events`."""

from datetime import UTC, date, datetime
from pathlib import Path

from pyspark.sql import SparkSession

from jobs.config import Config, EventSource, ItemSource, LakeConfig, ScoreConfig
from jobs.lake import Lake
from jobs.report_data import catalogue, evaluations, newest_run
from jobs.stage import Night, StageRecord, StageReport, record_stages
from schemas.events import EVENTS
from schemas.items import ITEMS


def test_runs_come_back_as_the_records_they_were_made_from(spark: SparkSession, tmp_path: Path) -> None:
    night = make_night(spark, tmp_path, date(2026, 3, 10))
    assert evaluations(night.lake, night.logical_date) == []
    report = StageReport(3, 2, {"no list": 1}, {"users": 2.0}, model_digest="m")
    started = datetime(2026, 3, 11, 2, tzinfo=UTC)
    told = StageRecord("evaluate_lists", report, {"events": 4}, {}, started, 1.5)
    published = StageRecord("publish", StageReport(metrics={"changed": 1.0}), {}, {"serving": 7}, started, 0.5)
    record_stages(night, [told, published], "stages")
    record_stages(night.of(date(2026, 3, 11)), [told], "stages")  # a later night
    run_id, records = newest_run(night.lake, date(2026, 3, 10))
    assert run_id == night.run_id
    assert sorted(records, key=lambda r: r.stage) == [told, published]
    # a report of the first night does not know the second
    assert [e.night for e in evaluations(night.lake, date(2026, 3, 10))] == [date(2026, 3, 10)]
    assert [e.figures for e in evaluations(night.lake, date(2026, 3, 11))] == [{"users": 2.0}] * 2


def test_the_catalogue_is_what_may_be_shown_and_what_was_taken_lately(spark: SparkSession, tmp_path: Path) -> None:
    night = make_night(spark, tmp_path, date(2026, 3, 10))
    beginning = datetime(1970, 1, 1, tzinfo=UTC)
    items = [(i, beginning, None, None, "{}", "{}", i != "hidden", "r") for i in ("a", "b", "hidden")]
    night.lake.append(ITEMS, spark.createDataFrame(items, ITEMS.struct), night.stamp("ingest_events"))
    # (item, day of March): the window is the two days before the cut-off
    taken = [("a", 8), ("a", 9), ("a", 10), ("b", 10), ("b", 11)]
    rows = [
        (f"e{n}", "u", item, "view", datetime(2026, 3, day, 12, tzinfo=UTC), n, None, None, "f", "r")
        for n, (item, day) in enumerate(taken)
    ]
    night.lake.append(EVENTS, spark.createDataFrame(rows, EVENTS.struct), night.stamp("ingest_events"))
    found = catalogue(night)
    assert sorted(zip(*found.to_pydict().values(), strict=True)) == [("a", 2), ("b", 1)]


def make_night(spark: SparkSession, root: Path, day: date) -> Night:
    """A night in a fresh lake."""
    source = EventSource("jsonl", "none", {"user_id": "u", "item_id": "i", "event_ts": "t"})
    items, score = ItemSource("jsonl", "none", {"item_id": "i"}), ScoreConfig(popularity_days=2)
    config = Config(LakeConfig(str(root)), source, items, score=score)
    return Night(Lake(spark, str(root)), config, day, f"run-{day}")
