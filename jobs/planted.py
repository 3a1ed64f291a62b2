"""Synthetic events with a planted structure, as pure frames, and how well the best possible ranking does on them.

Items lie in clusters, and inside a cluster popularity is Zipf: rank r of M is drawn with probability
log(1 + 1/r) / log(M + 1). A user has three interests, each a cluster with a fixed weight that is exchanged for another
every DRIFT_DAYS days, at a time of its own; a tenth of all events ignores interests. All clusters are equally popular
over all users, so a popularity list knows the head of every cluster and nothing of the user: that is the margin
which a good model must show. It is a margin on invented behaviour: for scale and tests, never a proof of quality.

Every draw is a hash of the seed, what is drawn and its number. So the same seed gives the same rows however Spark
cuts the work, and nothing is looped over on the driver.
"""

import math
from dataclasses import dataclass
from datetime import date

from pyspark.sql import Column, DataFrame, SparkSession
from pyspark.sql import functions as F

WEIGHTS = (0.55, 0.3, 0.15)  # of the interests
NOISE = 0.1
DRIFT_DAYS = 45
SESSION_SECONDS = 3600
DAY_SECONDS = 86_400
ITEMS_PER_CLUSTER = 40
JUDGED_EVENTS = 5_000
CUT = 10
POPULARITY_DAYS = 90


@dataclass(frozen=True)
class Plan:
    """How much of what."""

    users: int
    items: int
    events: int
    days: int
    start: date
    seed: int

    @property
    def clusters(self) -> int:
        """At least four, so that interests differ."""
        return max(4, min(self.items // ITEMS_PER_CLUSTER, 1000))

    @property
    def per_cluster(self) -> int:
        """Items of a cluster that have events; what is left of the division is an item without any."""
        return max(self.items // self.clusters, 1)

    @property
    def stride(self) -> int:
        """Spreads item numbers so that an id says nothing of its popularity; shares no divisor with `items`."""
        stride = int(self.items * 0.618) | 1
        while math.gcd(stride, self.items) > 1:
            stride += 2
        return stride

    @property
    def judged_from(self) -> int:
        """The day from which events are predicted when the margin is worked out: the last tenth."""
        return self.days - max(1, self.days // 10)


def planted_events(spark: SparkSession, plan: Plan) -> DataFrame:
    """One row an event: ids, type and time, and what it was drawn from (`user`, `cluster`, `rank`, `day`)."""
    n, user = F.col("n"), F.col("user")
    sessions = max(1, plan.days // 4)
    drawn = spark.range(plan.events).select(F.col("id").alias("n"))
    # the square spreads activity: a quarter of the users makes half of the events
    drawn = drawn.withColumn("user", F.floor(plan.users * F.pow(uniform(plan, "user", n), F.lit(2.0))))
    start = uniform(plan, "session start", user, _pick(plan, "session", sessions, n)) * plan.days * DAY_SECONDS
    second = F.floor(start) + _pick(plan, "second", SESSION_SECONDS, n)
    drawn = drawn.withColumn("second", F.least(second, F.lit(plan.days * DAY_SECONDS - 1)))
    drawn = drawn.withColumn("day", F.floor(F.col("second") / DAY_SECONDS).cast("int"))
    choice, aimless = uniform(plan, "interest", n), uniform(plan, "noise", n) < NOISE
    first, second_, third = interests(plan, user, F.col("day"))
    wanted = F.when(choice < WEIGHTS[0], first).when(choice < WEIGHTS[0] + WEIGHTS[1], second_).otherwise(third)
    anywhere = _pick(plan, "any cluster", plan.clusters, n)
    drawn = drawn.withColumn("cluster", F.when(aimless, anywhere).otherwise(wanted))
    zipf = F.floor(F.pow(F.lit(plan.per_cluster + 1.0), uniform(plan, "rank", n)))
    drawn = drawn.withColumn("rank", F.least(zipf, F.lit(plan.per_cluster)))
    liked = ~aimless & (uniform(plan, "liked", n) < 0.6)
    midnight = F.lit(f"{plan.start}T00:00:00Z").cast("timestamp")
    return drawn.select(
        F.concat(F.lit("e"), n).alias("event_id"),
        user_id(user).alias("user_id"),
        item_id(plan, (F.col("rank") - 1) * plan.clusters + F.col("cluster")).alias("item_id"),
        F.when(liked, "liked").otherwise("viewed").alias("event_type"),
        F.timestamp_seconds(F.unix_timestamp(midnight) + F.col("second")).alias("event_ts"),
        *("n", "user", "cluster", "rank", "day"),
    )


def planted_items(spark: SparkSession, plan: Plan) -> DataFrame:
    """One row an item: id, title, cluster as `category`, and a `price` that means nothing."""
    item = F.col("id")
    cluster = F.concat(F.lit("cluster "), item % plan.clusters)
    title = F.concat(F.lit("Item "), F.floor(item / plan.clusters) + 1, F.lit(" of "), cluster)
    price = F.round(1 + 99 * uniform(plan, "price", item), 2)
    ids = item_id(plan, item).alias("item_id")
    return spark.range(plan.items).select(ids, title.alias("title"), cluster.alias("category"), price.alias("price"))


def planted_users(spark: SparkSession, plan: Plan) -> DataFrame:
    """One row a user, with or without events."""
    return spark.range(plan.users).select(user_id(F.col("id")).alias("user_id"))


def user_id(number: Column) -> Column:
    """A user's id."""
    return F.concat(F.lit("u"), F.lpad(number.cast("string"), 9, "0"))


def item_id(plan: Plan, number: Column) -> Column:
    """An item's id."""
    return F.concat(F.lit("i"), F.lpad(((number * plan.stride) % plan.items).cast("string"), 8, "0"))


def uniform(plan: Plan, what: str, *keys: Column) -> Column:
    """A number in [0, 1) that depends on the seed, what is drawn and its keys."""
    bits = F.shiftrightunsigned(F.xxhash64(F.lit(plan.seed), F.lit(what), *keys), 11)
    return bits / F.lit(float(2**53))


def interests(plan: Plan, user: Column, day: Column) -> list[Column]:
    """The clusters of the user's interests on a day, in the order of WEIGHTS; two may be the same."""
    found = []
    for slot in range(len(WEIGHTS)):
        phase = _pick(plan, "phase", DRIFT_DAYS, user, F.lit(slot))
        epoch = F.floor((day + phase) / DRIFT_DAYS)
        found.append(_pick(plan, "cluster", plan.clusters, user, F.lit(slot), epoch))
    return found


def _pick(plan: Plan, what: str, choices: int, *keys: Column) -> Column:
    """A whole number in [0, choices)."""
    return F.floor(uniform(plan, what, *keys) * choices)
