"""The lists of users without a history: what others took lately, under the same filters as every other list."""

from datetime import timedelta
from hashlib import sha256
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import torch
from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from jobs.eligibility import Bits, chosen
from jobs.stage import Night, timestamp
from lime_model.scoring.lists import Excluded, TopK

Places = npt.NDArray[np.int64]
"""Indexes into the order of popularity, or of rows."""

NUMERICS = "counts"
"""The numerics id of popularity lists: a score is a number of events."""

_CHUNK = 65_536  # candidates looked at in one step


def recent_counts(night: Night, events: DataFrame) -> DataFrame:
    """Grain: from events to items: (item_id, events), the number in the window before the cut-off."""
    since = night.cutoff - timedelta(days=night.config.score.popularity_days)
    recent = events.where(
        (F.col("event_ts") >= timestamp(since)) & (F.col("event_ts") < timestamp(night.cutoff))
    )
    return recent.groupBy("item_id").agg(F.count("*").alias("events"))


def popular_items(
    night: Night, events: DataFrame, available: DataFrame, count: int
) -> list[tuple[str, float]]:
    """The `count` available items with most events in the window before the cut-off, ties by item_id.

    Items without events follow in id order, so the list is full as long as the catalogue is. Collects `count` rows.
    """
    taken = recent_counts(night, events)
    counted = available.select("item_id").join(taken, on=["item_id"], how="left")  # both unique by item_id
    scored = counted.select("item_id", F.coalesce("events", F.lit(0)).cast("float").alias("score"))
    best = scored.orderBy(F.col("score").desc(), "item_id").limit(count).collect()
    return [(row["item_id"], row["score"]) for row in best]


def write_popularity(flags: pa.Table, folder: Path) -> Path:
    """The available candidates, most popular first, ties by position: `[2, n]`, positions int32 over scores float32.

    `flags` are the rows of `jobs.eligibility.collect_flags`. The file's name holds a digest of its content.
    """
    positions = np.flatnonzero(flags.column("available").to_numpy()).astype(np.int32)
    scores = flags.column("score").to_numpy().astype(np.float32)[positions]
    order = np.argsort(-scores, kind="stable")
    content = np.stack([positions[order], scores[order].view(np.int32)])
    file = folder / f"popular-{sha256(content.tobytes()).hexdigest()[:16]}.order"
    content.tofile(file)
    return file


class PopularItems:
    """Once per Python worker: the mapped order, and the head of each class's own list as far as anybody needed it."""

    def __init__(self, file: str, masks: Bits, width: int) -> None:
        self._positions, scores = np.memmap(file, dtype=np.int32, mode="r").reshape(2, -1)
        self._scores = scores.view(np.float32)
        self._masks, self._width = masks, width
        self._heads: dict[int, tuple[Places, bool]] = {}  # the places, and whether they are all

    def top_k(self, class_of: npt.NDArray[np.int64], excluded: Excluded) -> TopK:
        """The `width` most popular items of each user's class without his exclusions [B, width], ties by position."""
        shape = (len(class_of), self._width)
        top = TopK(
            torch.full(shape, -1, dtype=torch.int64), torch.zeros(shape), torch.zeros(shape[0], dtype=torch.int64)
        )
        offsets, refused = excluded.offsets.numpy(), excluded.positions.numpy()
        without = np.diff(offsets) == 0
        for class_ in np.unique(class_of[without]).tolist():
            rows = np.flatnonzero(without & (class_of == class_))
            self._fill(top, rows, self._head(class_, self._width))
        for row in np.flatnonzero(~without).tolist():
            own = refused[offsets[row] : offsets[row + 1]]
            places = self._head(int(class_of[row]), self._width + len(own))
            kept = places[~np.isin(self._positions[places], own)]
            self._fill(top, np.array([row]), kept[: self._width])
        return top

    def _fill(self, top: TopK, rows: Places, places: Places) -> None:
        """The same list for all the rows."""
        at, length = torch.from_numpy(rows), len(places)
        top.positions[at, :length] = torch.from_numpy(self._positions[places].astype(np.int64))
        top.scores[at, :length] = torch.from_numpy(self._scores[places])
        top.count[at] = length

    def _head(self, class_: int, length: int) -> Places:
        """Places in the order of the class's first `length` items, or of all it has."""
        head, whole = self._heads.get(class_, (np.zeros(0, np.int64), False))
        if len(head) < length and not whole:
            # twice as long as asked, so that users with ever more denials do not each begin anew
            head = self._scan(self._masks[class_], 2 * length)
            self._heads[class_] = head, len(head) < 2 * length
        return head[:length]

    def _scan(self, bits: Bits, length: int) -> Places:
        found: list[Places] = [np.zeros(0, np.int64)]
        for start in range(0, len(self._positions), _CHUNK):
            found.append(start + np.flatnonzero(chosen(bits, self._positions[start : start + _CHUNK])))
            if sum(map(len, found)) >= length:
                break
        return np.concatenate(found)[:length]
