"""`serving_recommendations` before tonight, `events` since -> figures in `runs`. Grain: one row a night.

Scores the lists that were served until tonight on what their users did next: NDCG@10 and hit rate@10, binary
relevance, where relevant is every item of the new events that the user's seen filter let pass at the time of the
list. The same users' popularity list of that time is the yardstick. Figures are sums and sums of squares over
users, so that nights pool by adding. Lists that were the popularity list are counted apart.

Bounds: at most USERS_PER_NIGHT users, chosen by hash; the popularity list is cut from the POPULAR_ITEMS items on top,
so it ends early for whoever has seen all but a few of them.
"""

import dataclasses
import math
from collections.abc import Sequence
from datetime import UTC, date, datetime, timedelta

from pyspark.sql import Column, DataFrame, Window
from pyspark.sql import functions as F

from jobs.config import ScoreConfig
from jobs.intervals import as_of
from jobs.lake import Commit, Lake
from jobs.popularity import popular_items
from jobs.stage import Night, StageReport, job_parser, run_alone, timestamp
from schemas.events import EVENTS
from schemas.items import ITEMS
from schemas.recommendations import MODEL, POPULARITY
from schemas.serving_recommendations import SERVING_RECOMMENDATIONS

STAGE = "evaluate_lists"
CUT = 10
USERS_PER_NIGHT = 10_000
POPULAR_ITEMS = 2_000
DIFFERENCE = "difference"
MEASURES = ("ndcg", "hit")

DISCOUNTS = [1 / math.log2(rank + 1) for rank in range(1, CUT + 1)]


def run(night: Night) -> StageReport:
    """Judge the lists of the newest publication of an earlier date by the events since its cut-off."""
    lake = night.lake
    commit = served_before(publications(lake, night.logical_date), night.logical_date)
    if commit is None or not lake.exists(EVENTS):
        return StageReport(metrics={"users": 0.0})
    then = dataclasses.replace(night, logical_date=date.fromisoformat(str(commit.stamp["logical_date"])))
    events = lake.read(EVENTS).where(F.col("event_ts") < timestamp(night.cutoff))
    active = events.where(F.col("event_ts") >= timestamp(then.cutoff)).select("user_id").distinct()
    chosen = limit_users(active, USERS_PER_NIGHT).collect()  # at most USERS_PER_NIGHT ids
    found = {"users": 0.0}
    if chosen:
        users = F.broadcast(lake.spark.createDataFrame(chosen, "user_id string"))
        theirs = events.join(users, on=["user_id"], how="left_semi")
        lists = lake.read(SERVING_RECOMMENDATIONS, commit.version).join(users, on=["user_id"], how="left_semi")
        pairs = with_popularity_rank(as_pairs(theirs, night.config.score, then.cutoff), _ranking(then))
        row = as_judged_users(pairs, lists, night.config.score.k).agg(*figures()).first()
        found = {name: float(value) for name, value in row.asDict().items() if value is not None} if row else found
    # lists that a rollback brought back are those that were judged before: one list, the longest time
    version = float(str(commit.inputs.get("restored", commit.version)))
    metrics = {**found, "served_version": version, **_window(then.cutoff, night.cutoff)}
    return _report(metrics, active.count() if len(chosen) == USERS_PER_NIGHT else len(chosen))


def _ranking(then: Night) -> DataFrame:
    """The popularity list as it was: (item_id, place), POPULAR_ITEMS rows."""
    available = as_of(then.lake.read(ITEMS), then.cutoff).where("available")
    popular = popular_items(then, then.lake.read(EVENTS), available, POPULAR_ITEMS)
    places = [(item, place) for place, (item, _) in enumerate(popular, start=1)]
    return then.lake.spark.createDataFrame(places, "item_id string, place int")


def publications(lake: Lake, night: date) -> list[Commit]:
    """Commits of `serving_recommendations` that name their night, newest first, back to one of before `night`."""
    dated = []
    for commit in lake.commits(SERVING_RECOMMENDATIONS):
        if "logical_date" in commit.stamp:
            dated.append(commit)
            if served_before([commit], night):
                break
    return dated


def served_until(commits: Sequence[Commit], night: date) -> Commit | None:
    """The newest of `publications` that serves `night` or a date before; None where there is none."""
    return next((c for c in commits if date.fromisoformat(str(c.stamp["logical_date"])) <= night), None)


def served_before(commits: Sequence[Commit], night: date) -> Commit | None:
    """The newest of `publications` that serves a date before `night`."""
    return served_until(commits, night - timedelta(days=1))


def limit_users(active: DataFrame, count: int) -> DataFrame:
    """At most `count` users, the same ones however the rows lie. `active` is unique by user_id."""
    return active.orderBy(F.xxhash64("user_id"), "user_id").limit(count)


