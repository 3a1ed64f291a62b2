"""Where the blocks of a training step are cut, and which events a cut predicts."""

import torch
from torch import Tensor

from lime_model.training_set import WindowBatch


def cuts_of(targets: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """Target positions [B, N] -> which of [B, Q] are real, and the first Q positions of each row's targets.

    A position is also the length of the prefix before it.
    """
    positions = targets.int().argmax(1)[:, None] + torch.arange(count, device=targets.device)
    inside = positions.clamp(max=targets.shape[1] - 1)
    return targets.gather(1, inside) & (inside == positions), inside


def next_events(batch: WindowBatch, positions: Tensor, real: Tensor, horizon: int) -> tuple[Tensor, Tensor]:
    """Cuts [B, Q] -> R pairs: which of the real cuts, and where one of the targets among its next events stands in the
    batch [B * N].
    """
    width, device = batch.codes.shape[1], positions.device
    ahead = positions[..., None] + torch.arange(horizon, device=device)  # [B, Q, T]
    window, inside = torch.arange(len(ahead), device=device)[:, None, None], ahead.clamp(max=width - 1)
    there = (ahead < width) & batch.targets[window, inside]
    cut, step = there[real].nonzero().unbind(1)
    return cut, (window * width + inside)[real][cut, step]
