"""What of the last lists still stands tonight: whose inputs are as they were, which candidates must be scored again.

A list follows from its user's links, attributes, seen items and the rules that bind him, of which its row keeps a
hash; from the candidates, whose state tonight is compared with their state at the versions and the cut-off of the last
lists; and from the other settings, which its commit names. Where package or settings moved, or a version is gone, all
lists are made in full.
"""

import json
import logging
from dataclasses import asdict, dataclass, replace
from datetime import date, datetime, timedelta
from hashlib import sha256

from py4j.protocol import Py4JJavaError
from pyspark.errors import PySparkException
from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from jobs.changes import is_let_go
from jobs.config import ScoreConfig
from jobs.intervals import as_of
from jobs.lake import Commit
from jobs.stage import Night, timestamp
from schemas.candidate_weights import CANDIDATE_WEIGHTS
from schemas.contract import TableContract
from schemas.items import ITEMS
from schemas.recommendations import MODEL, RECOMMENDATIONS

KEPT = (
    "struct<entries: array<struct<item_id: string, score: float>>, "
    "floor: struct<item_id: string, score: float>, numerics_id: string>"
)
_ELSEWHERE = (
    "partitions", "device", "gpu_amount", "popularity_days", "max_rule_classes", "pairs_per_group", "audited_users",
    "rules",
)  # fmt: skip
"""Settings that no list of the model depends on, and rules: those that bind a user are in the hash of his row.

The popularity lists are made anew every night.
"""

log = logging.getLogger("lime")


@dataclass(frozen=True)
class LastLists:
    """The commit of `recommendations` that tonight's lists may be merged from, and its night's cut-off."""

    commit: Commit
    cutoff: datetime

    def version(self, contract: TableContract) -> int:
        """The version that the last lists were made from."""
        return int(self.commit.reads[contract.name])


def settings_digest(config: ScoreConfig) -> str:
    """Of what a list of the model depends on."""
    chosen = {name: value for name, value in asdict(config).items() if name not in _ELSEWHERE}
    return sha256(json.dumps(chosen, sort_keys=True).encode()).hexdigest()[:16]


def last_lists(night: Night, stage: str, model: str) -> LastLists | None:
    """The last lists, if `stage` made them by this package under these settings, for tonight or a night before."""
    commit = night.lake.last_commit(RECOMMENDATIONS, stage)
    if commit is None or night.lake.changed_since(RECOMMENDATIONS, commit.version):  # by another hand
        return None
    cutoff = replace(night, logical_date=date.fromisoformat(str(commit.stamp["logical_date"]))).cutoff
    made_by = (commit.inputs.get("model_digest"), commit.inputs.get("settings"))
    stands = made_by == (model, settings_digest(night.config.score)) and cutoff <= night.cutoff
    return LastLists(commit, cutoff) if stands else None


def changed_items(night: Night, last: LastLists, model: str, most: int) -> list[str] | None:
    """Ids of items whose weights, availability, attributes or features differ from those the last lists were made from.

    None where there are more than `most`, or where a version of then is gone. Collects at most `most` ids.
    """
    lake, of_model = night.lake, F.col("model_digest") == model
    weights, items = lake.read(CANDIDATE_WEIGHTS).where(of_model), lake.read(ITEMS)
    now = item_states(weights, as_of(items, night.cutoff)).withColumnRenamed("state", "now")
    try:
        weights = lake.past(CANDIDATE_WEIGHTS, last.version(CANDIDATE_WEIGHTS)).where(of_model)
        items = lake.past(ITEMS, last.version(ITEMS))
        then = item_states(weights, as_of(items, last.cutoff))
        both = now.join(then, on=["item_id"], how="full_outer")  # each unique by item_id
        rows = both.where(~F.col("now").eqNullSafe(F.col("state"))).select("item_id").limit(most + 1).collect()
    except (PySparkException, Py4JJavaError) as error:  # what tonight lacks too, the full scoring will meet again
        why = " ".join(str(error).splitlines()[:2])
        log.info("the tables of the last lists can't be read, so all lists are made in full: %s", why)
        return None
    return [row["item_id"] for row in rows] if len(rows) <= most else None


def item_states(weights: DataFrame, items: DataFrame) -> DataFrame:
    """(item_id, state): equal where an item's weights and what filters read of it are. Both are unique by item_id."""
    # a hash passes over nulls, so whether g and w are there is hashed too
    numbers = F.xxhash64("link_weights", "g", "w", "b", F.col("g").isNull(), F.col("w").isNull())
    weighed = weights.select("item_id", numbers.alias("numbers"))
    known = items.select("item_id", F.xxhash64("available", "attributes", "features").alias("facts"))
    both = weighed.join(known, on=["item_id"], how="full_outer")
    return both.select("item_id", F.struct("numbers", "facts").alias("state"))


def with_last_lists(users: DataFrame, lists: DataFrame) -> DataFrame:
    """Add `kept`: what the last lists keep of each user whose inputs are as they were, null for the others.

    `users` (inputs_hash, links, stale) and `lists`, rows of `recommendations`, are unique by user_id.
    """
    best = F.transform("items", lambda item: F.struct(item["item_id"], item["score"]))
    entries = F.concat(best, F.coalesce("reserve", F.array().cast("array<struct<item_id: string, score: float>>")))
    kept = F.struct(entries.alias("entries"), "floor", "numerics_id").cast(KEPT)
    made_of = F.col("inputs_hash").alias("made_of")
    last = lists.where(F.col("source") == MODEL).select("user_id", made_of, kept.alias("kept"))
    stands = F.col("links").isNotNull() & ~F.col("stale") & F.col("inputs_hash").eqNullSafe(F.col("made_of"))
    joined = users.join(last, on=["user_id"], how="left")
    return joined.withColumn("kept", F.when(stands, F.col("kept"))).drop("made_of")


def inputs_hash() -> Column:
    """Over what a list is made from of its user: (made_from, links_numerics, attributes, binding, seen)."""
    absent = [F.col(name).isNull() for name in ("made_from", "seen")]
    return F.xxhash64("made_from", "links_numerics", "attributes", "binding", "seen", *absent)


def expired_items(config: ScoreConfig, last: LastLists, now: datetime) -> Column:
    """array<string>: items of `seen` that the window held back for the last lists and may hold back no more."""
    then, since = (timestamp(moment - timedelta(days=config.seen_days)) for moment in (last.cutoff, now))
    expired = F.filter("seen", lambda entry: is_let_go(entry["last_ts"], then, since))
    return F.transform(expired, lambda entry: entry["item_id"])
