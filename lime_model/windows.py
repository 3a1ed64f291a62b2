"""Training windows held in memory, encoded: the one form that petastorm, benchmarks and tests all produce.

A window set is ragged and flat, 24 bytes an event, plus each distinct (item, features) pair once as strings.
"""

from array import array
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from schemas.errors import InputError


@dataclass(frozen=True)
class WindowSet:
    """n windows over E events; `codes` index the distinct (item, features) pairs, `types` the event type names."""

    item_ids: tuple[str, ...]
    features: tuple[str, ...]
    event_types: tuple[str, ...]
    codes: Tensor  # [E] int64
    types: Tensor  # [E] int64
    event_ts: Tensor  # [E] int64, microseconds
    offsets: Tensor  # [n + 1] int64
    targets_from: Tensor  # [n] int64: positions before it are context only
    is_last: Tensor  # [n] bool: the last event is the user's validation event
    user: Tensor  # [n] int64, which windows belong together

    def __len__(self) -> int:
        return self.targets_from.shape[0]

    @property
    def lengths(self) -> Tensor:
        """[n] int64."""
        return self.offsets.diff()

    def to(self, device: torch.device) -> "WindowSet":
        """The same windows, their numbers on a device."""
        numbers = {name: value for name, value in vars(self).items() if isinstance(value, Tensor)}
        moved: dict[str, Any] = {name: value.to(device) for name, value in numbers.items()}
        return replace(self, **moved)

    def trained(self) -> Tensor:
        """[E] bool: events that are training targets, each event of the log in exactly one window."""
        window = torch.repeat_interleave(torch.arange(len(self)), self.lengths)
        position = torch.arange(self.codes.shape[0]) - self.offsets[window]
        end = self.lengths - self.is_last.long()
        return (position >= self.targets_from[window]) & (position < end[window])


@dataclass(frozen=True)
class Window:
    """One row of `training_sequences`."""

    user_id: str
    item_ids: Sequence[str]
    features: Sequence[str]
    event_types: Sequence[str]
    event_ts: Sequence[int]
    targets_from: int = 0
    is_last: bool = True


class WindowBuilder:
    """Collects windows, each distinct string once."""

    def __init__(self) -> None:
        self._pairs: dict[tuple[str, str], int] = {}
        self._types: dict[str, int] = {}
        self._users: dict[str, int] = {}
        self._codes, self._type_codes, self._ts = array("q"), array("q"), array("q")
        self._offsets, self._from, self._user = array("q", [0]), array("q"), array("q")
        self._last: list[bool] = []

    @property
    def events(self) -> int:
        return len(self._codes)

    def add(self, window: Window) -> None:
        """Append one window; its lists must have one length."""
        lists = (window.item_ids, window.features, window.event_types, window.event_ts)
        lengths = [len(values) for values in lists]
        if len(set(lengths)) > 1 or not 0 <= window.targets_from <= lengths[0]:
            raise InputError(
                f"training window {len(self._from)}: expected lists of one length and targets_from inside, "
                f"found lengths {lengths} and targets_from {window.targets_from}"
            )
        pairs, types = self._pairs, self._types
        self._codes.extend(
            pairs.setdefault(pair, len(pairs)) for pair in zip(window.item_ids, window.features, strict=True)
        )
        self._type_codes.extend(types.setdefault(name, len(types)) for name in window.event_types)
        self._ts.extend(int(t) for t in window.event_ts)
        self._offsets.append(len(self._codes))
        self._from.append(window.targets_from)
        self._last.append(bool(window.is_last))
        self._user.append(self._users.setdefault(window.user_id, len(self._users)))

    def build(self) -> WindowSet:
        return WindowSet(
            item_ids=tuple(item for item, _ in self._pairs),
            features=tuple(text for _, text in self._pairs),
            event_types=tuple(self._types),
            codes=_tensor(self._codes),
            types=_tensor(self._type_codes),
            event_ts=_tensor(self._ts),
            offsets=_tensor(self._offsets),
            targets_from=_tensor(self._from),
            is_last=torch.tensor(self._last, dtype=torch.bool),
            user=_tensor(self._user),
        )


def _tensor(values: "array[int]") -> Tensor:
    return torch.tensor(values, dtype=torch.int64)


def windows_of(windows: Sequence[Window]) -> WindowSet:
    """The in-memory source: rows in, encoded set out."""
    builder = WindowBuilder()
    for window in windows:
        builder.add(window)
    return builder.build()


def cut_windows(events: Window, length: int, context: int) -> list[Window]:
    """One user's whole history -> windows of at most `length` events, each starting with `context` events of the
    one before, the last one with as many as it has room for. With context = N every target sees the same N events as
    it would in one long window.
    """
    if not 0 <= context < length:
        raise InputError(f"windows: expected 0 <= context < length, found {context} and {length}")
    total, end = len(events.item_ids), 0
    out: list[Window] = []
    while not out or end < total:
        seen = end  # events that were targets before
        end = min(end - context + length, total) if out else min(length, total)
        start = end - length if end == total and out else max(0, seen - context)
        out.append(
            Window(
                events.user_id,
                events.item_ids[start:end],
                events.features[start:end],
                events.event_types[start:end],
                events.event_ts[start:end],
                targets_from=seen - start,
                is_last=end == total,
            )
        )
    return out
