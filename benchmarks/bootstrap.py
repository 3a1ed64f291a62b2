"""Intervals of paired differences: the same users judged two models."""

import torch
from torch import Tensor

SAMPLES, BLOCK = 4_000, 250


def paired_interval(ours: Tensor, theirs: Tensor, seed: int = 1) -> tuple[float, float, float]:
    """Mean difference over users [users] and the 2.5 and 97.5 % percentiles of its bootstrap distribution."""
    difference = (ours - theirs).double()
    generator = torch.Generator().manual_seed(seed)
    users = len(difference)
    means = torch.cat(
        [
            difference[torch.randint(users, (BLOCK, users), generator=generator)].mean(1)
            for _ in range(SAMPLES // BLOCK)
        ]
    )
    low, high = torch.quantile(means, torch.tensor([0.025, 0.975], dtype=torch.float64)).tolist()
    return float(difference.mean()), low, high
