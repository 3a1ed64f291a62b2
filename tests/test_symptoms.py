"""What users of such systems report: each symptom brought about with plain Spark and Delta, and survived by the lake.

The others have tests where they belong: publish after a rollback that is skipped (tests/jobs/test_rollback.py), a
concurrent append and a column whose type changed (test_lake.py), VACUUM under a running reader (test_maintain.py), an
executor lost and adaptive execution that collapses the Python stage (tests/test_score_stage.py, its golden plan).
"""

from collections.abc import Callable, Iterator
from datetime import date
from pathlib import Path
from typing import Any

import pytest
from pyspark.sql import DataFrame, SparkSession

from jobs import publish
from jobs.config import load_config
from jobs.lake import Lake, Stamp
from jobs.stage import Night, new_run_id
from schemas.errors import GateError
from schemas.events import EVENTS
from schemas.recommendations import RECOMMENDATIONS
from schemas.serving_recommendations import SERVING_RECOMMENDATIONS
from tests.conftest import Frame
from tests.jobs.test_lake import EVENT

Rows = Callable[[DataFrame], DataFrame]


@pytest.fixture
def lake(spark: SparkSession, tmp_path: Path) -> Lake:
    return Lake(spark, str(tmp_path / "lake"))


@pytest.fixture
def evaluated(tmp_path: Path) -> Path:
    """A file with a line for each time that the rows of `counting` were computed."""
    return tmp_path / "evaluated"


@pytest.fixture
def counting(evaluated: Path) -> Rows:
    """A user-defined function over Arrow batches that notes each time it is run over the rows."""

    def note(batches: Iterator[Any]) -> Iterator[Any]:
        for batch in batches:
            with evaluated.open("a") as file:
                file.write("once\n")
            yield batch

    return lambda rows: rows.coalesce(1).mapInArrow(note, rows.schema)


def times(evaluated: Path) -> int:
    return len(evaluated.read_text().splitlines())


def stamp(run: str, day: int = 1) -> Stamp:
    return Stamp(run, "ingest_events", date(2026, 1, day))


def test_a_merge_reads_its_source_twice_and_a_staged_one_is_computed_once(
    lake: Lake, frame: Frame, counting: Rows, evaluated: Path
) -> None:
    lake.append(EVENTS, frame(EVENTS, EVENT, {"event_id": "a"}), stamp("run1"))
    source = counting(frame(EVENTS, EVENT, {"event_id": "a", "value": 2.0}))
    on = "t.event_id = s.event_id WHEN MATCHED THEN UPDATE SET *"
    with lake.session_settings({"spark.databricks.delta.merge.materializeSource": "none"}):  # no cache of Delta's
        lake.spark.sql(f"MERGE INTO {lake.name(EVENTS)} t USING {{rows}} s ON {on}", rows=source)
    assert times(evaluated) > 1
    evaluated.unlink()
    lake.update_by_key(EVENTS, lake.stage(source, "run2/rows"), stamp("run2"))
    assert times(evaluated) == 1


def test_rows_that_are_used_twice_are_computed_twice_unless_staged(
    lake: Lake, frame: Frame, counting: Rows, evaluated: Path
) -> None:
    rows = counting(frame(EVENTS, EVENT, {"event_id": "a"}))
    assert rows.union(rows).count() == 2
    assert times(evaluated) == 2
    evaluated.unlink()
    staged = lake.stage(rows, "run/rows")
    assert staged.union(staged).count() == 2
    assert times(evaluated) == 1


def test_a_write_of_an_older_night_lands_where_its_date_as_a_version_would_be_skipped(lake: Lake, frame: Frame) -> None:
    lake.create(EVENTS)
    for day in (20260102, 20260101):  # the symptom: one application, the night as the transaction's version
        writer = frame(EVENTS, EVENT, {"event_id": str(day)}).write.format("delta").mode("append")
        writer.option("txnAppId", "nightly").option("txnVersion", day).save(f"{lake.root}/{EVENTS.name}")
    assert [row["event_id"] for row in lake.read(EVENTS).collect()] == ["20260102"]
    for day in (2, 1):
        rows = frame(EVENTS, EVENT, {"event_id": f"night {day}"})
        assert lake.append(EVENTS, rows, stamp(f"run{day}", day)) == lake.head(EVENTS)
    assert {row["event_id"] for row in lake.read(EVENTS).collect()} == {"20260102", "night 2", "night 1"}


def test_lists_that_came_out_empty_are_not_served(spark: SparkSession, first_night: Path) -> None:
    config = load_config(str(first_night))
    lake, day = Lake(spark, config.lake.root), date(2026, 1, 6)
    night = Night(lake, config, day, new_run_id(day))
    before, kept = lake.head(SERVING_RECOMMENDATIONS), lake.head(RECOMMENDATIONS)
    lake.overwrite(RECOMMENDATIONS, lake.read(RECOMMENDATIONS).limit(0), night.stamp("score_candidates"))
    try:
        with pytest.raises(GateError, match="lists: expected at least one, found 0"):
            publish.run(night)
        assert lake.head(SERVING_RECOMMENDATIONS) == before
    finally:
        lake.restore(RECOMMENDATIONS, kept, night.stamp("test/back"))
