"""Folded scores in plain torch: what training needs gradients of, and what the kernel is compared with.

Heads without an activation fold further: score = P[u] . M[c] + const with M[c, l] = sum_h A[c, h, l] fold[h] w[c],
L * d multiply-adds a pair in one matrix product instead of H * L * F.
"""

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as fn

from lime_model.batches import CandidateWeights


@dataclass(frozen=True)
class FoldedHead:
    """What a batch of scores needs besides links and candidate weights."""

    fold: Tensor  # [H, d, F]
    g: Tensor  # [F]
    w: Tensor  # [F]
    relu: bool


def flat_candidates(weights: CandidateWeights, head: FoldedHead) -> tuple[Tensor, Tensor]:
    """Identity heads: M [C, L*d] and offsets [C] with score = P.flat @ M.T + offset."""
    w = weights.w if weights.w is not None else head.w.expand(len(weights.b), -1)
    directions = torch.einsum("hdf,cf->chd", head.fold, w)  # [C, H, d]
    M = torch.einsum("chl,chd->cld", weights.A, directions).flatten(1)  # [C, L*d]
    G = weights.G if weights.G is not None else head.g
    return M, weights.b + (G * w).sum(-1)


def score_all(P: Tensor, weights: CandidateWeights, head: FoldedHead) -> Tensor:
    """Links [M, L, d] against every candidate -> [M, C]."""
    if not head.relu:
        flat, offset = flat_candidates(weights, head)
        return torch.addmm(offset, P.flatten(1), flat.T)
    T = torch.einsum("mld,hdf->mhlf", P, head.fold).flatten(1, 2)  # [M, H*L, F]
    G = weights.G if weights.G is not None else head.g
    hidden = fn.relu(weights.A.flatten(1) @ T + G)  # [M, C, F]
    w = weights.w if weights.w is not None else head.w
    return (hidden * w).sum(-1) + weights.b


def score_pairs(P: Tensor, weights: CandidateWeights, head: FoldedHead) -> Tensor:
    """Links [M, L, d] each against its own candidate of M -> [M]."""
    if not head.relu:
        flat, offset = flat_candidates(weights, head)
        return (P.flatten(1) * flat).sum(-1) + offset
    mixed = torch.einsum("mhl,mld->mhd", weights.A, P)
    G = weights.G if weights.G is not None else head.g
    hidden = fn.relu(torch.einsum("mhd,hdf->mf", mixed, head.fold) + G)
    return (hidden * (weights.w if weights.w is not None else head.w)).sum(-1) + weights.b
