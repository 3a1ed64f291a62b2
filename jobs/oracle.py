"""How often the best possible list, and the popularity list, hold the next new item of planted events.

The oracle knows each user's interests of the day and ranks by the true probability; popularity counts the events
before the judged days. Both leave out what the user has seen. A model lies between the two; how far is its quality
on this data and says nothing of any other.
"""

import math
from collections.abc import Sequence

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from jobs.planted import CUT, JUDGED_EVENTS, NOISE, POPULARITY_DAYS, WEIGHTS, Plan, interests

POPULAR_ITEMS = 2_000
SLACK = 1 - 1e-9  # equal probabilities must compare as equal however they were rounded


def expected_margin(plan: Plan, events: DataFrame) -> dict[str, float]:
    """Hit rate@10 and NDCG@10 of the oracle and of popularity, over about JUDGED_EVENTS of the last days' events.

    `events` is `planted_events`, which is read three times. Collects one row.
    """
    judged = with_ranks(plan, events)
    columns = [F.count("*").alias("judged_events")]
    for who in ("oracle", "popularity"):
        hit = F.col(f"{who}_rank") <= CUT
        gain = F.when(hit, 1 / F.log2(F.col(f"{who}_rank") + 1)).otherwise(0.0)
        columns += [F.avg(F.coalesce(hit, F.lit(False)).cast("double")).alias(f"{who}_hit_rate@10")]
        columns += [F.avg(gain).alias(f"{who}_ndcg@10")]
    row = judged.agg(*columns).first()
    return {name: float(value) for name, value in row.asDict().items() if value is not None} if row else {}


def with_ranks(plan: Plan, events: DataFrame) -> DataFrame:
    """Grain: judged events whose item is new to the user, with `oracle_rank` and `popularity_rank` (null: unranked)."""
    judged = _judged_events(plan, events).alias("j")
    earlier = events.select("user", "n", "event_ts", "item_id", "cluster", "rank").alias("s")
    before = (F.col("s.event_ts") < F.col("j.event_ts")) | (
        (F.col("s.event_ts") == F.col("j.event_ts")) & (F.col("s.n") < F.col("j.n"))
    )
    # at most JUDGED_EVENTS judged rows, or a few more, so the join is as long as their users' histories
    seen = judged.join(earlier, on=(F.col("s.user") == F.col("j.user")) & before, how="inner")
    placed = _places(plan, events)
    seen = seen.select(
        "j.*", F.col("s.item_id").alias("seen"), F.col("s.cluster").alias("c"), F.col("s.rank").alias("r")
    )
    seen = seen.join(F.broadcast(placed.withColumnRenamed("item_id", "seen")), on=["seen"], how="left")
    own = F.broadcast(placed.withColumnRenamed("place", "own_place"))
    slots = [F.col(f"slot{i}") for i in range(len(WEIGHTS))]
    better = _probability(plan, slots, F.col("c"), F.col("r")) >= F.col("p") * SLACK
    counts = (
        seen.join(own, on=["item_id"], how="left")
        .groupBy("n")
        .agg(
            F.count_distinct(F.when(better, F.col("seen"))).alias("seen_better"),
            F.count_distinct(F.when(F.col("place") < F.col("own_place"), F.col("seen"))).alias("seen_places"),
            F.max(F.col("seen") == F.col("item_id")).alias("again"),
        )
    )
    ranked = judged.join(counts, on=["n"], how="left").join(
        own, on=["item_id"], how="left"
    )  # both unique by their keys
    ranked = ranked.where(~F.coalesce("again", F.lit(False)))
    oracle = F.col("ahead") - F.coalesce("seen_better", F.lit(0))
    popularity = F.col("own_place") - F.coalesce("seen_places", F.lit(0))
    return ranked.withColumns({"oracle_rank": oracle, "popularity_rank": popularity})


def _judged_events(plan: Plan, events: DataFrame) -> DataFrame:
    """A sample of the last days' events with the user's interests, the item's probability `p`, and `ahead`.

    `ahead` counts the items that are at least as probable, the item itself among them.
    """
    late = events.where(F.col("day") >= plan.judged_from)
    expected = plan.events * (plan.days - plan.judged_from) / plan.days
    every = max(1, round(expected / JUDGED_EVENTS))
    sampled = late.where(F.pmod(F.xxhash64(F.lit(plan.seed), F.lit("judged"), "n"), F.lit(every)) == 0)
    clusters = interests(plan, F.col("user"), F.col("day"))
    sampled = sampled.withColumns({f"slot{i}": column for i, column in enumerate(clusters)})
    slots = [F.col(f"slot{i}") for i in range(len(WEIGHTS))]
    with_p = sampled.withColumn("p", _probability(plan, slots, F.col("cluster"), F.col("rank")))
    ahead, other = F.lit(0), F.lit(plan.clusters)
    for i, slot in enumerate(slots):
        first = ~slot.isin(slots[:i]) if i else F.lit(True)
        ahead = ahead + F.when(first, _at_least(plan, _weight(plan, slots, slot))).otherwise(0)
        other = other - first.cast("int")
    nothing = F.lit(NOISE / plan.clusters)
    return with_p.withColumn("ahead", ahead + other * _at_least(plan, nothing))


def _weight(plan: Plan, slots: Sequence[Column], cluster: Column) -> Column:
    """The probability of a cluster given the user's interests."""
    wanted = sum(
        (
            F.when(slot == cluster, (1 - NOISE) * weight).otherwise(0.0)
            for slot, weight in zip(slots, WEIGHTS, strict=True)
        ),
        F.lit(0.0),
    )
    return wanted + NOISE / plan.clusters


def _probability(plan: Plan, slots: Sequence[Column], cluster: Column, rank: Column) -> Column:
    """The probability of the item at `rank` of a cluster."""
    return _weight(plan, slots, cluster) * F.log(1 + 1 / rank) / math.log(plan.per_cluster + 1)


def _at_least(plan: Plan, weight: Column) -> Column:
    """How many items of a cluster of that weight are at least as probable as `p`: rank r is while
    weight * log(1 + 1/r) / log(M + 1) >= p.
    """
    needed = F.exp(F.col("p") * SLACK * math.log(plan.per_cluster + 1) / weight) - 1
    return F.least(F.floor(1 / needed), F.lit(plan.per_cluster))


def _places(plan: Plan, events: DataFrame) -> DataFrame:
    """The popularity list before the judged days: (item_id, place), unique by item; POPULAR_ITEMS rows."""
    known = events.where(F.col("day").between(plan.judged_from - POPULARITY_DAYS, plan.judged_from - 1))
    counts = known.groupBy("item_id").agg(F.count("*").alias("events"))
    best = counts.orderBy(F.col("events").desc(), "item_id").limit(POPULAR_ITEMS)
    order = F.array_sort(F.collect_list(F.struct((-F.col("events")).alias("order"), "item_id")))
    places = best.agg(order.alias("items")).select(F.posexplode("items").alias("place", "item"))
    return places.select(F.col("item.item_id").alias("item_id"), (F.col("place") + 1).alias("place"))
