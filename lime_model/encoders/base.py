"""What all encoders share: their one signature, and histories cut to what a prefix sees."""

from abc import ABC, abstractmethod
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from lime_model.ages import visible

HIDDEN = -1e9
"""A score that softmax makes 0. Finite: -inf in a whole row would make NaN, in its gradient too."""


class Encoder(nn.Module, ABC):
    """Tokens of histories to P, for any number of cuts of each."""

    def keys(self) -> Tensor | None:
        """[L, d]: what candidates attend to, with no user in it; None where they do not attend."""
        return None

    @abstractmethod
    def forward(self, tokens: Tensor, event_ts: Tensor, cuts: Tensor) -> Tensor:
        """Tokens [B, N, d], microseconds [B, N] and prefix lengths [B, Q] -> P [B, Q, L, d]."""


@dataclass(frozen=True)
class Prefixes:
    """What M prefixes see, each a history of its own, padded at the end."""

    tokens: Tensor  # [M, n, d]
    event_ts: Tensor  # [M, n]
    length: Tensor  # [M]

    def inside(self) -> Tensor:
        """Which positions hold an event [M, n]."""
        return torch.arange(self.tokens.shape[1], device=self.length.device) < self.length[:, None]


def own_prefixes(tokens: Tensor, event_ts: Tensor, cuts: Tensor, max_history: int) -> Prefixes:
    """The last N - 1 events of every prefix (ages.py says why not N): M = B * Q, rows in the order of `cuts`."""
    B, N, d = tokens.shape
    seen = max_history - 1
    start = (cuts - seen).clamp(min=0)  # [B, Q]
    position = (start[..., None] + torch.arange(min(N, seen), device=cuts.device)).clamp(max=N - 1)  # [B, Q, n]
    rows = torch.arange(B, device=cuts.device)[:, None, None]
    return Prefixes(
        tokens[rows, position].flatten(0, 1), event_ts[rows, position].flatten(0, 1), (cuts - start).flatten()
    )


def mean_of_last(tokens: Tensor, cuts: Tensor, count: int) -> Tensor:
    """Mean of the last `count` tokens before each cut [B, N, d], [B, Q] -> [B, Q, d]; zeros where there are none."""
    seen = visible(cuts, tokens.shape[1], count + 1).to(tokens.dtype)  # [B, Q, N]
    return torch.bmm(seen / seen.sum(-1, keepdim=True).clamp(min=1), tokens)
