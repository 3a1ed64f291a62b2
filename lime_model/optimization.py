"""How a training step moves the weights: learning rate, optimizer, precision of its products, order of its sums."""

import math
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn

from lime_model.config import TrainConfig


def learning_rate(config: TrainConfig, step: int) -> float:
    """Linear warm-up, then a cosine down to a tenth."""
    if step < config.warmup_steps:
        return config.learning_rate * (step + 1) / config.warmup_steps
    share = (step - config.warmup_steps) / max(1, config.steps - config.warmup_steps)
    return config.learning_rate * (0.1 + 0.45 * (1 + math.cos(math.pi * share)))


@contextmanager
def matmul_precision(name: str) -> Iterator[None]:
    """Torch's precision of float32 products for a while; its caller's comes back."""
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision(name)
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before)


@contextmanager
def ordered_sums(device: torch.device) -> Iterator[None]:
    """Gradients of what was gathered add up in one order; its caller's choice comes back.

    Torch's threads, and a GPU's, otherwise add to the same place in whichever order they come: other bits in every run.
    Where torch knows no order for a sum it refuses on a CPU, and on a GPU warns and goes on.
    """
    before = torch.get_deterministic_debug_mode()
    torch.set_deterministic_debug_mode("error" if device.type == "cpu" else "warn")
    try:
        yield
    finally:
        torch.set_deterministic_debug_mode(before)


def make_optimizer(model: nn.Module, config: TrainConfig) -> torch.optim.Optimizer:
    """AdamW, decay on matrices only: gains, offsets and age tables have no scale to keep down."""
    decayed = [p for p in model.parameters() if p.dim() == 2]
    others = [p for p in model.parameters() if p.dim() != 2]
    groups = [
        {"params": decayed, "weight_decay": config.weight_decay},
        {"params": others, "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(groups, lr=config.learning_rate, fused=True)
