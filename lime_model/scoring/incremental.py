"""Last night's lists brought to tonight without meeting the whole catalogue, with the bits of a full scoring.

What was kept of a user is everything eligible at or above his floor, a pair (score, item id); of what lies below,
nothing is known. Tonight's new, changed and newly eligible candidates are scored afresh; the others' scores stand as
long as the user's links do. A list that has too little left above its floor must be scored in full.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from lime_model.candidates import Candidates
from lime_model.scoring import open_scorer
from lime_model.scoring.lists import Eligible, Excluded, TopK, pack


@dataclass(frozen=True)
class Kept:
    """What was kept of B users, in tonight's positions; a list without a floor holds all that was eligible."""

    positions: Tensor  # [B, W] int64, in any order; negative: no entry, or no candidate any more
    scores: Tensor  # [B, W] float32
    floor_score: Tensor  # [B] float32; -inf where there is no floor
    floor_position: Tensor  # [B] int64; of an item that is gone: -1 less the place where it would stand


@dataclass(frozen=True)
class Merged:
    """Tonight's lists, what they were cut off at, and which of them are not known well enough."""

    top: TopK  # [B, W]
    cut: Tensor  # [B] bool: the list is full and its last entry is its floor; else last night's floor stays
    unknown: Tensor  # [B] bool: fewer than K above the floor: score in full


def merge_lists(
    kept: Kept, fresh: TopK, rescored: Tensor, excluded: Excluded, eligible: Eligible, k: int
) -> Merged:
    """Kept lists and the best of the `rescored` candidates -> lists of W places, the width of `fresh`.

    `rescored` [n] are the positions, ascending, of all candidates whose score or eligibility may have changed for any
    of these users; `fresh` their W best for each user in tonight's positions, under tonight's filters; `excluded`
    and `eligible` are tonight's, over all candidates.
    """
    width = fresh.positions.shape[1]
    standing = still_listed(kept.positions, excluded, eligible) & ~_among(kept.positions, rescored)
    new = torch.arange(width) < fresh.count[:, None]
    positions = torch.cat([kept.positions, fresh.positions], 1)
    scores = torch.cat([kept.scores, fresh.scores], 1)
    known = torch.cat([standing, new], 1) & _reaches_floor(positions, scores, kept)
    top = _best(positions, scores, known, width)
    cut = known.sum(1) >= width
    return Merged(top, cut, (top.count < k) & (kept.floor_score > -torch.inf))


class SubsetScorer:
    """A scorer of some candidates that takes filters over all of them, and gives their positions among all."""

    def __init__(self, candidates: Candidates, positions: Tensor, k: int, device: str) -> None:
        """`positions` [n] ascend."""
        self.positions = positions
        self._scorer = open_scorer(candidates.subset(positions), k, device)

    @property
    def numerics_id(self) -> str:
        return self._scorer.numerics_id

    def top_k(self, P: Tensor, excluded: Excluded, eligible: Eligible) -> TopK:
        """See `Scorer.top_k`."""
        masks = pack(bits_at(eligible.masks, self.positions))
        inside = _among(excluded.positions, self.positions)
        before = torch.cat([inside.new_zeros(1, dtype=torch.int64), inside.cumsum(0)])
        places = torch.searchsorted(self.positions, excluded.positions[inside])
        held = Excluded(before[excluded.offsets], places)
        top = self._scorer.top_k(P, held, Eligible(masks, eligible.class_of))
        among_all = torch.cat([self.positions, self.positions.new_tensor([-1])])  # the last place is what -1 finds
        return TopK(among_all[top.positions], top.scores, top.count)


def still_listed(positions: Tensor, excluded: Excluded, eligible: Eligible) -> Tensor:
    """[B, W] bool: the entry is a candidate that its user may get."""
    there, at = positions >= 0, positions.clamp(min=0)
    allowed = bits_at(eligible.masks, at, eligible.class_of[:, None])
    # one sorted list of all users' pairs: a row's positions follow those of the row before
    size = eligible.masks.shape[1] * 8
    rows = torch.arange(len(positions))
    pairs = torch.repeat_interleave(rows, excluded.offsets.diff()) * size + excluded.positions
    return there & allowed & ~_among(rows[:, None] * size + at, pairs)


def bits_at(masks: Tensor, positions: Tensor, rows: Tensor | slice = slice(None)) -> Tensor:
    """Bits of bitsets [classes, bytes] at positions: of every row, or of the row beside each position."""
    return (masks[rows, positions >> 3].int() >> (positions & 7)) & 1 == 1


def _reaches_floor(positions: Tensor, scores: Tensor, kept: Kept) -> Tensor:
    """[B, W] bool: nothing that was left out may stand above the entry."""
    # Places between candidates get odd numbers: a floor whose item is gone lies between two of them.
    gone = -2 * (kept.floor_position + 1) - 1
    floor = torch.where(kept.floor_position >= 0, 2 * kept.floor_position, gone)[:, None]
    score = kept.floor_score[:, None]
    return (scores > score) | ((scores == score) & (2 * positions <= floor))


def _best(positions: Tensor, scores: Tensor, known: Tensor, width: int) -> TopK:
    """The `width` best known entries, ties by position."""
    by_position = torch.where(known, positions, torch.iinfo(torch.int64).max).argsort(dim=1, stable=True)
    ranked = torch.where(known, scores, -torch.inf).gather(1, by_position)
    order = by_position.gather(1, ranked.argsort(dim=1, descending=True, stable=True))[:, :width]
    count = known.sum(1).clamp(max=width)
    filled = torch.arange(width) < count[:, None]
    return TopK(
        torch.where(filled, positions.gather(1, order), -1),
        torch.where(filled, scores.gather(1, order), torch.zeros(())),
        count,
    )


def _among(values: Tensor, ascending: Tensor) -> Tensor:
    """Whether each value is one of the others."""
    if not len(ascending):
        return torch.zeros_like(values, dtype=torch.bool)
    place = torch.searchsorted(ascending, values).clamp(max=len(ascending) - 1)
    return ascending[place] == values
