"""Intervals of paired differences: the same users judged two models."""

import torch
from torch import Tensor

SAMPLES, BLOCK = 4_000, 250


def paired_interval(
    ours: Tensor, theirs: Tensor, users: Tensor | None = None, seed: int = 1
) -> tuple[float, float, float]:
    """Mean difference over rows [n], and the 2.5 and 97.5 % percentiles of its bootstrap distribution.

    Users are drawn, each with all of their rows; `users` [n] says whose a row is, by default each is a user's only one.
    """
    difference = (ours - theirs).double()
    owner = torch.arange(len(difference)) if users is None else torch.unique(users, return_inverse=True)[1]
    count = int(owner.max()) + 1
    sums = torch.zeros(count, dtype=torch.float64).index_add_(0, owner, difference)
    rows = torch.bincount(owner).double()
    generator = torch.Generator().manual_seed(seed)
    means = []
    for _ in range(SAMPLES // BLOCK):
        drawn = torch.randint(count, (BLOCK, count), generator=generator)
        means.append(sums[drawn].sum(1) / rows[drawn].sum(1))
    low, high = torch.quantile(torch.cat(means), torch.tensor([0.025, 0.975], dtype=torch.float64)).tolist()
    return float(difference.mean()), low, high