def as_pairs(events: DataFrame, config: ScoreConfig, cutoff: datetime) -> DataFrame:
    """Grain: from events to (user, item): `seen`, which the filter held back at `cutoff`, and `relevant`.

    Relevant is an item that the user took since and a list of that time could have held.
    """
    before = F.col("event_ts") < timestamp(cutoff)
    seen = before
    if config.seen_types:
        seen &= F.col("event_type").isin(*config.seen_types)
    if config.seen_days:
        seen &= F.col("event_ts") >= timestamp(cutoff - timedelta(days=config.seen_days))
    # Users lie together from here on: everything that follows groups by user.
    together = events.repartition("user_id").groupBy("user_id", "item_id")
    pairs = together.agg(F.max(seen).alias("seen"), F.max(~before).alias("taken"))
    return pairs.select("user_id", "item_id", "seen", (F.col("taken") & ~F.col("seen")).alias("relevant"))


def with_popularity_rank(pairs: DataFrame, ranking: DataFrame) -> DataFrame:
    """Add `popular_rank`, an item's in the user's own popularity list; null outside it. Rows kept.

    `ranking` (item_id, place) is unique by item. A user's rank is the place less the seen items on better
    places, so no user-by-item list is ever made.
    """
    placed = pairs.join(F.broadcast(ranking), on=["item_id"], how="left")
    better = Window.partitionBy("user_id").orderBy("place").rowsBetween(Window.unboundedPreceding, 0)
    passed = F.count_if(F.col("seen") & F.col("place").isNotNull()).over(better)
    return placed.withColumn("popular_rank", (F.col("place") - passed).cast("int"))


def as_judged_users(pairs: DataFrame, lists: DataFrame, k: int) -> DataFrame:
    """Grain: from pairs to users with a relevant item: `source` of their list (null: none), ndcg and hit of both.

    `lists` is unique by user. Both lists end at `k`.
    """
    served = lists.select("user_id", "source", F.col("items.item_id").alias("served"))
    found = pairs.where("relevant").join(F.broadcast(served), on=["user_id"], how="left")
    ideal = F.get(_floats([sum(DISCOUNTS[:n]) for n in range(1, CUT + 1)]), F.least("relevant", F.lit(CUT)) - 1)
    # a list is kept best first, so the position is the rank; 0 where the item is not in it
    model, popularity = (
        _gain(F.array_position("served", F.col("item_id"))),
        _gain(_up_to(F.col("popular_rank"), k)),
    )
    users = found.groupBy("user_id").agg(
        F.first("source").alias("source"),
        F.count("*").cast("int").alias("relevant"),
        F.sum(model).alias(MODEL),
        F.sum(popularity).alias(POPULARITY),
    )
    judged = [
        column
        for who in (MODEL, POPULARITY)
        for column in (
            (F.col(who) / ideal).alias(f"{who}_ndcg"),
            (F.col(who) > 0).cast("double").alias(f"{who}_hit"),
        )
    ]
    return users.select("user_id", "source", *judged)


def figures() -> list[Column]:
    """Over judged users: users, sums and sums of squares by list and measure; and who was left out."""
    ours = F.col("source") == MODEL
    columns = [
        F.count_if(ours).alias("users"),
        F.count_if(F.col("source") == POPULARITY).alias("popularity_list_users"),
        F.count_if(F.col("source").isNull()).alias("users_without_list"),
        F.sum(F.when(F.col("source") == POPULARITY, F.col("model_hit"))).alias("popularity_list_hits"),
    ]
    for measure in MEASURES:
        values = {who: F.col(f"{who}_{measure}") for who in (MODEL, POPULARITY)}
        values[DIFFERENCE] = values[MODEL] - values[POPULARITY]
        for who, value in values.items():
            kept = F.when(ours, value)
            columns += [
                F.sum(kept).alias(f"{who}_{measure}_sum"),
                F.sum(kept * kept).alias(f"{who}_{measure}_sq"),
            ]
    return columns


def _gain(rank: Column) -> Column:
    """What one relevant item adds to the DCG at its rank; 0 below the cut or outside the list (rank 0 or null)."""
    return F.coalesce(F.get(_floats(DISCOUNTS), rank.cast("int") - 1), F.lit(0.0))


def _up_to(rank: Column, k: int) -> Column:
    """The rank, or null below the end of the list."""
    return F.when(rank <= k, rank)


def _floats(values: list[float]) -> Column:
    return F.array(*[F.lit(value) for value in values])


def _window(start: datetime, end: datetime) -> dict[str, float]:
    """The judged time as epoch seconds: `runs` keeps numbers only."""
    return {"from_epoch": start.astimezone(UTC).timestamp(), "until_epoch": end.astimezone(UTC).timestamp()}


def _report(metrics: dict[str, float], active: int) -> StageReport:
    """Users in and judged; everybody active is counted once."""
    users, fallback, without = (
        int(metrics.get(name, 0)) for name in ("users", "popularity_list_users", "users_without_list")
    )
    chosen = min(active, USERS_PER_NIGHT)
    dropped = {
        "popularity list": fallback,
        "no list": without,
        "no unseen item": chosen - users - fallback - without,
        "beyond the sample": active - chosen,
    }
    return StageReport(active, users, {reason: n for reason, n in dropped.items() if n}, metrics)


def main(argv: list[str] | None = None) -> int:
    """`lime evaluate-lists`."""
    args = job_parser(STAGE, "Judge the lists served before the date by what their users did next.").parse_args(argv)
    return run_alone(args, STAGE, run)
