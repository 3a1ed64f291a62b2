"""Gaps between events and ages of events, as buckets.

A gap belongs to a token: seconds since the user's previous event, whatever the cut. An age belongs to a
cut: rank from the end and seconds before the last event of the prefix. The oldest event of a *full* history
(N events) has lost its predecessor, so it is read for the gap of the next one only and attended by nobody:
a history of N events and the same N events cut out of a longer window are then the same N - 1 tokens, to
the bit of their meaning.
"""

import torch
from torch import Tensor, nn

from lime_model.config import ModelConfig

MICROS = 1_000_000
NO_GAP = 0


def buckets_of(values: Tensor, bounds: Tensor) -> Tensor:
    """Number of bounds <= value, [*] -> [*]; negative values (clock corrections) count as 0."""
    return torch.bucketize(values.clamp(min=0), bounds, right=True)


def gap_buckets(event_ts: Tensor, bounds: Tensor) -> Tensor:
    """Microseconds [B, N] -> 0 for the first event, else 1 + bucket of the seconds since the previous one."""
    gaps = torch.zeros_like(event_ts)
    seconds = (event_ts[:, 1:] - event_ts[:, :-1]) // MICROS
    gaps[:, 1:] = 1 + buckets_of(seconds, bounds)
    return gaps


def visible(cuts: Tensor, width: int, max_history: int) -> Tensor:
    """Which events the prefix of length `cut` attends to: its last N - 1. [B, Q] -> [B, Q, N] bool."""
    position = torch.arange(width, device=cuts.device)
    end = cuts[..., None]
    return (position < end) & (position >= end - (max_history - 1))


def rank_ages(cuts: Tensor, width: int) -> Tensor:
    """Rank from the end, 0 for the last event of the prefix. [B, Q] -> [B, Q, N]; negative beyond the cut."""
    return cuts[..., None] - 1 - torch.arange(width, device=cuts.device)


def time_ages(event_ts: Tensor, cuts: Tensor) -> Tensor:
    """Seconds before the prefix's last event. [B, N], [B, Q] -> [B, Q, N]."""
    last = event_ts.gather(1, (cuts - 1).clamp(min=0))  # [B, Q]
    return (last[..., None] - event_ts[:, None, :]) // MICROS


class AgeIndicators(nn.Module):
    """Each event's age buckets at each cut, one-hot: a bias is a table times these."""

    rank_bounds: Tensor
    time_bounds: Tensor

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.use_times, self.max_history = config.use_times, config.max_history
        self.rank_rows = len(config.rank_bounds) + 1  # R
        self.rows = self.rank_rows + (len(config.time_bounds_s) + 1 if config.use_times else 0)  # R + T
        self.register_buffer("rank_bounds", torch.tensor(config.rank_bounds), persistent=False)
        self.register_buffer("time_bounds", torch.tensor(config.time_bounds_s), persistent=False)

    def forward(self, event_ts: Tensor, cuts: Tensor) -> Tensor:
        """Microseconds [B, N] and prefix lengths [B, Q] -> rank bucket, time bucket, hidden [B, R + T + 1, Q, N].

        T is 0 where the model uses no times.
        """
        (B, Q), N = cuts.shape, event_ts.shape[1]
        rank = buckets_of(rank_ages(cuts, N), self.rank_bounds)
        indicators = torch.zeros(B, self.rows + 1, Q, N, device=event_ts.device)
        indicators.scatter_(1, rank[:, None], 1.0)
        if self.use_times:
            time = buckets_of(time_ages(event_ts, cuts), self.time_bounds)
            indicators.scatter_(1, time[:, None] + self.rank_rows, 1.0)
        indicators[:, -1] = ~visible(cuts, N, self.max_history)
        return indicators
