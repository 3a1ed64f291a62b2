"""Which users are made again: those of corrected item intervals, and nobody for tonight's catalogue change."""

from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

from pyspark.sql import SparkSession

from jobs import build_histories
from jobs.config import Config, EventSource, ItemSource, LakeConfig
from jobs.lake import Lake
from jobs.stage import Night
from schemas.digest import table_digest
from schemas.events import EVENTS
from schemas.items import ITEMS
from schemas.user_history import USER_HISTORY
from tests.conftest import Frame

NOON = datetime(2026, 1, 5, 12, tzinfo=UTC)
MIDNIGHT = datetime(2026, 1, 6, tzinfo=UTC)
BEGINNING = datetime(1970, 1, 1, tzinfo=UTC)
EVENT: dict[str, Any] = {"event_type": "view", "event_ts": NOON, "sequence": 1, "source_file": "f", "run_id": "r"}
ITEM: dict[str, Any] = {"valid_from": BEGINNING, "features": "{}", "attributes": "{}", "available": True, "run_id": "r"}
COLUMNS = {"user_id": "u", "item_id": "i", "event_ts": "t"}


def test_a_corrected_past_interval_touches_the_users_who_hold_the_item(
    spark: SparkSession, frame: Frame, tmp_path: Path
) -> None:
    config = Config(LakeConfig("lake"), EventSource("csv", "e", COLUMNS), ItemSource("csv", "i", {"item_id": "i"}))
    lake = Lake(spark, str(tmp_path / "lake"))

    def night(run: str, *items: dict[str, Any]) -> dict[str, str]:
        """Histories by user after this catalogue: who wrote them."""
        tonight = Night(lake, config, date(2026, 1, 5), run)
        lake.overwrite(ITEMS, frame(ITEMS, ITEM, *items), tonight.stamp("ingest_events"))
        build_histories.run(tonight)
        return {row["user_id"]: row["run_id"] for row in lake.read(USER_HISTORY).collect()}

    took = {"u1": "a", "u2": "b"}
    events = frame(EVENTS, EVENT, *({"event_id": u, "user_id": u, "item_id": item} for u, item in took.items()))
    lake.append(EVENTS, events, Night(lake, config, NOON.date(), "run0").stamp("ingest_events"))
    assert night("run1", {"item_id": "a"}, {"item_id": "b"}) == {"u1": "run1", "u2": "run1"}
    # a changes tonight: its old interval ends at the cut-off, so no history reads the new one
    opened = {"item_id": "a", "valid_from": MIDNIGHT, "features": '{"g":"x"}'}
    tonight = [{"item_id": "a", "valid_to": MIDNIGHT}, opened]
    # b had changed an hour before u2's event, not never
    early = NOON - timedelta(hours=1)
    later = {"item_id": "b", "valid_from": early, "features": '{"g":"later"}'}
    assert night("run2", *tonight, {"item_id": "b", "valid_to": early}, later) == {"u1": "run1", "u2": "run2"}
    incremental = table_digest(lake.read(USER_HISTORY), USER_HISTORY)
    rebuilt = Lake(spark, str(tmp_path / "rebuilt"))
    for table in (EVENTS, ITEMS):
        lake.read(table).write.format("delta").save(f"{rebuilt.root}/{table.name}")
    build_histories.run(Night(rebuilt, config, date(2026, 1, 5), "rebuild"))
    assert table_digest(rebuilt.read(USER_HISTORY), USER_HISTORY) == incremental
