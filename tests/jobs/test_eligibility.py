"""Bitsets of rule classes: their bits, padding, counts and digests, on hand-made flags and from tables to tasks."""

import json
from dataclasses import replace
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch
from pyspark.sql import DataFrame, SparkSession

from jobs.config import Config, EventSource, Feature, ItemSource, LakeConfig, ScoreConfig, UserSource
from jobs.eligibility import chosen, filter_settings, map_masks, write_masks
from jobs.filters import FilterTables, ship_filters, shipped_masks, shipped_popularity, with_filters
from jobs.intervals import as_of
from jobs.lake import Lake
from jobs.rule_config import Denied, Rule
from jobs.rules import UserClasses
from jobs.stage import Night
from lime_model.scoring.lists import Excluded
from schemas.errors import EmptyTableError, InputError
from schemas.events import EVENTS
from schemas.items import ITEMS
from schemas.users import USERS
from tests.conftest import Frame
from tests.jobs.rule_reference import allowed, item_of

DAY, CUT = date(2026, 1, 10), datetime(2026, 1, 11, tzinfo=UTC)
EARLY = datetime(1970, 1, 1, tzinfo=UTC)
DENY = Rule("deny", "genre", ("adult",), "country", ("x",), name="adult-only")
RULES = (DENY, Rule("minimum", "age", user="age"), Rule("match", "region", user="country"))


def night(spark: SparkSession, folder: Path, **score: Any) -> Night:
    words, number = Feature("x"), Feature("x", "numeric")
    items = ItemSource("csv", "none", {"item_id": "i"}, {"genre": words}, {"age": number, "region": words})
    users = UserSource("csv", "none", {"user_id": "u"}, {name: name for name in ("age", "country", "blocked")})
    events = EventSource("csv", "none", {"user_id": "u", "item_id": "i", "event_ts": "t"})
    config = Config(LakeConfig(f"{folder}/lake"), events, items, users, score=ScoreConfig(**score))
    return Night(Lake(spark, config.lake.root), config, DAY, "run")


def flags(count: int, **columns: list[bool]) -> pa.Table:
    every = {"available": [True] * count, "score": [0.0] * count, **columns}
    return pa.table({name: pa.array(values) for name, values in every.items()})


ONE = UserClasses((), (), ((),))


@pytest.mark.parametrize(("count", "width"), [(1, 8), (63, 8), (64, 8), (65, 16), (129, 24)])
def test_rows_are_whole_groups_and_the_padding_is_zero(tmp_path: Path, count: int, width: int) -> None:
    found = write_masks(flags(count), ONE, "", tmp_path)
    masks = map_masks(str(found.file), 1)
    assert masks.shape == (1, width)
    assert np.unpackbits(masks[0], bitorder="little").tolist() == [1] * count + [0] * (width * 8 - count)
    assert found.classes[0].eligible == found.classes[0].candidates == count


def test_each_candidate_counts_once_at_the_first_reason_that_holds(tmp_path: Path) -> None:
    rules = (Rule("deny", "a", ("x",)), Rule("deny", "b", ("x",), "u", ("v",)))
    classes = UserClasses(rules, ((), ()), ((1, 0), (1, 1)))
    columns = {
        "available": [False, True, True, True, True],
        "rule_0_1": [False, False, True, True, True],  # item 0 is not available anyway
        "rule_1_1": [True, False, False, True, True],  # item 1 was taken by the rule before
    }
    found = write_masks(flags(5, **columns), classes, "", tmp_path)
    first, second = found.classes
    assert (first.unavailable, first.removed, first.eligible) == (1, (("deny a", 1), ("deny b", 0)), 3)
    assert (second.unavailable, second.removed, second.eligible) == (1, (("deny a", 1), ("deny b", 1)), 2)
    masks = map_masks(str(found.file), 2)
    assert [int(row[0]) for row in masks] == [0b11100, 0b11000]
    assert chosen(masks[0], np.array([4, 1, 2])).tolist() == [True, False, True]


def test_digests_cover_bits_items_and_the_filters_settings_and_nothing_else(tmp_path: Path) -> None:
    def digest(score: ScoreConfig, items: str = "ids", count: int = 5) -> str:
        return write_masks(flags(count), ONE, filter_settings(score, items), tmp_path).classes[0].digest

    same = digest(ScoreConfig())
    assert digest(ScoreConfig(k=3, partitions=9, max_rule_classes=2)) == same
    others = [
        digest(ScoreConfig(), "other ids"),
        digest(ScoreConfig(), count=4),
        digest(ScoreConfig(seen_types=("like",))),
        digest(ScoreConfig(seen_days=3)),
        digest(ScoreConfig(denied=Denied("blocked"))),
        digest(ScoreConfig(denied=Denied("blocked", ","))),
        digest(ScoreConfig(rules=RULES)),
    ]
    assert len({same, *others}) == 8
    names = {write_masks(flags(count), ONE, "", tmp_path).file.name for count in (4, 5, 5)}
    assert len(names) == 2
    assert sorted(file.name for file in tmp_path.iterdir()) == sorted(names)


