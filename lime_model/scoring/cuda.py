"""The kernel on a GPU: `native/score.cu`, compiled for the head and the GPU when a worker opens its candidates.

A pair's score has the bits that the kernel gives on a CPU, so lists do not depend on where they were made. Candidates
stay on the GPU. They pass in tiles, and of a tile only those pairs are noted that beat the worst of the user's list so
far; torch keeps the best of list and notes. Of users x candidates no more is stored than the notes of one tile by a
few thousand users.
"""

import ctypes
from collections.abc import Callable, Mapping
from ctypes import c_int64, c_void_p
from dataclasses import dataclass, replace
from functools import lru_cache
from importlib.resources import files

import torch
from torch import Tensor

from lime_model.candidates import Candidates
from lime_model.config import require
from lime_model.scoring.blocked import NOTHING, lists_of
from lime_model.scoring.cuda_program import Program
from lime_model.scoring.lists import Eligible, Excluded, TopK, check_k, check_request, unbounded

ARITHMETIC = "lime-1"  # of native/kernel.c too
SHARED_FLOATS = 12 * 1024  # 48 KB: what every GPU gives a block without being asked
_TABLES = ("A", "G", "W", "b", "fold", "g", "w")
_OF_USERS = ("links", "T", "masks", "class_of", "denied_offsets", "denied", "thresholds", "found", "filled")
_TENSORS = (*_TABLES, *_OF_USERS)
_NUMBERS = ("users", "first", "count", "room", "mask_bytes")
_Make = Callable[[str, Mapping[str, int], torch.device], Program]


@dataclass(frozen=True)
class LaunchShape:
    """How work is cut up; no score depends on it. What a GPU's block does is said in score.cu."""

    threads: int = 128
    each: int = 2  # candidates a thread
    users: int = 16  # a block
    chunk: int = 32  # hidden units in registers at once
    unroll: int = 4
    users_at_once: int = 4096  # room for 1 GB of notes; up to 3 GB while the best of them are found
    first_tile: int = 1024
    largest_tile: int = 32768

    def __post_init__(self) -> None:
        one = self.threads == 1  # without a GPU: no warps
        require(one or self.threads % 32 == 0, "LaunchShape.threads", "whole warps of 32", self.threads)
        require(self.chunk == 1 or self.chunk % 4 == 0, "LaunchShape.chunk", "a multiple of 4", self.chunk)
        fits = 0 < self.first_tile <= self.largest_tile
        require(fits, "LaunchShape.first_tile", f"1 to {self.largest_tile}", self.first_tile)

    def tiles(self, count: int) -> list[tuple[int, int]]:
        """First candidate and number of each tile: few while lists are empty and every pair is noted, then more."""
        tiles, first, width = [], 0, self.first_tile
        while first < count:
            tiles.append((first, min(width, count - first)))
            first, width = first + width, min(4 * width, self.largest_tile)
        return tiles


class _Arguments(ctypes.Structure):
    _fields_ = (*((name, c_void_p) for name in _TENSORS), *((name, c_int64) for name in _NUMBERS))


