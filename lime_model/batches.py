"""The tensors that go into the model: items, events of histories, and what comes out of the candidate half."""

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class ItemInputs:
    """Encoded items of any leading shape [*]; row 0 of ids and of slots is padding."""

    ids: Tensor  # [*] int64
    categorical: Tensor  # [*, S] int64
    numeric: Tensor  # [*, R] float32, standardised, 0 where missing
    missing: Tensor  # [*, R] float32, 1 where missing

    def take(self, index: Tensor) -> "ItemInputs":
        """Rows by index [*] -> leading shape [*]."""
        return ItemInputs(self.ids[index], self.categorical[index], self.numeric[index], self.missing[index])

    def to(self, device: torch.device) -> "ItemInputs":
        return ItemInputs(
            self.ids.to(device), self.categorical.to(device), self.numeric.to(device), self.missing.to(device)
        )


@dataclass(frozen=True)
class Events:
    """What a history says besides its items, oldest first, padded at the end."""

    event_type: Tensor  # [B, N] int64
    event_ts: Tensor  # [B, N] int64, microseconds
    length: Tensor  # [B] int64

    def before_last(self) -> "Events":
        """Without the last column, which is only ever a target; one column is left at least."""
        width = max(1, self.event_ts.shape[1] - 1)
        return Events(self.event_type[:, :width], self.event_ts[:, :width], self.length.clamp(max=width))

    def to(self, device: torch.device) -> "Events":
        return Events(self.event_type.to(device), self.event_ts.to(device), self.length.to(device))


@dataclass(frozen=True)
class HistoryBatch:
    """B histories: items [B, N, ...] and their events."""

    items: ItemInputs
    events: Events

    def to(self, device: torch.device) -> "HistoryBatch":
        return HistoryBatch(self.items.to(device), self.events.to(device))


@dataclass(frozen=True)
class CandidateWeights:
    """The cached half of the score. G and w are None where the package keeps one for all items."""

    A: Tensor  # [C, H, L]
    G: Tensor | None  # [C, F]
    w: Tensor | None  # [C, F]
    b: Tensor  # [C]