def tables(frame: Frame) -> tuple[dict[str, dict[str, Any]], dict[str, dict[str, str]], dict[str, DataFrame]]:
    """Items of the night (those not available are left out), users, and the tables; ids in no helpful order."""
    random = np.random.default_rng(7)
    ids = ["Z", "a", "é", "𝒳", "~", *[f"i{n}" for n in range(70)]]
    rows, items = [], {}
    for n, item in enumerate(ids):
        attributes = {"age": float(random.integers(10, 14)), "region": ["x", "y"][: random.integers(1, 3)]}
        some = {name: value for name, value in attributes.items() if random.random() < 0.6}
        features = {"genre": ["adult", "other"]} if n % 7 == 0 else {}
        text = {"features": json.dumps(features), "attributes": json.dumps(some)}
        row = {"item_id": item, **text}
        if n % 10 == 3:  # withdrawn on the date: what it was before and will be again does not count
            rows += [{**row, "valid_to": CUT.replace(day=9)}, {**row, "valid_from": CUT}]
            rows += [{**row, "valid_from": CUT.replace(day=9), "valid_to": CUT, "available": False}]
        elif n % 10 == 6:  # left the catalogue before the cut-off
            rows += [{**row, "valid_to": CUT.replace(day=9)}]
        else:
            rows += [row]
            items[item] = item_of(text["attributes"], text["features"])
    users: dict[str, dict[str, str]] = {
        "none": {}, "adult": {"age": "30", "country": "x"}, "teen": {"age": "12", "country": "y"},
        "far": {"age": "13", "country": "q", "blocked": "Z gone i5 i5"}, "child": {"age": "9"},
    }  # fmt: skip
    base = {"valid_from": EARLY, "available": True, "run_id": "r", "user_bucket": 0}
    people = [{"user_id": user, "attributes": json.dumps(attributes)} for user, attributes in users.items()]
    event = {"user_id": "u", "event_type": "view", "sequence": 1, "source_file": "f", "run_id": "r"}
    taken = [{"item_id": f"i{n % 9}", "event_id": str(n), "event_ts": CUT.replace(day=10)} for n in range(40)]
    return items, users, {
        "items": frame(ITEMS, base, *rows), "users": frame(USERS, base, *people), "events": frame(EVENTS, event, *taken)
    }  # fmt: skip


def test_every_user_gets_exactly_what_the_reference_allows(
    spark: SparkSession, frame: Frame, tmp_path: Path
) -> None:
    items, users, found = tables(frame)
    made = night(spark, tmp_path, rules=RULES, denied=Denied("blocked"))
    candidates = found["items"].select("item_id").distinct()
    people = as_of(found["users"], CUT)
    inputs = FilterTables(candidates, as_of(found["items"], CUT), people, found["events"])
    filters = ship_filters(made, inputs, "ids", tmp_path)
    order = sorted({row["item_id"] for row in candidates.collect()}, key=str.encode)
    masks = shipped_masks(filters.masks, len(filters.classes))
    popular = shipped_popularity(filters, 8)
    counts = {f"i{n}": len(range(n, 40, 9)) for n in range(9)}
    for row in with_filters(people, filters).collect():
        user, class_ = row["user_id"], row["rule_class"]
        own = [item for item in order if item in items and all(allowed(r, items[item], users[user]) for r in RULES)]
        bits = np.unpackbits(masks[class_], bitorder="little")
        assert [order[place] for place in np.flatnonzero(bits)] == own, user
        reasons = filters.classes[class_]
        assert reasons.eligible == len(own)
        assert reasons.unavailable == len(order) - len(items)
        assert reasons.unavailable + sum(n for _, n in reasons.removed) + reasons.eligible == len(order)
        assert set(row["denied"]) == ({"Z", "gone", "i5"} if user == "far" else set())
        refused = torch.tensor(sorted(order.index(item) for item in row["denied"] if item in order), dtype=torch.int64)
        top = popular.top_k(np.array([class_]), Excluded(torch.tensor([0, len(refused)]), refused))
        ranked = sorted((i for i in own if i not in row["denied"]), key=lambda i: (-counts.get(i, 0), i.encode()))
        assert [order[place] for place in top.positions[0]] == ranked[:8]
        assert top.scores[0].tolist() == [counts.get(item, 0) for item in ranked[:8]]
    assert len({counts.digest for counts in filters.classes}) == len(filters.classes)
    assert filters.metrics["removed by adult-only"] == max(dict(c.removed)["adult-only"] for c in filters.classes)


def test_a_night_without_available_candidates_is_refused(
    spark: SparkSession, frame: Frame, tmp_path: Path
) -> None:
    _, _, found = tables(frame)
    unknown = spark.createDataFrame([("not in the catalogue",)], "item_id string")
    items = as_of(found["items"], CUT)
    inputs = FilterTables(unknown, items.where("false"), as_of(found["users"], CUT), found["events"])
    with pytest.raises(EmptyTableError, match="expected available items with weights"):
        ship_filters(night(spark, tmp_path), inputs, "ids", tmp_path)
    with pytest.raises(InputError, match=r"expected weights of every available item, found none of \d+ items"):
        ship_filters(night(spark, tmp_path), replace(inputs, items=items), "ids", tmp_path)
