"""What a task does with a batch of users: lists merged from the last ones where those stand, else made in full."""

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from hashlib import sha256
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import torch
from pyspark import SparkFiles
from torch import Tensor

from jobs.arrow import float_matrix
from jobs.candidates import ShippedCandidates, item_names, shipped_candidates
from jobs.filters import NightFilters, shipped_masks, shipped_popularity
from jobs.gpu import Device, task_device
from jobs.kept_lists import floors, kept_lists
from jobs.lists import (
    FULL,
    MERGED,
    SCORED_COLUMNS,
    Filtered,
    cut_floors,
    filtered_rows,
    list_arrays,
    positions_of,
    short_reasons,
)
from jobs.popularity import NUMERICS
from lime_model.packed import read_only
from lime_model.scoring import open_scorer
from lime_model.scoring.incremental import Merged, SubsetScorer, merge_lists
from lime_model.scoring.lists import Eligible, Scorer, TopK
from schemas.errors import BadNumberError, GateError, InputError
from schemas.recommendations import MODEL, POPULARITY

MOST_RESCORED = 0.25
"""Share of the candidates beyond which a list is made in full: then it costs as much as merging (benchmarks.churn)."""


@dataclass(frozen=True)
class Shipped:
    """Names and numbers that a task opens everything by; never candidates themselves."""

    candidates: ShippedCandidates
    filters: NightFilters
    rescored: str  # a file of candidate positions, ascending int64: those to be scored again for everybody
    k: int
    width: int  # of a list with its reserve