class CudaScorer:
    """The K best of every user by the kernel on one GPU."""

    def __init__(
        self,
        candidates: Candidates,
        k: int,
        device: torch.device,
        shape: LaunchShape | None = None,
        program: _Make = Program,
    ) -> None:
        check_k(k)
        self.candidates, self.k, self.device = candidates, k, device
        self.numerics_id = f"kernel={ARITHMETIC}"
        self.shape = _fitted(shape or LaunchShape(), candidates)
        tables = ((name, getattr(candidates, name)) for name in _TABLES)
        self._tables = {name: table.to(device) for name, table in tables if table is not None}
        self._bounds = [getattr(candidates, name).double().to(device) for name in ("A_max", "G_max", "W_max", "b_max")]
        self._program = _loaded(program, _macros(candidates, self.shape), device)

    def top_k(self, P: Tensor, excluded: Excluded, eligible: Eligible) -> TopK:
        """Links [B, L, d] float32 -> TopK; see `Scorer.top_k`."""
        found, B, at_once = self.candidates, len(P), self.shape.users_at_once
        check_request((found.links, found.width), P, excluded, eligible, found.count)
        filters = {"masks": self._here(eligible.masks), "denied": self._here(excluded.positions)}
        best = [torch.empty(0, self.k, dtype=torch.int64, device=self.device)]
        for first in range(0, B, at_once):
            last = min(first + at_once, B)
            of_users = {
                "links": self._here(P[first:last].float()),
                "class_of": self._here(eligible.class_of[first:last]),
                "denied_offsets": self._here(excluded.offsets[first : last + 1]),
            }
            best.append(self._best(first, {**filters, **of_users}))
        top = lists_of(torch.cat(best))
        return TopK(top.positions.cpu(), top.scores.cpu(), top.count.cpu())

    def _here(self, values: Tensor) -> Tensor:
        """On the device, as the kernel reads it: one number after another."""
        return values.contiguous().to(self.device)

    def _best(self, first: int, inputs: Mapping[str, Tensor]) -> Tensor:
        """Best keys [n, K] of the n users from `first`."""
        c, shape, n, device = self.candidates, self.shape, len(inputs["links"]), self.device
        tiles = shape.tiles(c.count)
        room = max((count for _, count in tiles), default=0)
        T = torch.empty(n, -(-c.hidden // shape.chunk), c.heads * c.links, shape.chunk, device=device)
        keys = torch.full((n, self.k), NOTHING, dtype=torch.int64, device=device)
        thresholds = torch.empty(n, dtype=torch.int64, device=device)
        found = torch.empty(n, room, dtype=torch.int64, device=device)
        filled = torch.empty(n, dtype=torch.int32, device=device)
        made = {"T": T, "thresholds": thresholds, "found": found, "filled": filled}
        pointers = {name: tensor.data_ptr() for name, tensor in {**self._tables, **inputs, **made}.items()}
        arguments = _Arguments(**pointers, users=n, room=room, mask_bytes=inputs["masks"].shape[1])
        self._program.launch("fold_links", (n, 1), shape.threads, arguments)
        self._require_bounded(first, T)
        for arguments.first, arguments.count in tiles:
            filled.zero_()
            thresholds.copy_(keys[:, -1])
            blocks = (-(-arguments.count // (shape.threads * shape.each)), -(-n // shape.users))
            self._program.launch("score_users", blocks, shape.threads, arguments)
            keys = _merged(keys, found, filled)
        return keys

    def _require_bounded(self, first: int, T: Tensor) -> None:
        """Raise BadNumberError where a sum of absolute terms is too near to the limit or NaN: fold.h's `is_bounded`."""
        A, G, W, b = self._bounds
        hidden = G + torch.einsum("r,ucrf->ucf", A, T.double().abs()).flatten(1)[:, : len(G)]
        bad = torch.nonzero(~((hidden < 1e38).all(1) & (hidden @ W + b < 1e38))).flatten()
        if len(bad):
            raise unbounded(first + int(bad[0]))


def _is_linear(c: Candidates) -> bool:
    """Whether the hidden layer is one number that is the score but for b: `is_linear` of kernel.c."""
    own = c.G is not None or c.W is not None
    return c.hidden == 1 and not c.relu and not own and float(c.g[0]) == 0.0 and float(c.w[0]) == 1.0


def _fitted(shape: LaunchShape, c: Candidates) -> LaunchShape:
    """For many rows less of T at once: of a linear head `users` of it, of others two chunks are in shared memory."""
    most = SHARED_FLOATS // (c.heads * c.links)
    if _is_linear(c):
        return replace(shape, chunk=1, users=max(1, min(shape.users, most)))
    return replace(shape, chunk=max(4, min(shape.chunk, most // 8 * 4)))


def _macros(c: Candidates, shape: LaunchShape) -> tuple[tuple[str, int], ...]:
    """What score.cu is compiled with."""
    head = {"HEADS": c.heads, "LINKS": c.links, "WIDTH": c.width, "HIDDEN": c.hidden, "RELU": c.relu}
    own = {"LINEAR": _is_linear(c), "OWN_G": c.G is not None, "OWN_W": c.W is not None}
    block = {name.upper(): getattr(shape, name) for name in ("threads", "each", "users", "chunk", "unroll")}
    return tuple((name, int(value)) for name, value in {**head, **own, **block}.items())


@lru_cache(maxsize=16)
def _loaded(program: _Make, macros: tuple[tuple[str, int], ...], device: torch.device) -> Program:
    source = files("lime_model.scoring") / "native" / "score.cu"
    return program(source.read_text(), dict(macros), device)


def _merged(keys: Tensor, found: Tensor, filled: Tensor) -> Tensor:
    """The best of keys [n, K] and of what was noted, `filled` of each row of `found`."""
    most = int(filled.max())
    noted = torch.arange(most, device=keys.device) < filled[:, None]
    new = torch.where(noted, found[:, :most], NOTHING)
    return torch.cat([keys, new], dim=1).topk(keys.shape[1], dim=1).values
