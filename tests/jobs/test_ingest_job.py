"""The ingest and history jobs on files: read again, corrected later, moved to another user, without a user source."""

import json
import os
from datetime import date
from pathlib import Path

import pytest
from pyspark.sql import SparkSession

from jobs import build_histories, ingest_events
from jobs.config import Config, EventSource, ItemSource, LakeConfig
from jobs.lake import Lake
from jobs.stage import Night, StageRecord, new_run_id, record_stages, run_stage
from schemas.digest import table_digest
from schemas.errors import InputError
from schemas.events import EVENTS
from schemas.events_quarantine import EVENTS_QUARANTINE
from schemas.user_history import USER_HISTORY
from schemas.user_seen import USER_SEEN
from schemas.users import USERS

DAY = date(2026, 1, 5)
COLUMNS = {"event_id": "id", "user_id": "user", "item_id": "item", "event_ts": "at", "source_updated_at": "updated"}


def write_events(folder: Path, name: str, *events: dict[str, str]) -> None:
    base = {"user": "u1", "item": "i1", "at": "2026-01-02T10:00:00Z", "updated": "2026-01-02T11:00:00Z"}
    lines = [json.dumps({**base, **event}) if event else "{broken" for event in events]
    (folder / "events").mkdir(exist_ok=True)
    (folder / "events" / name).write_text("\n".join(lines) + "\n")


@pytest.fixture
def night(spark: SparkSession, tmp_path: Path) -> Night:
    (tmp_path / "items.csv").write_text("item\ni1\ni2\n")
    config = Config(
        LakeConfig(f"{tmp_path}/lake"),
        EventSource("jsonl", f"{tmp_path}/events/*", COLUMNS, default_type="click"),
        ItemSource("csv", f"{tmp_path}/items.csv", {"item_id": "item"}),
    )
    return Night(Lake(spark, config.lake.root), config, DAY, new_run_id(DAY))


def ingest(night: Night) -> StageRecord:
    """Ingest and histories as one more run; returns the record of ingest."""
    again = night.of(DAY)
    records = [run_stage(again, job.STAGE, job.run) for job in (ingest_events, build_histories)]
    record_stages(again, records, "stages")
    return records[0]


def histories(night: Night) -> dict[str, list[str]]:
    return {row["user_id"]: row["item_ids"] for row in night.lake.read(USER_HISTORY).collect()}


def test_users_come_from_events_where_there_is_no_user_source(night: Night, tmp_path: Path) -> None:
    write_events(tmp_path, "1.jsonl", {"id": "a"}, {"id": "b", "user": "u2"}, {"id": "c", "at": "2026-01-09T00:00:00Z"})
    ingest(night)
    assert sorted(row["user_id"] for row in night.lake.read(USERS).collect()) == ["u1", "u2"]
    assert {row["event_type"] for row in night.lake.read(EVENTS).collect()} == {"click"}
    assert histories(night) == {"u1": ["i1"], "u2": ["i1"]}, "an event after the cut-off reached a history"


def test_reading_a_file_again_changes_nothing(night: Night, tmp_path: Path) -> None:
    write_events(tmp_path, "1.jsonl", {"id": "a"}, {}, {"id": "x"})
    write_events(tmp_path, "2.jsonl", {"id": "b"}, {"id": "x", "item": "i2"})  # x: nobody can say which is right
    conflict = "event_id: conflicting duplicate"
    record = ingest(night).report
    assert record.dropped == {"record: not a jsonl record": 1, conflict: 2}
    # 5 records of events and 2 of items; users come from events and are no record
    assert (record.rows_in, record.rows_out, record.metrics["items: gone"]) == (7, 4, 0)
    tables = (EVENTS, EVENTS_QUARANTINE, USERS, USER_HISTORY, USER_SEEN)
    before = [table_digest(night.lake.read(table), table) for table in tables]
    assert ingest(night).report.files == ()
    os.utime(tmp_path / "events" / "2.jsonl", (1, 1))  # another time: it is read again, and without its rival
    assert ingest(night).report.dropped == {conflict: 1, "duplicate": 1}
    assert [table_digest(night.lake.read(table), table) for table in tables] == before


def test_a_later_version_replaces_an_event_and_touches_both_users(night: Night, tmp_path: Path) -> None:
    write_events(tmp_path, "1.jsonl", {"id": "a"}, {"id": "b", "item": "i2", "at": "2026-01-03T10:00:00Z"})
    ingest(night)
    assert histories(night) == {"u1": ["i1", "i2"]}
    moved = {"id": "b", "item": "i2", "user": "u9", "updated": "2026-01-04T00:00:00Z"}
    older = {"id": "a", "item": "i2", "updated": "2026-01-01T00:00:00Z"}
    write_events(tmp_path, "2.jsonl", moved, older)
    record = ingest(night)
    assert record.report.dropped == {"superseded by a later version": 1}
    assert histories(night) == {"u1": ["i1"], "u9": ["i2"]}
    conf = night.lake.spark.conf
    assert conf.get("spark.databricks.delta.write.txnAppId", None) is None, "a MERGE's transaction id was left behind"


def test_a_source_that_is_missing_or_wholly_refused_stops_the_night(night: Night, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="expected files up to 2026-01-05, found none"):
        ingest(night)
    write_events(tmp_path, "1.jsonl", {}, {"id": "a", "at": "never"})
    with pytest.raises(InputError, match="2 records read, all quarantined"):
        ingest(night)
    assert night.lake.read(EVENTS_QUARANTINE).count() == 2
