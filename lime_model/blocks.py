"""What a training step reads of a window: a block of successive targets, and the events that these see."""

from dataclasses import dataclass

import torch
from torch import Tensor

from lime_model.windows import WindowSet

_SORTED_STEPS = 16


@dataclass(frozen=True)
class Blocks:
    """n runs of events, each of one window: flat positions in its window set."""

    start: Tensor  # [n] int64, of the first event that is read
    first: Tensor  # [n] int64, of the first target
    end: Tensor  # [n] int64, after the last event

    def __len__(self) -> int:
        return len(self.start)

    @property
    def lengths(self) -> Tensor:
        """Events that are read [n]."""
        return self.end - self.start

    def take(self, index: Tensor | slice) -> "Blocks":
        """Some of the blocks."""
        return Blocks(self.start[index], self.first[index], self.end[index])

    def to(self, device: torch.device) -> "Blocks":
        return Blocks(self.start.to(device), self.first.to(device), self.end.to(device))


def training_blocks(windows: WindowSet, cuts: int, horizon: int, history: int) -> Blocks:
    """Every training target is the first one after a cut, of `cuts` a block: once, or twice where a window's last
    block reaches back to be full. A block has `horizon - 1` targets more, and reads the `history` events before it.
    """
    targets = (windows.lengths - windows.is_last.long() - windows.targets_from).clamp(min=0)
    per_window = (targets + cuts - 1) // cuts
    window = torch.repeat_interleave(torch.arange(len(windows), device=targets.device), per_window)
    number = torch.arange(len(window), device=targets.device) - (per_window.cumsum(0) - per_window)[window]
    opens = windows.offsets[window]
    begin = opens + windows.targets_from[window]
    stop = begin + targets[window]
    first = torch.minimum(begin + number * cuts, torch.maximum(stop - cuts, begin))
    return Blocks(torch.maximum(first - history, opens), first, torch.minimum(first + cuts + horizon - 1, stop))


def deal(blocks: Blocks, size: int, generator: torch.Generator) -> list[Tensor]:
    """One pass over the blocks -> the blocks of each of its steps [size], in the order of the steps.

    Runs of a random order are sorted by length before they are split into steps, so that a step pads little, and the
    steps shuffled again. What is too few for a step is left out, but for a set that is smaller than one.
    """
    total, lengths = len(blocks), blocks.lengths
    order = torch.randperm(total, generator=generator)[: max(1, total // size) * size]
    runs = [run[torch.argsort(lengths[run], stable=True)] for run in order.split(size * _SORTED_STEPS)]
    steps = torch.cat(runs).split(size)
    return [steps[place] for place in torch.randperm(len(steps), generator=generator).tolist()]


def last_events(windows: WindowSet, chosen: Tensor, history: int) -> Blocks:
    """The last event of chosen windows as the only target, and the `history` events before it."""
    opens, end = windows.offsets[chosen], windows.offsets[chosen + 1]
    return Blocks(torch.maximum(end - 1 - history, opens), end - 1, end)


def whole_windows(windows: WindowSet, chosen: Tensor) -> Blocks:
    """Chosen windows, all of their events read and none of them a target."""
    end = windows.offsets[chosen + 1]
    return Blocks(windows.offsets[chosen], end, end)
