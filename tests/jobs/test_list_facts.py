"""Facts of served lists, on arrow tables of a few lists."""

import pyarrow as pa
import pytest
from pyspark.sql import SparkSession

from jobs import list_facts
from jobs.list_facts import BINS, overlap, places_by_item, read_lists, scores, shares
from schemas.serving_recommendations import SERVING_RECOMMENDATIONS


def lists(*rows: tuple[str, str, str | list[str], list[float]]) -> pa.Table:
    """(user, source, items as letters, scores)."""
    made = [{"user_id": u, "source": s, "item_ids": list(items), "scores": found} for u, s, items, found in rows]
    return pa.Table.from_pylist(made)


NOW = lists(("u", "model", "abc", [3.0, 2.0, 1.0]), ("v", "model", "bc", [5.0, 4.0]), ("p", "popularity", "a", [900.0]))


def test_overlap_counts_kept_items_of_users_who_had_a_list() -> None:
    before = lists(("u", "model", "cba", [0.0] * 3), ("v", "model", "xb", [0.0] * 2), ("gone", "model", "a", [0.0]))
    assert overlap(NOW, before) == {3: 1, 1: 1}


def test_scores_are_the_models_alone_by_rank_and_in_bins() -> None:
    found = scores(NOW)
    assert [row.rank for row in found.by_rank] == [1, 2, 3]
    assert found.by_rank[0].middle == 4.0  # of 3 and 5
    assert found.by_rank[2].low == found.by_rank[2].high == 1.0  # one list is that long
    assert len(found.counts) == BINS
    assert sum(found.counts) == 5
    assert (found.edges[0], found.edges[-1]) == (1.0, 5.0)


def test_lists_without_a_model_have_no_scores() -> None:
    assert scores(lists(("p", "popularity", "a", [1.0]))).by_rank == ()


def test_shares_cut_the_catalogue_by_popularity() -> None:
    events = {"i099": 20, "i001": 30, "i000": 50}
    ids = [f"i{n:03d}" for n in reversed(range(100))]
    items = pa.table({"item_id": ids, "events": [events.get(item, 0) for item in ids]})
    listed = lists(*[("u", "model", [item], [1.0]) for item in ("i000", "i001", "i000", "i000", "gone")])
    parts = shares(items, places_by_item(listed))
    assert [(part.start, part.end) for part in parts][:2] == [(0.0, 0.01), (0.01, 0.05)]
    assert [part.items for part in parts] == [1, 4, 15, 30, 50]
    assert [part.events for part in parts] == pytest.approx([0.5, 0.5, 0, 0, 0])
    assert [part.places for part in parts] == pytest.approx([0.75, 0.25, 0, 0, 0])


def test_every_place_of_every_list_is_counted() -> None:
    assert sorted(places_by_item(NOW).to_pylist(), key=lambda place: place["values"]) == [
        {"values": item, "counts": 2} for item in "abc"
    ]


def test_more_lists_than_fit_are_sampled_by_hash(spark: SparkSession, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(list_facts, "SAMPLED_LISTS", 50)
    rows = [(f"u{n}", 0, [(1, "a", 0.5)], "model", "m", "r") for n in range(200)]
    table = spark.createDataFrame(rows, SERVING_RECOMMENDATIONS.struct)
    sampled = read_lists(table, 200)
    assert 25 < len(sampled) < 90  # a quarter, as far as a hash is fair
    assert sampled["user_id"].to_pylist() == read_lists(table, 200)["user_id"].to_pylist()
    assert len(read_lists(table.limit(50), 50)) == 50
