"""SASRec (arXiv 1808.09781) and HSTU (arXiv 2402.17152): events see the events before them, the last state is the user.

Both serve through the two halves with L = 1. A state depends on no cut after it, so one pass over a window that is no
longer than a history serves all of its cuts; a longer one is read prefix by prefix.
"""

import math
from abc import abstractmethod
from collections.abc import Iterable
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional as fn

from lime_model.ages import MICROS, buckets_of
from lime_model.config import ModelConfig
from lime_model.encoders.base import HIDDEN, Encoder, own_prefixes


class CausalEncoder(Encoder):
    """The state after the last event of a prefix; a learnt one where there is no event."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.max_history = config.max_history
        self.start = nn.Parameter(torch.randn(config.width) * config.width**-0.5)
        self.norm = nn.LayerNorm(config.width)

    def forward(self, tokens: Tensor, event_ts: Tensor, cuts: Tensor) -> Tensor:
        """See Encoder."""
        if tokens.shape[1] < self.max_history:
            return self._after(self.states(tokens, event_ts), cuts)
        own = own_prefixes(tokens, event_ts, cuts, self.max_history)
        alone = self._after(self.states(own.tokens, own.event_ts), own.length[:, None])
        return alone.view(*cuts.shape, 1, -1)

    def _after(self, states: Tensor, cuts: Tensor) -> Tensor:
        """States [B, N, d] and prefix lengths [B, Q] -> [B, Q, 1, d]."""
        first = self.start.expand(len(states), 1, -1)
        reached = torch.cat([first, states], dim=1)  # [B, 1 + N, d]
        normed: Tensor = self.norm(reached[torch.arange(len(cuts), device=cuts.device)[:, None], cuts])
        return normed[:, :, None]

    @abstractmethod
    def states(self, tokens: Tensor, event_ts: Tensor) -> Tensor:
        """Tokens [B, N, d] -> what is known after each event [B, N, d]. Padding is at the end, so nobody sees it."""


def before_or_at(width: int, device: torch.device) -> Tensor:
    """Which event j event i sees: j <= i. [N, N] bool."""
    return torch.ones(width, width, dtype=torch.bool, device=device).tril()


class SasrecLayer(nn.Module):
    """Pre-LayerNorm self-attention and FFN."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        d = config.width
        self.heads = config.heads
        self.norm, self.ffn_norm = nn.LayerNorm(d), nn.LayerNorm(d)
        self.qkv, self.out = nn.Linear(d, 3 * d), nn.Linear(d, d)
        self.ffn_in, self.ffn_out = nn.Linear(d, config.ffn_width), nn.Linear(config.ffn_width, d)
        self.dropout = nn.Dropout(config.dropout)

    def forward(self, states: Tensor) -> Tensor:
        """[B, N, d] -> the same."""
        B, N, d = states.shape
        q, k, v = self.qkv(self.norm(states)).view(B, N, 3, self.heads, d // self.heads).permute(2, 0, 3, 1, 4)
        scores = q @ k.transpose(-2, -1) / math.sqrt(q.shape[-1])
        weights = torch.softmax(scores.masked_fill(~before_or_at(N, states.device), HIDDEN), dim=-1)
        states = states + self.dropout(self.out((weights @ v).transpose(1, 2).flatten(2)))
        hidden = self.dropout(fn.relu(self.ffn_in(self.ffn_norm(states))))
        after: Tensor = states + self.dropout(self.ffn_out(hidden))
        return after


class SasrecEncoder(CausalEncoder):
    """Learnt positions, counted from the start of what is read, as its authors have it."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__(config)
        self.positions = nn.Embedding(config.max_history - 1, config.width)
        nn.init.normal_(self.positions.weight, std=0.02)
        self.layers = nn.ModuleList(SasrecLayer(config) for _ in range(config.layers))

    def states(self, tokens: Tensor, event_ts: Tensor) -> Tensor:
        """See CausalEncoder."""
        states = tokens + self.positions.weight[: tokens.shape[1]]
        for layer in self.layers:
            states = layer(states)
        return states


class RelativeBias(nn.Module):
    """A learnt number per bucket of the distance in events and of the distance in time, the same for all heads."""

    rank_bounds: Tensor
    time_bounds: Tensor

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.rank = nn.Parameter(torch.zeros(len(config.rank_bounds) + 1))
        self.time = nn.Parameter(torch.zeros(len(config.time_bounds_s) + 1)) if config.use_times else None
        self.register_buffer("rank_bounds", torch.tensor(config.rank_bounds), persistent=False)
        self.register_buffer("time_bounds", torch.tensor(config.time_bounds_s), persistent=False)

    def forward(self, event_ts: Tensor) -> Tensor:
        """Microseconds [B, N] -> [B or 1, N, N]."""
        position = torch.arange(event_ts.shape[1], device=event_ts.device)
        bias = self.rank[buckets_of(position[:, None] - position, self.rank_bounds)][None]
        if self.time is None:
            return bias
        seconds = (event_ts[:, :, None] - event_ts[:, None]) // MICROS
        return bias + self.time[buckets_of(seconds, self.time_bounds)]


class HstuLayer(nn.Module):
    """Pointwise attention, silu in softmax's stead, gated: one projection in, one out, no FFN."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        d = config.width
        self.heads, self.scale = config.heads, 1.0 / config.max_history
        self.norm, self.attended_norm = nn.LayerNorm(d), nn.LayerNorm(d)
        self.uvqk, self.out = nn.Linear(d, 4 * d), nn.Linear(d, d)
        self.dropout = nn.Dropout(config.dropout)

    def forward(self, states: Tensor, bias: Tensor) -> Tensor:
        """[B, N, d] and [B or 1, N, N] -> [B, N, d]."""
        B, N, _ = states.shape
        gate, v, q, k = fn.silu(self.uvqk(self.norm(states))).chunk(4, dim=-1)
        v, q, k = (part.view(B, N, self.heads, -1).transpose(1, 2) for part in (v, q, k))
        weights = fn.silu(q @ k.transpose(-2, -1) + bias[:, None]) * self.scale
        weights = weights.masked_fill(~before_or_at(N, states.device), 0.0)
        attended = self.attended_norm((weights @ v).transpose(1, 2).flatten(2))
        after: Tensor = states + self.out(self.dropout(gate * attended))
        return after


class HstuEncoder(CausalEncoder):
    """Order and time enter by the bias alone."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__(config)
        self.bias = RelativeBias(config)
        self.layers = nn.ModuleList(HstuLayer(config) for _ in range(config.layers))

    def states(self, tokens: Tensor, event_ts: Tensor) -> Tensor:
        """See CausalEncoder."""
        bias = self.bias(event_ts)
        for layer in cast(Iterable[HstuLayer], self.layers):
            tokens = layer(tokens, bias)
        return tokens
