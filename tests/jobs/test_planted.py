"""Synthetic events: the same seed gives the same rows, and the planted structure is there."""

from collections import Counter
from dataclasses import replace
from datetime import UTC, date, datetime

import pytest
from pyspark.sql import SparkSession
from pyspark.sql import functions as F

from jobs.planted import NOISE, WEIGHTS, Plan, interests, planted_events, planted_items, planted_users

PLAN = Plan(users=50, items=200, events=4000, days=60, start=date(2026, 1, 1), seed=7)


def test_the_same_seed_gives_the_same_rows_however_the_work_is_cut(spark: SparkSession) -> None:
    whole = planted_events(spark, PLAN)
    cores = spark.sparkContext.defaultParallelism
    cut = planted_events(spark, PLAN).repartition(cores + 3)
    assert whole.exceptAll(cut).isEmpty()
    # the range itself cut otherwise: a longer range puts other rows into each task, and the first ones stay
    longer = planted_events(spark, replace(PLAN, events=9000)).where(F.col("n") < PLAN.events)
    assert whole.exceptAll(longer).isEmpty()
    assert whole.count() == PLAN.events


def test_another_seed_gives_other_rows(spark: SparkSession) -> None:
    one, other = (planted_events(spark, replace(PLAN, seed=seed)).select("n", "item_id") for seed in (7, 8))
    assert one.join(other, on=["n", "item_id"], how="inner").count() < PLAN.events / 4


def test_events_lie_inside_the_days_and_name_items_and_users_of_the_files(spark: SparkSession) -> None:
    events = planted_events(spark, PLAN)
    first, last = events.agg(F.min("event_ts"), F.max("event_ts")).collect()[0]
    assert datetime(2026, 1, 1, tzinfo=UTC) <= first.astimezone(UTC)
    assert last.astimezone(UTC) < datetime(2026, 3, 2, tzinfo=UTC)
    items, users = planted_items(spark, PLAN), planted_users(spark, PLAN)
    assert items.select("item_id").distinct().count() == items.count() == PLAN.items
    assert users.select("user_id").distinct().count() == PLAN.users
    assert events.join(items, on=["item_id"], how="left_anti").isEmpty()
    assert events.join(users, on=["user_id"], how="left_anti").isEmpty()
    # what the event was drawn from is what the catalogue says of the item
    wrong = events.join(items, on=["item_id"], how="inner").where(
        F.col("category") != F.concat(F.lit("cluster "), F.col("cluster"))
    )
    assert wrong.isEmpty()


def test_inside_a_cluster_popularity_is_zipf(spark: SparkSession) -> None:
    counts: Counter[int] = Counter()
    for row in planted_events(spark, PLAN).groupBy("rank").count().collect():
        counts[row["rank"]] = row["count"]
    # log(1 + 1/r) / log(M + 1): the first item against the second and the fourth
    assert counts[1] / counts[2] == pytest.approx(0.693 / 0.405, rel=0.15)
    assert counts[1] / counts[4] == pytest.approx(0.693 / 0.223, rel=0.2)


def test_most_events_follow_the_interests_of_their_day(spark: SparkSession) -> None:
    events = planted_events(spark, PLAN)
    slots = interests(PLAN, F.col("user"), F.col("day"))
    share = events.agg(F.avg((F.col("cluster") == slots[0]).cast("double"))).collect()[0][0]
    # the first interest's weight, and what falls there by another interest or by chance
    least = (1 - NOISE) * WEIGHTS[0]
    assert least - 0.03 < share < least + 0.2


def test_interests_drift_one_at_a_time(spark: SparkSession) -> None:
    plan = replace(PLAN, items=8000)  # 200 clusters: two draws of the same one are rare
    days = spark.range(46).select(F.col("id").alias("day"))
    rows = days.select("day", *[c.alias(f"s{i}") for i, c in enumerate(interests(plan, F.lit(3), F.col("day")))])
    found = [(row["s0"], row["s1"], row["s2"]) for row in rows.orderBy("day").collect()]
    changes = [sum(a != b for a, b in zip(*pair, strict=True)) for pair in zip(found[:-1], found[1:], strict=True)]
    assert sum(changes) == 3  # each slot once in 45 days
    assert max(changes) == 1
