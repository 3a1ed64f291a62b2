"""The score stage in torch: exact top-k in blocks of users and candidates, on the CPU or a GPU.

Where the head has no activation, score = P[u] . M[c] + offset with M[c, l] = sum_h A[c, h, l] fold[h] w[c]: the same
algebra as A . T_u with T_u = P[u] @ fold, in half the operations. Blocks have frozen shapes and are filled up, so a
pair's score has the same bits in whatever batch or position it is computed; they are not the kernel's bits, and the
numerics id says so. Against the kernel, scores agree to about 1e-5 of their sum of absolute terms.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from lime_model.batches import CandidateWeights
from lime_model.candidates import Candidates
from lime_model.config import require
from lime_model.folded import FoldedHead, flat_candidates, score_all
from lime_model.scoring.lists import Eligible, Excluded, TopK, check_k, check_request, unpack
from schemas.errors import BadNumberError

_NOTHING = torch.iinfo(torch.int64).min  # key of a pair that may not be listed
_LOW = 0xFFFFFFFF
NUMERICS = "torch-blocked-2"


@dataclass(frozen=True)
class ScoreShapes:
    """Frozen block shapes, of the numerics id: another shape may be other bits. Candidates come in bytes of 8."""

    users_per_block: int = 64
    candidates_per_block: int = 1024

    def __post_init__(self) -> None:
        require(self.users_per_block >= 1, "ScoreShapes.users_per_block", "at least 1", self.users_per_block)
        width = self.candidates_per_block
        require(width >= 8 and width % 8 == 0, "ScoreShapes.candidates_per_block", "a multiple of 8", width)


class BlockedScorer:
    """The K best of every user by torch on one device."""

    def __init__(
        self,
        candidates: Candidates,
        k: int,
        shapes: ScoreShapes | None = None,
        device: torch.device = torch.device("cpu"),  # noqa: B008 - immutable
    ) -> None:
        check_k(k)
        self.candidates, self.k, self.device = candidates, k, device
        self.shapes = shapes or ScoreShapes()
        fold, g, w = (t.to(device) for t in (candidates.fold, candidates.g, candidates.w))
        self._head = FoldedHead(fold, g, w, candidates.relu)
        self.numerics_id = (
            f"{NUMERICS};torch={torch.__version__};{_computes_on(device)};"
            f"users={self.shapes.users_per_block};candidates={self.shapes.candidates_per_block}"
        )

    def top_k(self, P: Tensor, excluded: Excluded, eligible: Eligible) -> TopK:
        """Links [B, L, d] float32 -> TopK; see `Scorer.top_k`."""
        found = self.candidates
        check_request((found.links, found.width), P, excluded, eligible, found.count)
        bad = torch.nonzero(~P.flatten(1).isfinite().all(1)).flatten()
        if len(bad):
            raise BadNumberError(f"links of user row {int(bad[0])}: expected finite numbers, found {len(bad)} bad rows")
        parts = [torch.empty(0, self.k, dtype=torch.int64)]
        with torch.inference_mode():
            for start in range(0, P.shape[0], self.shapes.users_per_block):
                parts.append(self._block_of_users(P, start, excluded, eligible).cpu())
        keys = torch.cat(parts)
        listed = keys != _NOTHING
        positions = torch.where(listed, _LOW - (keys & _LOW), -1)
        return TopK(positions, torch.where(listed, _score_of(keys), 0.0), listed.sum(1))

    def _block_of_users(self, P: Tensor, start: int, excluded: Excluded, eligible: Eligible) -> Tensor:
        """Users start..start + n -> their best keys [n, K], sorted."""
        size, width = self.shapes.users_per_block, self.shapes.candidates_per_block
        n = min(size, P.shape[0] - start)
        padded = torch.zeros(size, *P.shape[1:], device=self.device)
        padded[:n] = P[start : start + n].to(self.device)
        user = torch.repeat_interleave(torch.arange(n), excluded.offsets[start : start + n + 1].diff())
        position = excluded.positions[int(excluded.offsets[start]) : int(excluded.offsets[start + n])]
        masks = eligible.masks[eligible.class_of[start : start + n]]
        best = torch.full((n, self.k), _NOTHING, dtype=torch.int64, device=self.device)
        for first in range(0, len(self.candidates), width):
            count = min(width, len(self.candidates) - first)
            allowed = unpack(masks, first, count)
            inside = (position >= first) & (position < first + count)
            allowed[user[inside], position[inside] - first] = False
            if not bool(allowed.any()):
                continue
            scores = self._scores(padded, first, count)[:n, :count]
            self._check_finite(scores, start, first)
            keys = _keys(scores, first).masked_fill(~allowed.to(self.device), _NOTHING)
            best = torch.cat([best, keys], dim=1).topk(self.k, dim=1).values
        return best

    def _check_finite(self, scores: Tensor, start: int, first: int) -> None:
        if bool(scores.isfinite().all()):
            return
        row, column = (int(i) for i in torch.nonzero(~scores.isfinite())[0])
        raise BadNumberError(
            f"score of user row {start + row} and item {self.candidates.item_id(first + column)!r}: "
            f"expected a finite number, found {float(scores[row, column])}"
        )

    def _scores(self, P: Tensor, first: int, count: int) -> Tensor:
        """Links of a full user block against one candidate block, both in their frozen shape."""
        rows, width = self.candidates.rows(first, count), self.shapes.candidates_per_block
        block = CandidateWeights(
            _filled(rows.A, width).to(self.device),
            _filled(rows.G, width).to(self.device) if rows.G is not None else None,
            _filled(rows.w, width).to(self.device) if rows.w is not None else None,
            _filled(rows.b, width).to(self.device),
        )
        if not self._head.relu:
            flat, offset = flat_candidates(block, self._head)
            return torch.mm(P.flatten(1), flat.T) + offset
        return torch.stack([score_all(links[None], block, self._head)[0] for links in P])


def _computes_on(device: torch.device) -> str:
    """The part of the numerics id that names the device."""
    if device.type == "cuda":
        return f"device={torch.cuda.get_device_name(device)} {torch.version.cuda}"
    return f"capability={torch.backends.cpu.get_cpu_capability()}"


def _filled(rows: Tensor, width: int) -> Tensor:
    """Rows filled up with zero rows to the frozen width."""
    padded = rows.new_zeros(width, *rows.shape[1:])
    padded[: rows.shape[0]] = rows
    return padded


def _keys(scores: Tensor, first: int) -> Tensor:
    """One int64 per pair [n, W]: higher score first, then lower position. No two pairs of a user share a key."""
    # + 0.0 turns -0 into +0, else the two zeros would not tie.
    bits = (scores + 0.0).contiguous().view(torch.int32)
    ordered = torch.where(bits < 0, bits ^ 0x7FFFFFFF, bits).to(torch.int64)
    position = torch.arange(first, first + scores.shape[1], device=scores.device)
    return (ordered << 32) | (_LOW - position)


def _score_of(keys: Tensor) -> Tensor:
    """The float32 score inside a key."""
    ordered = (keys >> 32).to(torch.int32)
    bits = torch.where(ordered < 0, ordered ^ 0x7FFFFFFF, ordered)
    return bits.contiguous().view(torch.float32)
