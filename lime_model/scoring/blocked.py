"""The score stage in torch: exact top-k in blocks of users and candidates, on the CPU or a GPU.

Where the head has no activation, score = P[u] . M[c] + offset with M[c, l] = sum_h A[c, h, l] fold[h] w[c]: the same
algebra as A . T_u with T_u = P[u] @ fold, in half the operations. Blocks have frozen shapes and are filled up, so a
pair's score has the same bits in whatever batch or position it is computed; they are not the kernel's bits, and the
numerics id says so. Against the kernel, scores agree to about 1e-5 of their sum of absolute terms.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from lime_model.batches import CandidateWeights
from lime_model.candidates import Candidates
from lime_model.config import require
from lime_model.folded import FoldedHead, flat_candidates, score_all
from lime_model.scoring.lists import Eligible, Excluded, TopK, check_k, check_request, unpack
from schemas.errors import BadNumberError

NOTHING = torch.iinfo(torch.int64).min  # key of a pair that may not be listed
_LOW = 0xFFFFFFFF
NUMERICS = "torch-blocked-3"


@dataclass(frozen=True)
class ScoreShapes:
    """Frozen block shapes, of the numerics id: another shape may be other bits. Candidates come in bytes of 8."""

    users_per_block: int = 64
    candidates_per_block: int = 1024
    users_at_once: int = 1  # of a block under the MLP head, whose F numbers a pair then stay in a core's cache

    def __post_init__(self) -> None:
        require(self.users_per_block >= 1, "ScoreShapes.users_per_block", "at least 1", self.users_per_block)
        width, once = self.candidates_per_block, self.users_at_once
        require(width >= 8 and width % 8 == 0, "ScoreShapes.candidates_per_block", "a multiple of 8", width)
        divides = once >= 1 and self.users_per_block % once == 0
        require(divides, "ScoreShapes.users_at_once", f"a divisor of {self.users_per_block}", once)


# A GPU waits for its launches: blocks as large as 256 MiB of F = 64 numbers a pair allow.
GPU_SHAPES = ScoreShapes(users_per_block=256, candidates_per_block=4096, users_at_once=256)


@dataclass(frozen=True)
class _Block:
    """One block of candidates on the device, in its frozen shape, and whom it may be listed for."""

    first: int
    count: int
    weights: CandidateWeights
    flat: tuple[Tensor, Tensor] | None  # `flat_candidates`, for a head without an activation
    allowed: Tensor  # [B, count] bool


class BlockedScorer:
    """The K best of every user by torch on one device."""

    def __init__(
        self, candidates: Candidates, k: int, shapes: ScoreShapes | None = None, device: torch.device | None = None
    ) -> None:
        check_k(k)
        self.candidates, self.k, self.device = candidates, k, device or torch.device("cpu")
        self.shapes = shapes or (GPU_SHAPES if self.device.type == "cuda" else ScoreShapes())
        fold, g, w = (t.to(self.device) for t in (candidates.fold, candidates.g, candidates.w))
        self._head = FoldedHead(fold, g, w, candidates.relu)
        self.numerics_id = f"{NUMERICS};torch={torch.__version__};{_computes_on(self.device)};{_said(self.shapes)}"

    def top_k(self, P: Tensor, excluded: Excluded, eligible: Eligible) -> TopK:
        """Links [B, L, d] float32 -> TopK; see `Scorer.top_k`.

        Candidates pass once, block by block, and all users see each of them.
        """
        found = self.candidates
        check_request((found.links, found.width), P, excluded, eligible, found.count)
        bad = torch.nonzero(~P.flatten(1).isfinite().all(1)).flatten()
        if len(bad):
            raise BadNumberError(f"links of user row {int(bad[0])}: expected finite numbers, found {len(bad)} bad rows")
        with torch.inference_mode():
            users = [self._filled_users(part) for part in P.split(self.shapes.users_per_block)]
            keys = torch.full((len(P), self.k), NOTHING, dtype=torch.int64, device=self.device)
            denied = _by_position(excluded)
            for first in range(0, len(found), self.shapes.candidates_per_block):
                self._merge(keys, users, self._block(first, denied, eligible))
        return lists_of(keys.cpu())

    def _filled_users(self, P: Tensor) -> Tensor:
        """Links [n, L, d] -> on the device, filled up to the frozen number of users."""
        return _filled(P, self.shapes.users_per_block).to(self.device)

    def _block(self, first: int, denied: tuple[Tensor, Tensor], eligible: Eligible) -> _Block:
        """The candidates from `first`; `denied` are users and positions, sorted by position."""
        count = min(self.shapes.candidates_per_block, len(self.candidates) - first)
        allowed = unpack(eligible.masks, first, count).to(self.device)[eligible.class_of.to(self.device)]
        user, position = denied
        low, high = torch.searchsorted(position, torch.tensor([first, first + count])).tolist()
        allowed[user[low:high].to(self.device), (position[low:high] - first).to(self.device)] = False
        rows, width = self.candidates.rows(first, count), self.shapes.candidates_per_block
        weights = CandidateWeights(
            _filled(rows.A, width).to(self.device),
            _filled(rows.G, width).to(self.device) if rows.G is not None else None,
            _filled(rows.w, width).to(self.device) if rows.w is not None else None,
            _filled(rows.b, width).to(self.device),
        )
        flat = None if self._head.relu else flat_candidates(weights, self._head)
        return _Block(first, count, weights, flat, allowed)

    def _merge(self, keys: Tensor, users: Sequence[Tensor], block: _Block) -> None:
        """Let one block's candidates into the users' best keys [B, K], in place."""
        size = self.shapes.users_per_block
        for number, P in enumerate(users):
            rows = slice(number * size, (number + 1) * size)
            allowed = block.allowed[rows]
            if not bool(allowed.any()):
                continue
            scores = self._scores(P, block)[: len(allowed), : block.count]
            self._check_finite(scores, rows.start, block.first)
            new = _keys(scores, block.first).masked_fill(~allowed, NOTHING)
            keys[rows] = torch.cat([keys[rows], new], dim=1).topk(self.k, dim=1).values

    def _check_finite(self, scores: Tensor, start: int, first: int) -> None:
        if bool(scores.isfinite().all()):
            return
        row, column = (int(i) for i in torch.nonzero(~scores.isfinite())[0])
        raise BadNumberError(
            f"score of user row {start + row} and item {self.candidates.item_id(first + column)!r}: "
            f"expected a finite number, found {float(scores[row, column])}"
        )

    def _scores(self, P: Tensor, block: _Block) -> Tensor:
        """Links of a full user block against a candidate block, both in their frozen shape."""
        if block.flat is not None:
            directions, offset = block.flat
            return torch.mm(P.flatten(1), directions.T) + offset
        parts = P.split(self.shapes.users_at_once)
        return torch.cat([score_all(part, block.weights, self._head) for part in parts])


def _by_position(excluded: Excluded) -> tuple[Tensor, Tensor]:
    """Users and positions of all exclusions, by position."""
    users = torch.repeat_interleave(torch.arange(len(excluded.offsets) - 1), excluded.offsets.diff())
    order = torch.argsort(excluded.positions)
    return users[order], excluded.positions[order]


def _said(shapes: ScoreShapes) -> str:
    """The part of the numerics id that names the shapes."""
    users = f"users={shapes.users_per_block}/{shapes.users_at_once}"
    return f"{users};candidates={shapes.candidates_per_block}"


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


def lists_of(keys: Tensor) -> TopK:
    """Keys [n, K], best first, as lists."""
    listed = keys != NOTHING
    positions = torch.where(listed, _LOW - (keys & _LOW), -1)
    return TopK(positions, torch.where(listed, _score_of(keys), 0.0), listed.sum(1))


def _score_of(keys: Tensor) -> Tensor:
    """The float32 score inside a key."""
    ordered = (keys >> 32).to(torch.int32)
    bits = torch.where(ordered < 0, ordered ^ 0x7FFFFFFF, ordered)
    return bits.contiguous().view(torch.float32)
