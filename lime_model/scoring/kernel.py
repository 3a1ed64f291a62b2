"""The compiled kernel behind the scorer's interface: fold, weighted sum, hidden layer, filters and top-k in one pass.

One call uses one core and releases the interpreter's lock. A pair's score has the same bits whatever the batch, the
block, the neighbours or the build: `native/kernel.c` says in which order they are made.
"""

import ctypes
from ctypes import POINTER, byref, c_char_p, c_float, c_int, c_int64, c_void_p
from functools import lru_cache

import torch
from torch import Tensor

from lime_model.candidates import Candidates
from lime_model.scoring.library import carried, open_library
from lime_model.scoring.lists import Eligible, Excluded, TopK, check_k, check_request, unbounded

_OK, _NO_MEMORY, _BAD_LINKS = 0, 1, 2


class _Candidates(ctypes.Structure):
    _fields_ = (
        *((name, c_int64) for name in ("count", "heads", "links", "width", "hidden", "relu")),
        *((name, c_void_p) for name in ("A", "G", "W", "b", "fold", "g", "w", "A_max", "G_max", "W_max")),
        ("b_max", c_float),
    )


class _Users(ctypes.Structure):
    _fields_ = (
        ("count", c_int64),
        *((name, c_void_p) for name in ("links", "masks", "class_of", "denied_offsets", "denied")),
    )


class _Lists(ctypes.Structure):
    _fields_ = (*((name, c_void_p) for name in ("positions", "scores", "count")), ("bad_user", c_int64))


class KernelScorer:
    """The K best of every user by one build of the kernel (default: the best that runs here)."""

    def __init__(self, candidates: Candidates, k: int, build: str = "") -> None:
        check_k(k)
        self.candidates, self.k = candidates, k
        self._library = _declared(build or carried()[0])
        self.numerics_id = f"kernel={self._library.lime_arithmetic().decode()}"
        self._tensors = {name: _aligned(getattr(candidates, name)) for name in _POINTERS}  # kept while the kernel reads
        sizes = (candidates.count, candidates.heads, candidates.links, candidates.width, candidates.hidden)
        pointers = (_pointer(tensor) for tensor in self._tensors.values())
        self._struct = _Candidates(*sizes, candidates.relu, *pointers, float(candidates.b_max[0]))

    def top_k(self, P: Tensor, excluded: Excluded, eligible: Eligible) -> TopK:
        """Links [B, L, d] float32 -> TopK; see `Scorer.top_k`."""
        found, B = self.candidates, P.shape[0]
        check_request((found.links, found.width), P, excluded, eligible, found.count)
        inputs = [
            t.contiguous() for t in (P.float(), eligible.masks, eligible.class_of, excluded.offsets, excluded.positions)
        ]
        top = TopK(
            torch.empty(B, self.k, dtype=torch.int64),
            torch.empty(B, self.k),
            torch.empty(B, dtype=torch.int64),
        )
        lists = _Lists(*(t.data_ptr() for t in (top.positions, top.scores, top.count)), -1)
        users = _Users(B, *(_pointer(t) for t in inputs))
        status = self._library.lime_top_k(byref(self._struct), byref(users), self.k, byref(lists))
        if status == _BAD_LINKS:
            raise unbounded(lists.bad_user)
        if status == _NO_MEMORY:
            raise MemoryError("score: the kernel's block of users found no memory")
        return top


_POINTERS = ("A", "G", "W", "b", "fold", "g", "w", "A_max", "G_max", "W_max")


def find_positions(items: tuple[Tensor, Tensor], ids: tuple[Tensor, Tensor], build: str = "") -> Tensor:
    """Sorted ids and others, each as (bytes, offsets [n + 1]) -> positions of the others.

    A stranger's is -1 less the place where it would stand.
    """
    found = torch.empty(len(ids[1]) - 1, dtype=torch.int64)
    library = _declared(build or carried()[0])
    (item_bytes, item_offsets), (id_bytes, id_offsets) = items, ids
    library.lime_find(
        _pointer(item_bytes), _pointer(item_offsets), len(item_offsets) - 1,
        _pointer(id_bytes), _pointer(id_offsets), len(found), _pointer(found),
    )  # fmt: skip
    return found


def _aligned(tensor: Tensor | None) -> Tensor | None:
    """The tensor where whole vectors can be loaded from it; files and torch's own memory are laid out for it."""
    return tensor if tensor is None or tensor.data_ptr() % 64 == 0 else tensor.clone()


def _pointer(tensor: Tensor | None) -> int | None:
    return None if tensor is None else tensor.data_ptr()


@lru_cache(maxsize=8)
def _declared(build: str) -> ctypes.CDLL:
    """A build with its functions' types."""
    library = open_library(build)
    library.lime_top_k.argtypes = (POINTER(_Candidates), POINTER(_Users), c_int64, POINTER(_Lists))
    library.lime_top_k.restype = c_int
    library.lime_find.argtypes = (c_void_p, c_void_p, c_int64, c_void_p, c_void_p, c_int64, c_void_p)
    library.lime_find.restype = None
    library.lime_arithmetic.restype = c_char_p
    return library
