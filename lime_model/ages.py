"""Gaps between events and ages of events, as buckets.

A gap belongs to a token: seconds since the user's previous event, whatever the cut. An age belongs to a
cut: rank from the end and seconds before the last event of the prefix. The oldest event of a *full* history
(N events) has lost its predecessor, so it is read for the gap of the next one only and attended by nobody:
a history of N events and the same N events cut out of a longer window are then the same N - 1 tokens, to
the bit of their meaning.
"""

from dataclasses import dataclass

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


def time_ages(event_ts: Tensor, cuts: Tensor) -> Tensor:
    """Seconds before the prefix's last event. [B, N], [B, Q] -> [B, Q, N]."""
    last = event_ts.gather(1, (cuts - 1).clamp(min=0))  # [B, Q]
    return (last[..., None] - event_ts[:, None, :]) // MICROS


@dataclass(frozen=True)
class Ages:
    """How old each of N events is at each of Q cuts: what an age bias is a table of."""

    cuts: Tensor  # [B, Q]
    times: Tensor | None  # [B, T, Q, N] one-hot time bucket, None where the model uses no times
    hidden: Tensor  # [B, Q, N] bool: the cut does not see the event

    @property
    def sees(self) -> Tensor:
        """Whether a cut sees any event [B, Q]."""
        return self.cuts > 0


class AgeBuckets(nn.Module):
    """The ages of a batch of histories."""

    time_bounds: Tensor

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.use_times, self.max_history = config.use_times, config.max_history
        self.register_buffer("time_bounds", torch.tensor(config.time_bounds_s), persistent=False)

    def forward(self, event_ts: Tensor, cuts: Tensor) -> Ages:
        """Microseconds [B, N] and prefix lengths [B, Q]."""
        (B, Q), N = cuts.shape, event_ts.shape[1]
        times = None
        if self.use_times:
            bucket = buckets_of(time_ages(event_ts, cuts), self.time_bounds)
            times = torch.zeros(B, len(self.time_bounds) + 1, Q, N, device=event_ts.device)
            times.scatter_(1, bucket[:, None], 1.0)
        return Ages(cuts, times, ~visible(cuts, N, self.max_history))
