"""Small candidates, links and filters with known answers, for every scorer's tests."""

import torch
from torch import Tensor

from lime_model.batches import CandidateWeights
from lime_model.candidates import Candidates, ScoreHead, candidates_of
from lime_model.scoring.lists import Eligible, Excluded, TopK, pack

HEADS = ("linear", "dot", "mlp")
H, L, D = 2, 3, 8


def made(head: str, C: int, seed: int = 0, width: int = D, L: int = L, F: int = 5, **changes: Tensor) -> Candidates:
    """C candidates of a head, F of the mlp one; `changes` replace `A`, `b`, `fold` before they are packed."""
    g = torch.Generator().manual_seed(seed)
    F = {"linear": 1, "dot": width, "mlp": F}[head]
    A = torch.softmax(torch.randn(C, H, L, generator=g), -1)
    G = torch.randn(C, F, generator=g) if head == "mlp" else None
    w = torch.randn(C, F, generator=g) if head == "dot" else None
    b = torch.randn(C, generator=g)
    weights = CandidateWeights(changes.get("A", A), G, w, changes.get("b", b))
    fold = changes.get("fold", torch.randn(H, width, F, generator=g))
    shared = ScoreHead(fold, torch.zeros(F), torch.ones(F), head == "mlp", "digest")
    return candidates_of([f"{n:05d}" for n in range(C)], weights, shared)


def links(B: int, seed: int = 1, width: int = D, L: int = L) -> Tensor:
    """P [B, L, width]."""
    return torch.randn(B, L, width, generator=torch.Generator().manual_seed(seed))


def nothing(B: int) -> Excluded:
    """Nobody is denied anything."""
    return Excluded(torch.zeros(B + 1, dtype=torch.int64), torch.empty(0, dtype=torch.int64))


def excluded(rows: list[list[int]]) -> Excluded:
    """Sorted positions of each user."""
    return Excluded(
        torch.tensor([0, *(len(r) for r in rows)]).cumsum(0), torch.tensor([p for r in rows for p in r]).long()
    )


def everything(C: int, B: int) -> Eligible:
    """All candidates for all users."""
    return only(torch.ones(C, dtype=torch.bool), B)


def only(allowed: Tensor, B: int) -> Eligible:
    """The allowed candidates [C] for all users."""
    return Eligible(pack(allowed[None]), torch.zeros(B, dtype=torch.int64))


def exact(candidates: Candidates, P: Tensor) -> Tensor:
    """[B, C] in float64, straight from the definition."""
    T = torch.einsum("bld,hdf->bhlf", P.double(), candidates.fold.double())
    weights = candidates.rows(0, len(candidates))
    hidden = torch.einsum("chl,bhlf->bcf", weights.A.double(), T)
    hidden = hidden + (weights.G if weights.G is not None else candidates.g).double()
    hidden = hidden.relu() if candidates.relu else hidden
    w = (weights.w if weights.w is not None else candidates.w).double()
    return (hidden * w).sum(-1) + weights.b.double()


def lists(found: TopK) -> list[list[int]]:
    """Positions of each user, without the padding."""
    return [row[:n].tolist() for row, n in zip(found.positions, found.count.tolist(), strict=True)]
