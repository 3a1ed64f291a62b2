"""Validity intervals: what a snapshot opens, closes, replaces and leaves alone."""

from datetime import UTC, datetime
from typing import Any

from pyspark.sql import DataFrame, SparkSession

from jobs.intervals import as_of, compare_snapshot, merge_snapshot
from schemas.items import ITEMS
from tests.conftest import Frame

BEGINNING, FIRST, SECOND = (datetime(y, 1, d, tzinfo=UTC) for y, d in ((1970, 1), (2026, 1), (2026, 2)))
ITEM: dict[str, Any] = {
    "valid_from": BEGINNING, "title": "t", "features": "{}", "attributes": "{}", "available": True, "run_id": "old"
}  # fmt: skip


def snapshot(spark: SparkSession, *rows: tuple[str, str]) -> DataFrame:
    """(item_id, features) rows as a catalogue snapshot."""
    values = [(item, "t", features, "{}", True) for item, features in rows]
    columns = "item_id string, title string, features string, attributes string, available boolean"
    return spark.createDataFrame(values, columns)


def merged(current: DataFrame, snap: DataFrame, at: datetime, complete: bool = True) -> set[tuple[object, ...]]:
    compared = compare_snapshot(current, snap, "item_id", complete)
    rows = merge_snapshot(current, compared, "item_id", at, "new").collect()
    end = {None: None}
    return {
        (r["item_id"], r["valid_from"].astimezone(UTC), r["valid_to"].astimezone(UTC) if r["valid_to"] else end[None],
         r["features"], r["run_id"])
        for r in rows
    }  # fmt: skip


def test_new_changed_gone_and_unchanged_items(spark: SparkSession, frame: Frame) -> None:
    current = frame(ITEMS, ITEM, {"item_id": "same"}, {"item_id": "changed"}, {"item_id": "gone"})
    found = merged(current, snapshot(spark, ("same", "{}"), ("changed", "{1}"), ("new", "{}")), SECOND)
    assert found == {
        ("same", BEGINNING, None, "{}", "old"),
        ("changed", BEGINNING, SECOND, "{}", "old"),
        ("changed", SECOND, None, "{1}", "new"),
        ("gone", BEGINNING, SECOND, "{}", "old"),
        ("new", BEGINNING, None, "{}", "new"),  # the first interval of everything opens at the beginning of time
    }


def test_an_incomplete_snapshot_closes_nothing(spark: SparkSession, frame: Frame) -> None:
    current = frame(ITEMS, ITEM, {"item_id": "gone"})
    assert merged(current, snapshot(spark), SECOND, complete=False) == {("gone", BEGINNING, None, "{}", "old")}


def test_an_item_that_comes_back_opens_a_second_interval(spark: SparkSession, frame: Frame) -> None:
    current = frame(ITEMS, ITEM, {"item_id": "back", "valid_to": FIRST})
    assert merged(current, snapshot(spark, ("back", "{}")), SECOND) == {
        ("back", BEGINNING, FIRST, "{}", "old"),
        ("back", SECOND, None, "{}", "new"),
    }


def test_a_second_change_of_one_night_replaces_the_first(spark: SparkSession, frame: Frame) -> None:
    current = frame(ITEMS, ITEM, {"item_id": "i", "valid_to": FIRST}, {"item_id": "i", "valid_from": FIRST})
    assert merged(current, snapshot(spark, ("i", "{2}")), FIRST) == {
        ("i", BEGINNING, FIRST, "{}", "old"),
        ("i", FIRST, None, "{2}", "new"),
    }


def test_as_of_takes_the_interval_that_holds_the_last_instant_before_the_cut(frame: Frame) -> None:
    items = frame(ITEMS, ITEM, {"item_id": "i", "valid_to": FIRST, "title": "a"},
                  {"item_id": "i", "valid_from": FIRST, "title": "b"})
    assert [r["title"] for r in as_of(items, FIRST).collect()] == ["a"]
    assert [r["title"] for r in as_of(items, SECOND).collect()] == ["b"]
