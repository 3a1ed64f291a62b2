"""The expected margin against ranking every item of every cluster by hand."""

import math
from collections import defaultdict
from datetime import date

import pytest
from pyspark.sql import Row, SparkSession
from pyspark.sql import functions as F

from jobs.oracle import expected_margin, with_ranks
from jobs.planted import NOISE, WEIGHTS, Plan, interests, planted_events

PLAN = Plan(users=12, items=43, events=600, days=20, start=date(2026, 1, 1), seed=3)


def probability(slots: tuple[int, ...], cluster: int, rank: int) -> float:
    weight = sum((1 - NOISE) * w for slot, w in zip(slots, WEIGHTS, strict=True) if slot == cluster)
    return (weight + NOISE / PLAN.clusters) * math.log(1 + 1 / rank) / math.log(PLAN.per_cluster + 1)


def by_hand(rows: list[Row], judged: Row) -> int:
    """1 + the unseen items that are at least as probable."""
    slots = (judged["a"], judged["b"], judged["c"])
    own = probability(slots, judged["cluster"], judged["rank"]) * (1 - 1e-9)
    moment = (judged["event_ts"], judged["n"])
    seen = {(r["cluster"], r["rank"]) for r in rows if r["user"] == judged["user"] and (r["event_ts"], r["n"]) < moment}
    every = ((c, r) for c in range(PLAN.clusters) for r in range(1, PLAN.per_cluster + 1))
    return sum(probability(slots, *item) >= own for item in every if item not in seen)


def test_oracle_ranks_are_those_of_ranking_every_unseen_item(spark: SparkSession) -> None:
    events = planted_events(spark, PLAN)
    slots = interests(PLAN, F.col("user"), F.col("day"))
    rows = events.withColumns(dict(zip("abc", slots, strict=True))).collect()
    by_number = {row["n"]: row for row in rows}
    found = {row["n"]: row["oracle_rank"] for row in with_ranks(PLAN, events).collect()}
    assert len(found) > 10
    assert found == {n: by_hand(rows, by_number[n]) for n in found}


def test_popularity_ranks_count_only_the_days_before_and_skip_seen_items(spark: SparkSession) -> None:
    events = planted_events(spark, PLAN)
    rows = events.collect()
    counts: defaultdict[str, int] = defaultdict(int)
    for row in rows:
        counts[row["item_id"]] += row["day"] < PLAN.judged_from
    ranking = sorted((item for item in counts if counts[item]), key=lambda item: (-counts[item], item))
    for judged in with_ranks(PLAN, events).collect():
        moment = (judged["event_ts"], judged["n"])
        seen = {r["item_id"] for r in rows if r["user"] == judged["user"] and (r["event_ts"], r["n"]) < moment}
        unseen = [item for item in ranking if item not in seen]
        expected = unseen.index(judged["item_id"]) + 1 if judged["item_id"] in unseen else None
        assert judged["popularity_rank"] == expected


def test_the_oracle_beats_popularity_by_a_wide_margin(spark: SparkSession) -> None:
    plan = Plan(users=300, items=800, events=6000, days=60, start=date(2026, 1, 1), seed=1)
    margin = expected_margin(plan, planted_events(spark, plan))
    assert margin["judged_events"] > 200
    assert margin["oracle_hit_rate@10"] > 2 * margin["popularity_hit_rate@10"] > 0
    assert margin["oracle_ndcg@10"] == pytest.approx(margin["oracle_hit_rate@10"] * 0.5, rel=0.5)