def scored_batches(
    shipped: Shipped, device: Device
) -> Callable[[Iterable[pa.RecordBatch]], Iterator[pa.RecordBatch]]:
    """The function that runs in tasks."""

    def score_batches(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        maker = ListMaker(shipped, task_device(device))
        for batch in batches:
            _require_fresh(batch)
            yield from maker.lists(batch)

    return score_batches


class ListMaker:
    """Everything that a task has open; built anew for a task, from what its worker keeps."""

    def __init__(self, shipped: Shipped, device: str) -> None:
        self._shipped, self._device = shipped, device
        self._scorer = load_scorer(shipped.candidates, shipped.width, device)
        self._item_ids = item_names(shipped.candidates)
        self._masks = shipped_masks(shipped.filters.masks, len(shipped.filters.classes))
        self._popular = shipped_popularity(shipped.filters, shipped.width)

    def lists(self, batch: pa.RecordBatch) -> Iterator[pa.RecordBatch]:
        """Rows of `jobs.lists.SCORED`, one a user, in another order."""
        has_links = batch["links"].is_valid()
        stands = pc.equal(pc.struct_field(batch["kept"], "numerics_id"), self._scorer.numerics_id).fill_null(False)
        lifted = pc.greater(pc.fill_null(pc.list_value_length(batch["lifted"]), 0), 0)
        for rows, make in (
            (batch.filter(pc.invert(has_links)), self._popularity),
            (batch.filter(pc.and_(has_links, pc.invert(stands))), self._in_full),
            (batch.filter(pc.and_(stands, pc.invert(lifted))), self._merged),
            (batch.filter(pc.and_(stands, lifted)), self._merged),  # each has candidates of its own
        ):
            if len(rows):
                yield make(rows)

    def _popularity(self, rows: pa.RecordBatch) -> pa.RecordBatch:
        filtered = self._filtered(rows)
        top = self._popular.top_k(filtered.class_of, filtered.excluded)
        made = {"source": POPULARITY, "how": POPULARITY, "numerics_id": NUMERICS}
        return self._rows(rows, filtered, top, cut_floors(top, self._item_ids), made)

    def _in_full(self, rows: pa.RecordBatch) -> pa.RecordBatch:
        filtered = self._filtered(rows)
        top = self._best(self._scorer, rows, filtered)
        return self._rows(rows, filtered, top, cut_floors(top, self._item_ids), self._modelled(FULL))

    def _merged(self, rows: pa.RecordBatch) -> pa.RecordBatch:
        scorer = self._subset(rows)
        if scorer is None:
            return self._in_full(rows)
        filtered = self._filtered(rows)
        fresh = self._best(scorer, rows, filtered)
        kept = kept_lists(rows["kept"], self._item_ids)
        merged = merge_lists(
            kept, fresh, scorer.positions, filtered.excluded, _eligible(filtered), self._shipped.k
        )
        self._audit(rows, merged)
        return self._completed(rows, filtered, merged)

    def _subset(self, rows: pa.RecordBatch) -> SubsetScorer | None:
        """Of what is scored again for everybody and what is lifted for these users; None where that is too much."""
        shipped, lifted = self._shipped, positions_of(rows["lifted"].flatten(), self._item_ids)
        if not len(lifted):
            return load_subset(shipped, self._device)
        rescored = torch.unique(torch.cat([load_positions(shipped.rescored), lifted[lifted >= 0]]))
        if len(rescored) > MOST_RESCORED * shipped.candidates.count:
            return None
        return SubsetScorer(shipped_candidates(shipped.candidates), rescored, shipped.width, self._device)

    def _completed(self, rows: pa.RecordBatch, filtered: Filtered, merged: Merged) -> pa.RecordBatch:
        """Merged lists, with those made in full that are not known."""
        top, cut, unknown = merged.top, merged.cut, merged.unknown
        if unknown.any():
            some = rows.filter(_flags(unknown))
            full = self._best(self._scorer, some, self._filtered(some))
            for name in ("positions", "scores", "count"):
                getattr(top, name)[unknown] = getattr(full, name)
            cut[unknown] = full.count == self._shipped.width
        # a list that is not cut off keeps the floor it had, if it was merged
        before = pc.if_else(_flags(unknown), None, floors(rows["kept"]))
        floor = pc.if_else(_flags(cut), cut_floors(top, self._item_ids), before)
        how = pc.if_else(_flags(unknown), FULL, MERGED)
        return self._rows(rows, filtered, top, floor, {**self._modelled(FULL), "how": how})

    def _audit(self, rows: pa.RecordBatch, merged: Merged) -> None:
        """Make some of the merged lists in full as well; raises GateError where one differs, which ends the stage."""
        chosen = torch.from_numpy(rows["audited"].to_numpy(zero_copy_only=False).astype(bool)) & ~merged.unknown
        if not chosen.any():
            return
        some, k = rows.filter(_flags(chosen)), self._shipped.k
        full = self._best(self._scorer, some, self._filtered(some))
        same = (merged.top.positions[chosen, :k] == full.positions[:, :k]) & (
            merged.top.scores[chosen, :k] == full.scores[:, :k]
        )
        wrong = torch.nonzero(~same.all(1)).flatten().tolist()
        if wrong:
            who = hashed(some["user_id"][wrong[0]].as_py())
            raise GateError(
                f"audit: expected merged lists that equal those made in full, found {len(wrong)} of {len(some)} that "
                f"differ, one with sha2(user_id, 256) = '{who}'; `lime score-candidates --full` makes all anew"
            )

    def _best(self, scorer: Scorer, rows: pa.RecordBatch, filtered: Filtered) -> TopK:
        """The model's lists of the rows, all of which have links."""
        found = shipped_candidates(self._shipped.candidates)
        links = float_matrix(rows["links"], found.links * found.width).reshape(-1, found.links, found.width)
        try:
            return scorer.top_k(links, filtered.excluded, _eligible(filtered))
        except BadNumberError as error:
            row = re.search(r"user row (\d+)", str(error))
            who = hashed(rows["user_id"][int(row[1])].as_py()) if row else "unknown"
            raise BadNumberError(f"link_embeddings, row with sha2(user_id, 256) = '{who}': {error}") from error

    def _filtered(self, rows: pa.RecordBatch) -> Filtered:
        return filtered_rows(rows, self._item_ids, self._masks)

    def _modelled(self, how: str) -> dict[str, object]:
        return {"source": MODEL, "how": how, "numerics_id": self._scorer.numerics_id}

    def _rows(
        self, rows: pa.RecordBatch, filtered: Filtered, top: TopK, floor: pa.StructArray, made: Mapping[str, object]
    ) -> pa.RecordBatch:
        """Lists as rows; what is in `made` is one value for all, or an array."""
        k, classes = self._shipped.k, self._shipped.filters.classes
        columns = {
            **{name: rows[name] for name in ("user_id", "user_bucket", "inputs_hash")},
            **list_arrays(top, self._item_ids, k),
            "floor": floor,
            "shortfall": pa.array(short_reasons(k, top.count, filtered, classes), pa.string()),
            "eligibility_digest": pa.array([classes[c].digest for c in filtered.class_of], pa.string()),
            **{name: _column(value, len(rows)) for name, value in made.items()},
        }
        return pa.RecordBatch.from_pydict({name: columns[name] for name in SCORED_COLUMNS})


def _column(value: object, rows: int) -> pa.Array:
    return value if isinstance(value, pa.Array) else pa.array([value] * rows, pa.string())


def _flags(values: Tensor) -> pa.BooleanArray:
    return pa.array(values.numpy())


def _eligible(filtered: Filtered) -> Eligible:
    return Eligible(torch.from_numpy(filtered.masks), torch.from_numpy(filtered.class_of))


def _require_fresh(rows: pa.RecordBatch) -> None:
    """Raise InputError where a user's links are missing or older than his history."""
    stale = rows["stale"].to_numpy(zero_copy_only=False).nonzero()[0]
    if len(stale):
        raise InputError(
            f"link_embeddings: expected links of every history under this model, found none of {len(stale)} users "
            f"of a batch, one with sha2(user_id, 256) = '{hashed(rows['user_id'][int(stale[0])].as_py())}'; "
            "run `lime embed-users`"
        )


def hashed(user_id: str) -> str:
    """What finds the row in SQL and is no user id in a log."""
    return sha256(user_id.encode()).hexdigest()


@lru_cache(maxsize=2)
def load_scorer(shipped: ShippedCandidates, width: int, device: str) -> Scorer:
    """Once per Python worker."""
    return open_scorer(shipped_candidates(shipped), width, device)


@lru_cache(maxsize=2)
def load_subset(shipped: Shipped, device: str) -> SubsetScorer:
    """Once per Python worker: the candidates that are scored again for everybody, copied out of the mapped ones."""
    positions = load_positions(shipped.rescored)
    return SubsetScorer(shipped_candidates(shipped.candidates), positions, shipped.width, device)


def load_positions(file: str) -> Tensor:
    """The shipped file of positions, mapped."""
    size = Path(SparkFiles.get(file)).stat().st_size
    return read_only(np.memmap(SparkFiles.get(file), np.int64, "r") if size else np.empty(0, np.int64))
