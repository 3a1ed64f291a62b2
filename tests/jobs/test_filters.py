"""Settings that decide what may be on a list: seen types and days, the popularity window, a backfill's choice."""

from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from pyspark.sql import SparkSession

from jobs.config import Config, EventSource, ItemSource, LakeConfig, ScoreConfig
from jobs.lake import Lake
from jobs.lists import seen_positions
from jobs.popularity import popular_items
from jobs.score_candidates import seen_items
from jobs.stage import Night
from jobs.weigh_candidates import chosen_items, latest_features
from schemas.errors import InputError
from schemas.events import EVENTS
from schemas.items import ITEMS
from schemas.user_seen import USER_SEEN
from tests.conftest import Frame

DAY = date(2026, 1, 10)
CUT = datetime(2026, 1, 11, tzinfo=UTC)


def night(spark: SparkSession, **score: Any) -> Night:
    """2026-01-10 under the given [score] settings."""
    events = EventSource("csv", "none", {"user_id": "u", "item_id": "i", "event_ts": "t"})
    items = ItemSource("csv", "none", {"item_id": "i"})
    config = Config(LakeConfig("none/lake"), events, items, score=ScoreConfig(**score))
    return Night(Lake(spark, "none/lake"), config, DAY, "run")


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({}, ["new", "old", "viewed"]),
        ({"seen_types": ("like",)}, ["new", "old"]),
        ({"seen_days": 3}, ["new", "viewed"]),
        ({"seen_types": ("like",), "seen_days": 3}, ["new"]),
    ],
)
def test_seen_types_and_days_decide_what_is_seen(
    spark: SparkSession, frame: Frame, settings: dict[str, Any], expected: list[str]
) -> None:
    recent, old = CUT - timedelta(days=3), CUT - timedelta(days=3, microseconds=1)
    seen = [("new", "like", recent), ("old", "like", old), ("viewed", "view", recent)]
    users = frame(USER_SEEN, {"user_id": "u", "user_bucket": 0, "run_id": "r"}, {"seen": seen})
    row = users.select(seen_items(night(spark, **settings)).alias("items")).collect()[0]
    assert row["items"] == expected


def test_seen_items_become_sorted_positions_of_candidates_alone() -> None:
    items = pa.array(["a", "b", "c"], pa.large_string())
    seen = pa.array([["c", "gone", "a", "c"], None, [], ["b"]], pa.list_(pa.string()))
    offsets, positions = seen_positions(seen, items)
    assert offsets.tolist() == [0, 2, 2, 2, 3]
    assert positions.tolist() == [0, 2, 1]


@pytest.mark.parametrize(("days", "expected"), [(2, ["b", "a", "c"]), (9, ["a", "b", "c"])])
def test_popularity_counts_its_window_only_and_fills_up_in_id_order(
    spark: SparkSession, frame: Frame, days: int, expected: list[str]
) -> None:
    base = {"user_id": "u", "event_type": "view", "sequence": 1, "source_file": "f", "run_id": "r"}
    old, recent, future = CUT - timedelta(days=5), CUT - timedelta(days=1), CUT
    rows = [("a", old), ("a", old), ("b", recent), ("c", future), ("c", future), ("gone", recent), ("gone", recent)]
    events = frame(EVENTS, base, *({"event_id": str(n), "item_id": i, "event_ts": t} for n, (i, t) in enumerate(rows)))
    available = spark.createDataFrame([("c",), ("b",), ("a",)], "item_id string")
    found = popular_items(night(spark, popularity_days=days), events, available, 3)
    assert [item for item, _ in found] == expected


def test_a_backfill_takes_the_items_it_is_asked_for(spark: SparkSession, frame: Frame, tmp_path: Path) -> None:
    base = {"features": "{}", "attributes": "{}", "available": True, "run_id": "r"}
    opened = [("a", 1), ("b", 3), ("c", 5), ("future", 20)]
    rows = ({"item_id": item, "valid_from": datetime(2026, 1, day, tzinfo=UTC)} for item, day in opened)
    catalogue = latest_features(frame(ITEMS, base, *rows), CUT)
    listed = tmp_path / "items.txt"
    listed.write_text("c\na\nmissing\n")

    def chosen(file: str | None, since: date | None, until: date | None) -> list[str]:
        return sorted(row["item_id"] for row in chosen_items(file, since, until)(catalogue).collect())

    assert chosen(None, None, None) == ["a", "b", "c"]
    assert chosen(str(listed), None, None) == ["a", "c"]
    assert chosen(None, date(2026, 1, 3), None) == ["b", "c"]
    assert chosen(None, None, date(2026, 1, 3)) == ["a", "b"]
    with pytest.raises(InputError, match="expected a file with one item id a line"):
        chosen("nowhere.txt", None, None)
