"""Random candidates and links of any size, the same in every process that asks with the same seed."""

import numpy as np
import torch
from torch import Tensor

from lime_model.batches import CandidateWeights
from lime_model.candidates import Candidates, ScoreHead, candidates_of
from lime_model.scoring.lists import Eligible, Excluded, groups_of

RANK = 32  # H * L of every head


def linear_candidates(count: int, seed: int = 0) -> Candidates:
    """A linear head of rank 32: score = A[c] . P[u], one head, 32 links of width 1."""
    A = _normal(seed, count, 1, RANK)
    return _packed(CandidateWeights(A, None, None, torch.zeros(count)), torch.ones(1, 1, 1), relu=False)


def mlp_candidates(count: int, seed: int = 0) -> Candidates:
    """An mlp head: two heads, 16 links of width 64, F = 64, an offset G of its own for every candidate."""
    A = torch.softmax(_normal(seed, count, 2, RANK // 2), -1)
    weights = CandidateWeights(A, _normal(seed + 1, count, 64), None, _normal(seed + 2, count))
    return _packed(weights, _normal(seed + 3, 2, 64, 64) / 8, relu=True)


def linear_links(count: int, seed: int = 10) -> Tensor:
    """P [B, 32, 1]."""
    return _normal(seed, count, RANK, 1)


def mlp_links(count: int, seed: int = 10) -> Tensor:
    """P [B, 16, 64]."""
    return _normal(seed, count, RANK // 2, 64)


def all_eligible(candidates: int, users: int) -> Eligible:
    """One class, everything eligible."""
    bits = np.zeros(groups_of(candidates) * 16, np.uint8)
    bits[:candidates] = 1
    masks = torch.from_numpy(np.packbits(bits, bitorder="little"))[None]
    return Eligible(masks, torch.zeros(users, dtype=torch.int64))


def some_seen(candidates: int, users: int, each: int) -> Excluded:
    """So many seen candidates a user, at random."""
    generator = np.random.default_rng(20)
    rows = [np.unique(generator.integers(0, candidates, each)) for _ in range(users)]
    offsets = torch.tensor([0, *(len(row) for row in rows)]).cumsum(0)
    return Excluded(offsets, torch.from_numpy(np.concatenate(rows)) if each else torch.empty(0, dtype=torch.int64))


def _normal(seed: int, *shape: int) -> Tensor:
    return torch.from_numpy(np.random.default_rng(seed).standard_normal(shape, np.float32))


def _packed(weights: CandidateWeights, fold: Tensor, relu: bool) -> Candidates:
    F = fold.shape[2]
    head = ScoreHead(fold, torch.zeros(F), torch.ones(F), relu, "synthetic")
    return candidates_of([f"{n:08d}" for n in range(len(weights.b))], weights, head)
