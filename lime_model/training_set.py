"""A window set as the model sees it: encoded items, candidates, counts, and padded batches of blocks."""

from dataclasses import dataclass

import torch
from torch import Tensor

from lime_model.batches import Events, ItemInputs
from lime_model.blocks import Blocks
from lime_model.features import FeatureSpec, encode_items
from lime_model.vocabulary import Vocabulary
from lime_model.windows import WindowSet
from schemas.errors import EmptyTableError


@dataclass(frozen=True)
class WindowBatch:
    """Padded blocks: codes of pairs, their events, and which positions are targets."""

    codes: Tensor  # [B, N] int64 into the set's pairs
    events: Events
    targets: Tensor  # [B, N] bool


@dataclass(frozen=True)
class TrainingSet:
    """Candidates are the items with a training event, in order of first appearance, with their latest features."""

    windows: WindowSet
    pairs: ItemInputs  # [P]
    type_rows: Tensor  # [T] event type codes to embedding rows
    candidate_of: Tensor  # [P] candidate of each pair, -1 for items without a training event
    candidate_pair: Tensor  # [C] the pair that stands for a candidate
    counts: Tensor  # [C] training events

    def to(self, device: torch.device) -> "TrainingSet":
        """The same set on a device."""
        return TrainingSet(**{name: value.to(device) for name, value in vars(self).items()})

    def batch(self, blocks: Blocks) -> WindowBatch:
        """Blocks on the set's device, padded at the end to the longest of them."""
        w, lengths = self.windows, blocks.lengths
        width = int(lengths.max()) if len(blocks) else 0
        flat = blocks.start[:, None] + torch.arange(width, device=lengths.device)  # [B, N]
        inside = flat < blocks.end[:, None]
        targets = inside & (flat >= blocks.first[:, None])
        flat = flat.where(inside, flat.new_zeros(()))
        events = Events(self.type_rows[w.types[flat]], w.event_ts[flat], lengths)
        return WindowBatch(w.codes[flat], events, targets)


def training_set(windows: WindowSet, vocabulary: Vocabulary, spec: FeatureSpec) -> TrainingSet:
    """Encode a window set; one without a single training target is refused."""
    trained = windows.trained()
    if not bool(trained.any()):
        raise EmptyTableError(f"training windows: expected at least one training event, found {len(windows)} windows")
    items: dict[str, int] = {}
    item_of = torch.tensor([items.setdefault(item, len(items)) for item in windows.item_ids])  # [P]
    per_item = torch.zeros(len(items), dtype=torch.int64)
    codes = windows.codes[trained]
    per_item.index_add_(0, item_of[codes], torch.ones_like(codes))
    kept = per_item > 0
    number = torch.where(kept, kept.long().cumsum(0) - 1, -1)
    return TrainingSet(
        windows=windows,
        pairs=encode_items(vocabulary, spec, windows.item_ids, windows.features),
        type_rows=spec.encode_event_types(windows.event_types),
        candidate_of=number[item_of],
        candidate_pair=_latest_pair(windows, trained, item_of)[kept],
        counts=per_item[kept],
    )


def _latest_pair(windows: WindowSet, trained: Tensor, item_of: Tensor) -> Tensor:
    """The pair of each item's newest training event, ties to the later row. [items], -1 without one."""
    codes, ts = windows.codes[trained], windows.event_ts[trained]
    order = torch.argsort(ts, stable=True)
    latest = torch.full((int(item_of.max()) + 1,), -1, dtype=torch.int64)
    newest = torch.full_like(latest, -1)
    newest.scatter_reduce_(0, item_of[codes[order]], torch.arange(len(order)), "amax")
    found = newest >= 0
    latest[found] = codes[order][newest[found]]
    return latest
