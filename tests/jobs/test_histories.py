"""Histories on a handful of rows: total order, last N, features as of the event, windows that cover every target."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from jobs.histories import as_histories, as_seen
from jobs.training_windows import as_windows
from lime_model.windows import Window, cut_windows
from schemas.events import EVENTS
from schemas.items import ITEMS
from tests.conftest import Frame

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)
EVENT: dict[str, Any] = {
    "event_id": "e", "user_id": "u", "item_id": "i", "event_type": "view", "event_ts": NOON, "sequence": 1,
    "source_file": "f", "run_id": "r",
}  # fmt: skip
BEGINNING = datetime(1970, 1, 1, tzinfo=UTC)
ITEM: dict[str, Any] = {"item_id": "i", "valid_from": BEGINNING, "available": True, "run_id": "r"}


@pytest.fixture
def items(frame: Frame) -> DataFrame:
    changed = NOON + timedelta(hours=1)
    return frame(
        ITEMS,
        ITEM,
        {"valid_to": changed, "features": '{"genre":"old"}'},
        {"valid_from": changed, "features": '{"genre":"new"}'},
    )


def test_order_is_time_then_source_order_then_event_id(frame: Frame, items: DataFrame) -> None:
    events = frame(
        EVENTS,
        EVENT,
        {"event_id": "b", "item_id": "third", "sequence": 2},  # one second, one line: the id decides
        {"event_id": "a", "item_id": "second", "sequence": 2},
        {"event_id": "z", "item_id": "first", "sequence": 1},  # the source's own order before the id
        {"event_id": "c", "item_id": "last", "sequence": 0, "event_ts": NOON + timedelta(microseconds=1)},
    )
    row = as_histories(events, items, 10).collect()[0]
    assert row["item_ids"] == ["first", "second", "third", "last"]
    assert as_histories(events, items, 2).collect()[0]["item_ids"] == ["third", "last"]


def test_features_are_those_of_the_events_time(frame: Frame, items: DataFrame) -> None:
    events = frame(
        EVENTS,
        EVENT,
        {"event_id": "1", "event_ts": NOON},  # before the change
        {"event_id": "2", "event_ts": NOON + timedelta(hours=1)},  # at the change: the interval is [from, to)
        {"event_id": "3", "event_ts": NOON + timedelta(hours=2), "item_id": "unknown"},  # outside the catalogue
    )
    row = as_histories(events, items, 10).collect()[0]
    assert row["features"] == ['{"genre":"old"}', '{"genre":"new"}', "{}"]


def test_the_digest_covers_what_the_model_reads_and_nothing_else(frame: Frame, items: DataFrame) -> None:
    def digest(**change: Any) -> str:
        return str(as_histories(frame(EVENTS, EVENT, change), items, 5).collect()[0]["history_digest"])

    assert digest() == digest(run_id="other", value=3.0, event_id="other", source_file="other")
    different = [{"item_id": "j"}, {"event_type": "like"}, {"event_ts": NOON + timedelta(microseconds=1)}]
    assert len({digest(), *(digest(**change) for change in different)}) == 4


def test_seen_items_are_distinct_by_type_with_their_last_time_longer_than_n(frame: Frame) -> None:
    later = NOON + timedelta(days=1)
    rows = [{"event_id": f"e{n}", "item_id": f"i{n:03}"} for n in range(50)]
    again = {"event_id": "again", "item_id": "i007", "event_ts": later}
    liked = {"event_id": "liked", "item_id": "i007", "event_type": "like"}
    seen = as_seen(frame(EVENTS, EVENT, *rows, again, liked)).collect()[0]["seen"]
    assert len(seen) == 51
    assert seen == sorted(seen)
    found = [(s["event_type"], s["last_ts"].astimezone(UTC)) for s in seen if s["item_id"] == "i007"]
    assert found == [("like", NOON), ("view", later)]


def test_a_user_with_a_million_events_is_a_row_like_any_other(spark: SparkSession, items: DataFrame) -> None:
    """Bounded: what reaches a list is cut to N first, so the million is sorted on disk and never held as one value."""
    million = 1_000_000
    events = spark.range(0, million, 1, 4).select(
        F.col("id").cast("string").alias("event_id"),
        F.lit("u").alias("user_id"),
        (F.col("id") % 100).cast("string").alias("item_id"),
        F.lit("view").alias("event_type"),
        F.timestamp_seconds(F.lit(int(NOON.timestamp())) + F.col("id") % 1000).alias("event_ts"),  # out of order
        F.col("id").alias("sequence"),
    )
    row = as_histories(events, items, 3).collect()[0]
    last = [million - 2001, million - 1001, million - 1]  # the last second's newest lines
    assert row["item_ids"] == [str(n % 100) for n in last]
    assert len(as_seen(events).collect()[0]["seen"]) == 100
    plan = as_histories(events, items, 3)._jdf.queryExecution().optimizedPlan().toString()
    gathered, cut = plan.index("collect_list"), plan.index("from_end")
    assert gathered < cut, "events are gathered before they are cut to N"  # a plan is printed from its end


@pytest.mark.parametrize("total", [1, 3, 8, 9, 14, 15, 20])
def test_windows_are_those_of_the_plain_cut(spark: SparkSession, frame: Frame, items: DataFrame, total: int) -> None:
    n = 2
    rows = [{"event_id": f"e{k}", "item_id": f"i{k}", "sequence": k} for k in range(total)]
    found = as_windows(frame(EVENTS, EVENT, *rows), items, 4 * n, n).orderBy("window").collect()
    names = [f"i{k}" for k in range(total)]
    plain = cut_windows(Window("u", names, ["{}"] * total, ["view"] * total, [0] * total), 4 * n, n)
    assert [(w["item_ids"], w["targets_from"], w["is_last"]) for w in found] == [
        (list(w.item_ids), w.targets_from, w.is_last) for w in plain
    ]
    micros = int(NOON.timestamp() * 1_000_000)
    assert spark.createDataFrame(found).where(F.exists("event_ts", lambda t: t != micros)).isEmpty()
