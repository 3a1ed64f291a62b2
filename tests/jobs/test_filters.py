"""Settings that decide what may be on a list: seen types and days, the popularity window, a backfill's choice."""

from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from pyspark.sql import SparkSession
from pyspark.sql import functions as F

from jobs.config import Config, EventSource, ItemSource, LakeConfig, ScoreConfig
from jobs.eligibility import ClassCounts, map_masks, write_masks
from jobs.histories import as_histories
from jobs.intervals import compare_snapshot, merge_snapshot
from jobs.lake import Lake
from jobs.lists import filtered_rows, seen_positions, short_reasons, shortfall
from jobs.popularity import PopularItems, popular_items, write_popularity
from jobs.rule_config import Denied, Rule
from jobs.rules import UserClasses, denied_items
from jobs.score_users import seen_items
from jobs.stage import Night
from jobs.weigh_candidates import chosen_items, latest_features
from lime_model.scoring.lists import Excluded
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


@settings(max_examples=40, deadline=None)
@given(st.data())
def test_popularity_lists_are_those_of_the_class_without_what_the_user_is_denied(data: st.DataObject) -> None:
    count, width = data.draw(st.integers(1, 40)), data.draw(st.integers(1, 12))
    flag = st.lists(st.booleans(), min_size=count, max_size=count)
    available, rule = data.draw(flag.filter(any)), data.draw(flag)  # a night without any is refused before
    scores = data.draw(st.lists(st.sampled_from([0.0, 1.0, 2.0]), min_size=count, max_size=count))
    classes = UserClasses((Rule("deny", "a", ("x",), "u", ("v",)),), ((),), ((0,), (1,)))
    flags = pa.table({"available": available, "rule_0_1": rule, "score": pa.array(scores, pa.float32())})
    users = data.draw(st.lists(st.tuples(st.integers(0, 1), st.sets(st.integers(0, count - 1))), max_size=6))
    offsets = torch.tensor([0, *(len(own) for _, own in users)]).cumsum(0)
    refused = torch.tensor([place for _, own in users for place in sorted(own)], dtype=torch.int64)
    class_of = np.array([class_ for class_, _ in users], np.int64)
    with TemporaryDirectory() as folder:
        file = write_popularity(flags, Path(folder))
        masks = map_masks(str(write_masks(flags, classes, "", Path(folder)).file), 2)
        popular = PopularItems(str(file), masks, width)
        tops = [popular.top_k(class_of, Excluded(offsets, refused)) for _ in range(2)]  # the second from what it kept
    ranked = sorted((place for place in range(count) if available[place]), key=lambda place: (-scores[place], place))
    for row, (class_, own) in enumerate(users):
        best = [place for place in ranked if (not class_ or rule[place]) and place not in own][:width]
        for top in tops:
            assert top.positions[row].tolist() == best + [-1] * (width - len(best))
            assert top.scores[row].tolist() == [scores[place] for place in best] + [0.0] * (width - len(best))
            assert top.count[row] == len(best)


def test_a_short_list_says_what_took_the_other_candidates() -> None:
    counts = ClassCounts(1682, 12, (("adult-only", 40), ("region", 0)), 1630, "digest")
    assert shortfall(20, counts, 1615, 3) == (
        "fewer than 20 items: 1,682 candidates, 12 not available, 40 denied by rules (adult-only 40), "
        "1,615 seen, 3 denied to the user"
    )
    assert shortfall(1000, ClassCounts(7, 0, (), 7, "digest"), 0, 0) == "fewer than 1,000 items: 7 candidates"


def test_seen_and_denied_items_count_where_nothing_else_took_them() -> None:
    masks = np.array([[0b111101], [0b000001]], np.uint8)  # of six candidates: all but 1; only 0
    items = pa.array(["a", "b", "c", "d", "e", "f"], pa.large_string())
    rows = pa.RecordBatch.from_pydict({
        "rule_class": pa.array([0, 1, 0], pa.int32()),
        "seen": pa.array([["b", "c"], ["c"], None]),  # b is not eligible anyway
        "denied": pa.array([["c", "d", "gone"], ["a"], []], pa.list_(pa.string())),  # c is seen already
    })  # fmt: skip
    filtered = filtered_rows(rows, items, masks)
    assert filtered.excluded.offsets.tolist() == [0, 3, 5, 5]
    assert filtered.excluded.positions.tolist() == [1, 2, 3, 0, 2]
    classes = (ClassCounts(6, 1, (), 5, "one"), ClassCounts(6, 1, (("deny a", 4),), 1, "two"))
    assert short_reasons(5, torch.tensor([3, 0, 5]), filtered, classes) == [
        "fewer than 5 items: 6 candidates, 1 not available, 1 seen, 1 denied to the user",  # 3 are left
        "fewer than 5 items: 6 candidates, 1 not available, 4 denied by rules (deny a 4), 1 denied to the user",
        None,
    ]


@pytest.mark.parametrize(
    ("separator", "expected"), [(" ", ["a|b,", "c", "d"]), ("|", ["a", "b, c  d c"]), (", ", ["a|b", "c  d c"])]
)
def test_denied_items_are_split_at_the_separator(
    spark: SparkSession, separator: str, expected: list[str]
) -> None:
    row = spark.createDataFrame([('{"blocked":"a|b, c  d c"}',), ("{}",)], "attributes string").orderBy("attributes")
    found = row.select(denied_items(Denied("blocked", separator)).alias("items")).collect()
    assert [found[0]["items"], found[1]["items"]] == [expected, []]


def test_a_change_of_attributes_alone_touches_neither_weights_nor_histories(spark: SparkSession, frame: Frame) -> None:
    beginning, change = datetime(1970, 1, 1, tzinfo=UTC), datetime(2026, 1, 10, tzinfo=UTC)
    base = {"title": "t", "features": '{"genre":"g"}', "attributes": "{}", "available": True, "run_id": "r"}
    before = frame(ITEMS, {**base, "valid_from": beginning}, {"item_id": "changed"}, {"item_id": "same"})
    snapshot = before.select("item_id", "title", "features", "attributes", "available").withColumn(
        "attributes", F.when(F.col("item_id") == "changed", '{"age":18.0}').otherwise("{}")
    )
    after = merge_snapshot(before, compare_snapshot(before, snapshot, "item_id", True), "item_id", change, "new")
    rows = ITEMS.check(after).collect()
    held = {("changed", "{}"), ("changed", '{"age":18.0}'), ("same", "{}")}
    assert {(row["item_id"], row["attributes"]) for row in rows} == held
    assert "attributes" in ITEMS.content
    after = spark.createDataFrame(rows, ITEMS.struct)
    # what weigh_candidates compares with the weights it has, and what a history holds of an event after the change
    weighed = latest_features(after, CUT).select("item_id", "features").collect()
    assert {tuple(row) for row in weighed} == {("changed", base["features"]), ("same", base["features"])}
    event = {"user_id": "u", "event_type": "view", "sequence": 1, "source_file": "f", "run_id": "r", "event_id": "e"}
    events = frame(EVENTS, event, {"item_id": "changed", "event_ts": change + timedelta(hours=1)})
    both = as_histories(events, before, 5).union(as_histories(events, after, 5))
    assert len({row["history_digest"] for row in both.select("history_digest").collect()}) == 1


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
