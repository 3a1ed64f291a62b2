"""What each user's list is made of, joined once: links, seen items, filters, and what stands of the last list."""

from datetime import timedelta

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from jobs.changes import is_held_back
from jobs.last_lists import KEPT, LastLists, expired_items, inputs_hash, with_last_lists
from jobs.stage import Night, timestamp
from schemas.link_embeddings import LINK_EMBEDDINGS
from schemas.recommendations import RECOMMENDATIONS
from schemas.user_history import USER_HISTORY
from schemas.user_seen import USER_SEEN

USER = ("user_id", "user_bucket")
"""What tables of users are joined by: of a condition on buckets each then reads its own, and no others."""
_CARRIED = (
    "user_id", "user_bucket", "rule_class", "denied", "links", "stale", "inputs_hash", "kept", "lifted", "audited"
)  # fmt: skip


def users_to_score(night: Night, users: DataFrame, model: str, last: LastLists | None = None) -> DataFrame:
    """Users (attributes, rule_class, binding, denied) with all that their lists are made of; grain kept.

    Adds `links`, null without history; `seen`, the items that the filter holds back; `stale`, whether there is a
    history that the links, if any, were not made from; `inputs_hash`; and of the last lists `kept`, what still stands,
    null without `last`; `lifted`, items whose time in the seen window is over; `audited`, whether to check a merge.
    """
    lake, config = night.lake, night.config.score
    links = lake.read(LINK_EMBEDDINGS).where(F.col("model_digest") == model)
    made_from = F.col("history_digest").alias("made_from")
    links = links.select(*USER, "links", made_from, F.col("numerics_id").alias("links_numerics"))
    histories = lake.read(USER_HISTORY).select(*USER, "history_digest")
    seen = lake.read(USER_SEEN).select(*USER, "seen")
    everybody = users.select("user_id", "user_bucket", "attributes", "rule_class", "binding", "denied")
    for table in (links, histories, seen):  # each unique by user_id
        everybody = everybody.join(table, on=list(USER), how="left")
    stale = F.col("history_digest").isNotNull() & ~F.col("history_digest").eqNullSafe(F.col("made_from"))
    nothing = F.array().cast("array<string>")
    lifted = expired_items(config, last, night.cutoff) if last and config.seen_days else nothing
    known = everybody.withColumns({"stale": stale, "inputs_hash": inputs_hash(), "lifted": F.coalesce(lifted, nothing)})
    if last:
        known = with_last_lists(known, lake.past(RECOMMENDATIONS, last.commit.version))
        known = known.withColumn("audited", F.col("kept").isNotNull() & _audited(night, last))
    else:
        known = known.withColumns({"kept": F.lit(None).cast(KEPT), "audited": F.lit(False)})
    return known.select(*_CARRIED, seen_items(night).alias("seen"))


def _audited(night: Night, last: LastLists) -> Column:
    """Whether a user is one of about `audited_users`, others every night."""
    wanted = night.config.score.audited_users
    if not wanted:
        return F.lit(False)
    every = max(night.lake.past(RECOMMENDATIONS, last.commit.version).count() // wanted, 1)
    return F.pmod(F.xxhash64("user_id", F.lit(night.logical_date.isoformat())), F.lit(every)) == 0


def seen_items(night: Night) -> Column:
    """Distinct items that the seen filter holds back: by event type and by age."""
    config, kept = night.config.score, F.col("seen")
    if config.seen_types:
        kept = F.filter(kept, lambda entry: entry["event_type"].isin(*config.seen_types))
    if config.seen_days:
        since = timestamp(night.cutoff - timedelta(days=config.seen_days))
        kept = F.filter(kept, lambda entry: is_held_back(entry["last_ts"], since))
    return F.transform(kept, lambda entry: entry["item_id"])
