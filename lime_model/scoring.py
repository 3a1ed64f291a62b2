"""The score stage in torch: exact top-k over all eligible candidates, in blocks, nothing of size B x C
stored.

Where the head has no activation, score = P[u] . M[c] + offset with M[c, l] = sum_h A[c, h, l] fold[h] w[c]:
the same algebra as A . T_u with T_u = P[u] @ fold, in half the operations. Blocks have frozen shapes and
are filled up, so a pair's score has the same bits in whatever batch or position it is computed. A compiled
kernel replaces `Scorer` and keeps `Candidates`, `Excluded` and `TopK`.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from lime_model.batches import CandidateWeights
from lime_model.candidates import Candidates, check_finite
from lime_model.config import require
from lime_model.loss import FoldedHead, flat_candidates, score_all
from schemas.errors import BadNumberError, InputError

_NOTHING = torch.iinfo(torch.int64).min  # key of a pair that may not be listed
_LOW = 0xFFFFFFFF
NUMERICS = "torch-blocked-1"


@dataclass(frozen=True)
class Excluded:
    """Candidate positions each user may not get, sorted within a user (CSR)."""

    offsets: Tensor  # [B + 1] int64
    positions: Tensor  # [pairs] int64


@dataclass(frozen=True)
class TopK:
    """Lists, best first; a list shorter than K is padded with position -1 and score 0."""

    positions: Tensor  # [B, K] int64
    scores: Tensor  # [B, K] float32
    count: Tensor  # [B] int64


@dataclass(frozen=True)
class ScoreShapes:
    """Frozen block shapes: lower them when memory runs out; another shape may be other bits."""

    users_per_block: int = 128
    candidates_per_block: int = 2048

    def __post_init__(self) -> None:
        for name in ("users_per_block", "candidates_per_block"):
            require(getattr(self, name) >= 1, f"ScoreShapes.{name}", "at least 1", getattr(self, name))


class Scorer:
    """Built once per task on a candidate cache, called per batch of users."""

    def __init__(self, candidates: Candidates, k: int, shapes: ScoreShapes) -> None:
        require(k >= 1, "k", "at least 1", k)
        check_finite(candidates)
        self.candidates, self.k, self.shapes = candidates, k, shapes
        self._head = FoldedHead(candidates.fold, candidates.g, candidates.w, candidates.relu)
        capability = torch.backends.cpu.get_cpu_capability()
        self.numerics_id = (
            f"{NUMERICS};torch={torch.__version__};capability={capability};"
            f"users={shapes.users_per_block};candidates={shapes.candidates_per_block}"
        )

    def top_k(self, P: Tensor, excluded: Excluded, eligible: Tensor) -> TopK:
        """Links [B, L, d], each user's exclusions and the candidates eligible tonight [C] bool -> TopK of B users."""
        self._check(P, excluded, eligible)
        size, parts = self.shapes.users_per_block, []
        with torch.inference_mode():
            for start in range(0, P.shape[0], size):
                parts.append(self._block_of_users(P[start : start + size], start, excluded, eligible))
        keys = torch.cat(parts) if parts else torch.empty(0, self.k, dtype=torch.int64)
        listed = keys != _NOTHING
        positions = torch.where(listed, _LOW - (keys & _LOW), -1)
        scores = torch.where(listed, _score_of(keys), 0.0)
        return TopK(positions, scores, listed.sum(1))

    def _block_of_users(self, P: Tensor, start: int, excluded: Excluded, eligible: Tensor) -> Tensor:
        """Links [n, L, d] of users start..start + n -> their best keys [n, K], sorted."""
        n, size = P.shape[0], self.shapes.users_per_block
        padded = P.new_zeros(size, *P.shape[1:])
        padded[:n] = P
        user = torch.repeat_interleave(torch.arange(n), excluded.offsets[start : start + n + 1].diff())
        position = excluded.positions[int(excluded.offsets[start]) : int(excluded.offsets[start + n])]
        best = torch.full((n, self.k), _NOTHING, dtype=torch.int64)
        width = self.shapes.candidates_per_block
        for first in range(0, len(self.candidates), width):
            allowed = eligible[first : first + width]
            if not bool(allowed.any()):
                continue
            scores = self._scores(padded, first)[:n, : len(allowed)]
            if not bool(scores.isfinite().all()):
                row, column = (int(i) for i in torch.nonzero(~scores.isfinite())[0])
                raise BadNumberError(
                    f"score of user row {start + row} and item {self.candidates.item_id(first + column)!r}: "
                    f"expected a finite number, found {float(scores[row, column])}"
                )
            keys = _keys(scores, first).masked_fill(~allowed, _NOTHING)
            inside = (position >= first) & (position < first + len(allowed))
            keys[user[inside], position[inside] - first] = _NOTHING
            best = torch.cat([best, keys], dim=1).topk(self.k, dim=1).values
        return best

    def _scores(self, P: Tensor, first: int) -> Tensor:
        """Links of a full user block against one candidate block, both in their frozen shape."""
        width = self.shapes.candidates_per_block
        weights = self.candidates.weights
        block = CandidateWeights(
            _filled(weights.A, first, width),
            _filled(weights.G, first, width) if weights.G is not None else None,
            _filled(weights.w, first, width) if weights.w is not None else None,
            _filled(weights.b, first, width),
        )
        if not self._head.relu:
            flat, offset = flat_candidates(block, self._head)
            return torch.mm(P.flatten(1), flat.T) + offset
        return torch.stack([score_all(links[None], block, self._head)[0] for links in P])

    def _check(self, P: Tensor, excluded: Excluded, eligible: Tensor) -> None:
        B, C = P.shape[0], len(self.candidates)
        if eligible.shape != (C,) or excluded.offsets.shape != (B + 1,):
            raise InputError(
                f"top_k: expected eligible [{C}] and offsets [{B + 1}], "
                f"found {list(eligible.shape)} and {list(excluded.offsets.shape)}"
            )
        positions = excluded.positions
        if len(positions) and (int(positions.min()) < 0 or int(positions.max()) >= C):
            raise InputError(f"top_k: expected excluded positions in 0..{C - 1}, found others")
        bad = torch.nonzero(~P.flatten(1).isfinite().all(1)).flatten()
        if len(bad):
            raise BadNumberError(f"links of user row {int(bad[0])}: expected finite numbers, found {len(bad)} bad rows")


def _filled(rows: Tensor, first: int, width: int) -> Tensor:
    """Rows first..first + width, filled up with zero rows to the frozen width."""
    block = rows[first : first + width]
    if block.shape[0] == width:
        return block
    padded = rows.new_zeros(width, *rows.shape[1:])
    padded[: block.shape[0]] = block
    return padded


def _keys(scores: Tensor, first: int) -> Tensor:
    """One int64 per pair [n, W]: higher score first, then lower position. No two pairs of a user share a key."""
    # + 0.0 turns -0 into +0, else the two zeros would not tie.
    bits = (scores + 0.0).contiguous().view(torch.int32)
    ordered = torch.where(bits < 0, bits ^ 0x7FFFFFFF, bits).to(torch.int64)
    position = torch.arange(first, first + scores.shape[1])
    return (ordered << 32) | (_LOW - position)


def _score_of(keys: Tensor) -> Tensor:
    """The float32 score inside a key."""
    ordered = (keys >> 32).to(torch.int32)
    bits = torch.where(ordered < 0, ordered ^ 0x7FFFFFFF, ordered)
    return bits.contiguous().view(torch.float32)
