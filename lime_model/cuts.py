"""Where the windows of a training step are cut, and which events a cut predicts."""

import torch
from torch import Tensor

from lime_model.training_set import WindowBatch


def random_cuts(targets: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """Target positions [B, N] -> which of [B, Q] are real, and Q random positions per window without repeats.

    A position is also the length of the prefix before it.
    """
    keys = torch.rand(targets.shape, device=targets.device).masked_fill(~targets, -1.0)
    best = keys.topk(min(count, targets.shape[1]), dim=1)
    return best.values >= 0, best.indices


def next_events(batch: WindowBatch, positions: Tensor, real: Tensor, horizon: int) -> tuple[Tensor, Tensor]:
    """Cuts [B, Q] -> R pairs: which of the real cuts, and the code of one of the targets among its next events."""
    width, device = batch.codes.shape[1], positions.device
    ahead = positions[..., None] + torch.arange(horizon, device=device)  # [B, Q, T]
    window, inside = torch.arange(len(ahead), device=device)[:, None, None], ahead.clamp(max=width - 1)
    there = (ahead < width) & batch.targets[window, inside]
    cut, step = there[real].nonzero().unbind(1)
    return cut, batch.codes[window, inside][real][cut, step]
