"""What the report says of the served lists, worked out on the driver from one small table of lists.

Aggregates of a few thousand lists cost Spark a second each and arrow nothing, so the lists are read once, at most
SAMPLED_LISTS of them, the same users every night.
"""

from collections import Counter
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray
from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from schemas.recommendations import MODEL

SAMPLED_LISTS = 20_000
BINS = 24
BOUNDS = (0.01, 0.05, 0.2, 0.5, 1.0)


@dataclass(frozen=True)
class RankScores:
    """The model's scores at one rank over all users."""

    rank: int
    low: float  # a tenth lies below
    middle: float
    high: float


@dataclass(frozen=True)
class Scores:
    """How the model's scores are spread; empty where no list is the model's."""

    by_rank: tuple[RankScores, ...]
    edges: tuple[float, ...]  # BINS + 1
    counts: tuple[int, ...]  # BINS


@dataclass(frozen=True)
class Share:
    """A part of the catalogue by popularity, and its share of events and of the lists' places."""

    start: float  # of the available items, most popular first, as a share of all
    end: float
    items: int
    events: float
    places: float


def read_lists(lists: DataFrame, total: int) -> pa.Table:
    """(user_id, source, item_ids, scores) of about SAMPLED_LISTS users of `total`, chosen by hash; all if fewer.

    Collects that many rows.
    """
    every = -(-total // SAMPLED_LISTS) or 1
    chosen = lists.where(F.pmod(F.xxhash64("user_id"), F.lit(every)) == 0) if every > 1 else lists
    columns = [F.col("items.item_id").alias("item_ids"), F.col("items.score").alias("scores")]
    return chosen.select("user_id", "source", *columns).toArrow()


def overlap(now: pa.Table, before: pa.Table) -> Counter[int]:
    """Lists by how many of their items were on the user's list before; users without one are left out."""
    old = dict(zip(before["user_id"].to_pylist(), map(frozenset, before["item_ids"].to_pylist()), strict=True))
    both = zip(now["user_id"].to_pylist(), now["item_ids"].to_pylist(), strict=True)
    return Counter(len(old[user].intersection(items)) for user, items in both if user in old)


def scores(lists: pa.Table) -> Scores:
    """Percentiles by rank, and a histogram between the extremes."""
    scored = lists.filter(pc.equal(lists["source"], MODEL))["scores"].combine_chunks()
    values = _numbers(scored.flatten())
    if not len(values):
        return Scores((), (), ())
    lengths = _numbers(pc.list_value_length(scored))
    ranks = np.concatenate([np.arange(1, length + 1) for length in lengths.astype(int)])
    by_rank = []
    for rank in range(1, int(ranks.max()) + 1):
        low, middle, high = np.percentile(values[ranks == rank], [10, 50, 90]).tolist()
        by_rank.append(RankScores(rank, low, middle, high))
    counts, edges = np.histogram(values, BINS)
    return Scores(tuple(by_rank), tuple(edges.tolist()), tuple(counts.tolist()))


def places_by_item(lists: pa.Table) -> pa.StructArray:
    """How many lists hold each item: `values` and `counts`."""
    return pc.value_counts(lists["item_ids"].combine_chunks().flatten())


def shares(items: pa.Table, places: pa.StructArray) -> list[Share]:
    """Parts of the available items (item_id, events) cut at BOUNDS by their number of events, ties by item_id."""
    ranked = items.sort_by([("events", "descending"), ("item_id", "ascending")])
    where = pc.index_in(ranked["item_id"], places.field("values"))
    taken, listed = _numbers(ranked["events"]), _numbers(pc.fill_null(places.field("counts").take(where), 0))
    cuts = [round(bound * len(ranked)) for bound in (0.0, *BOUNDS)]
    made = []
    for begin, finish, start, end in zip((0.0, *BOUNDS), BOUNDS, cuts[:-1], cuts[1:], strict=False):
        parts = [float(counts[start:end].sum() / max(counts.sum(), 1)) for counts in (taken, listed)]
        made.append(Share(begin, finish, end - start, *parts))
    return made


def _numbers(values: pa.Array) -> NDArray[np.float64]:
    return np.asarray(values.to_numpy(zero_copy_only=False), np.float64)
