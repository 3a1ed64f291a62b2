"""A few users' lists with titles, for people: who they are is never said, only `user A`."""

from dataclasses import dataclass

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from jobs.stage import Night, timestamp
from schemas.items import ITEMS
from schemas.recommendations import MODEL
from schemas.serving_recommendations import SERVING_RECOMMENDATIONS
from schemas.user_history import USER_HISTORY

LIKED = "liked"
RECENT = 5
LABELS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"


@dataclass(frozen=True)
class SampleItem:
    """One place of a list."""

    rank: int
    title: str
    score: float


@dataclass(frozen=True)
class SampleList:
    """One user's list beside what they took lately, newest first; `liked` says that they liked it."""

    label: str
    recent: tuple[str, ...]
    liked: bool
    items: tuple[SampleItem, ...]

    def as_text(self, places: int = 5) -> str:
        """A few lines for a terminal."""
        lines = [f"{self.label} {'liked' if self.liked else 'took'} {', '.join(self.recent) or 'nothing yet'}"]
        lines += [f"  {item.rank:>3}. {item.title}  {item.score:.3f}" for item in self.items[:places]]
        return "\n".join(lines)


def samples_of(night: Night, version: int, count: int) -> list[SampleList]:
    """Lists of `count` users with histories, the same users every night: by hash, those with likes first.

    `version` is of `serving_recommendations`. Three plain scans; collects the users and the titles of their items.
    """
    lake = night.lake
    if not lake.exists(USER_HISTORY):
        return []
    histories = with_recent(lake.read(USER_HISTORY), timestamp(night.cutoff))
    users = limit_talkative(histories, min(count, len(LABELS))).collect()
    ids = [row["user_id"] for row in users]
    served = lake.read(SERVING_RECOMMENDATIONS, version).where(F.col("user_id").isin(ids))
    rows = served.where(F.col("source") == MODEL).select("user_id", "items").collect()
    lists = {row["user_id"]: row["items"] for row in rows}
    shown = {item for row in users for item in row["recent"]} | {e["item_id"] for row in rows for e in row["items"]}
    titles = _titles(lake.read(ITEMS), shown)
    return [
        SampleList(
            f"user {letter}",
            tuple(titles.get(item, item) for item in row["recent"]),
            row["liked"],
            tuple(
                SampleItem(e["rank"], titles.get(e["item_id"], e["item_id"]), e["score"])
                for e in lists.get(row["user_id"], [])
            ),
        )
        for letter, row in zip(LABELS, users, strict=False)
    ]


def with_recent(histories: DataFrame, cutoff: Column) -> DataFrame:
    """Grain kept: (user_id, recent, liked), the newest items that a user liked, or took where they liked none."""
    events = F.filter(F.arrays_zip("item_ids", "event_types", "event_ts"), lambda e: e["event_ts"] < cutoff)
    likes = F.filter(events, lambda e: e["event_types"] == LIKED)
    told = histories.select("user_id", events.alias("events"), likes.alias("likes"))
    liked = F.size("likes") > 0
    chosen = F.when(liked, F.col("likes")).otherwise(F.col("events"))
    newest = F.slice(F.reverse(chosen["item_ids"]), 1, RECENT)
    return told.select("user_id", newest.alias("recent"), liked.alias("liked"))


def limit_talkative(users: DataFrame, count: int) -> DataFrame:
    """`count` users of `with_recent`: those with most to show, then by a hash that is the same every night."""
    order = [
        F.col("liked").desc(),
        F.size("recent").desc(),
        F.xxhash64("user_id").asc(),
        F.col("user_id").asc(),
    ]
    return users.orderBy(*order).limit(count)


def _titles(items: DataFrame, shown: set[str]) -> dict[str, str]:
    """The newest title of each item that has one, whether or not the item is still there.

    Collects the intervals of `shown`.
    """
    named = items.where(F.col("item_id").isin(sorted(shown)) & F.col("title").isNotNull())
    rows = named.select("item_id", "title", "valid_from").collect()
    return {row["item_id"]: row["title"] for row in sorted(rows, key=lambda row: row["valid_from"])}
