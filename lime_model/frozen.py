"""Embedding and weighing in frozen shapes: a row's bits depend on the row and the shapes, never on its
neighbours.

Torch gives the same row other bits in a batch of another shape. So every call has a fixed number of rows,
filled up with dummy rows, and a length bucket chosen by the row's own length alone. The shapes belong to
the config hash, and running out of memory stops with the setting to lower: it never changes a shape.
"""

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar

import torch
from torch import Tensor

from lime_model.batches import CandidateWeights, Events, HistoryBatch, ItemInputs
from lime_model.config import ModelConfig, require
from lime_model.features import encode_items
from lime_model.loaded import ModelPackage
from lime_model.model import Lime
from schemas.errors import ConfigError, InputError

Result = TypeVar("Result")


@dataclass(frozen=True)
class FrozenShapes:
    """Rows of a call of embed, its history lengths, and rows of a call of weigh."""

    rows_per_call: int
    length_buckets: tuple[int, ...]
    items_per_call: int

    def __post_init__(self) -> None:
        for name in ("rows_per_call", "items_per_call"):
            require(getattr(self, name) >= 1, f"FrozenShapes.{name}", "at least 1", getattr(self, name))
        buckets = self.length_buckets
        increasing = bool(buckets) and buckets[0] > 0 and list(buckets) == sorted(set(buckets))
        require(increasing, "FrozenShapes.length_buckets", "positive, increasing", buckets)

    def fitted_to(self, config: ModelConfig) -> "FrozenShapes":
        """Buckets up to the model's N, N itself the last."""
        below = tuple(bucket for bucket in self.length_buckets if bucket < config.max_history)
        return FrozenShapes(self.rows_per_call, (*below, config.max_history), self.items_per_call)


@dataclass(frozen=True)
class Histories:
    """Ragged histories of B users, oldest event first. Strings are listed once, events are codes into the lists."""

    item_ids: Sequence[str]  # of the distinct (item, features) pairs
    features: Sequence[str]
    event_types: Sequence[str]  # distinct names
    codes: Tensor  # [E] int64 into the pairs
    type_codes: Tensor  # [E] int64 into event_types
    event_ts: Tensor  # [E] int64, microseconds
    offsets: Tensor  # [B + 1] int64


def numerics_id(shapes: FrozenShapes, device: torch.device) -> str:
    """What decides the bits: two workers that report two ids may not share a table."""
    if device.type == "cuda":
        kind, capability = "cuda", f"{torch.cuda.get_device_name(device)} {torch.version.cuda}"
    else:
        kind, capability = device.type, torch.backends.cpu.get_cpu_capability()
    lengths = "-".join(str(bucket) for bucket in shapes.length_buckets)
    return (
        f"torch={torch.__version__};device={kind};capability={capability};"
        f"rows={shapes.rows_per_call};lengths={lengths};items={shapes.items_per_call}"
    )


class LinkPredictor:
    """Histories -> personalised links. Built once per worker, called per batch."""

    def __init__(self, package: ModelPackage, shapes: FrozenShapes, device: torch.device) -> None:
        self.package, self.device = package, device
        self.shapes = shapes.fitted_to(package.config)
        self.numerics_id = numerics_id(self.shapes, device)
        self._model = _on_device(package.model, device)

    def predict(self, histories: Histories) -> Tensor:
        """B histories -> P [B, L*d] float32 on the CPU. Of a longer history the last N events are read."""
        config = self.package.config
        _check_offsets(histories)
        pairs = _with_padding(self.package, histories.item_ids, histories.features)
        types = self.package.spec.encode_event_types(histories.event_types)
        lengths = histories.offsets.diff().clamp(max=config.max_history)  # [B]
        out = torch.empty(len(lengths), config.links * config.width)
        bounds = torch.tensor(self.shapes.length_buckets)
        bucket_of = torch.bucketize(lengths, bounds)  # smallest bucket that holds the row
        for number, width in enumerate(self.shapes.length_buckets):
            for rows in torch.nonzero(bucket_of == number).flatten().split(self.shapes.rows_per_call):
                batch = self._batch(histories, rows, width, pairs, types)
                out[rows] = self._embed(batch)[: len(rows)]
        return out

    def _batch(self, histories: Histories, rows: Tensor, width: int, pairs: ItemInputs, types: Tensor) -> HistoryBatch:
        """Rows [n <= rows_per_call] in the frozen shape [rows_per_call, width]; dummy rows are empty histories."""
        size = self.shapes.rows_per_call
        ends = torch.zeros(size, dtype=torch.int64)
        lengths = torch.zeros(size, dtype=torch.int64)
        ends[: len(rows)] = histories.offsets[rows + 1]
        lengths[: len(rows)] = histories.offsets.diff()[rows].clamp(max=self.package.config.max_history)
        position = torch.arange(width)
        inside = position < lengths[:, None]  # [size, width]
        # What stands in the padding is hidden from every link, but it must be finite: row 0, time 0.
        flat = ((ends - lengths)[:, None] + position)[inside]
        codes, event_type, event_ts = (torch.zeros(size, width, dtype=torch.int64) for _ in range(3))
        codes[inside] = histories.codes[flat] + 1
        event_type[inside] = types[histories.type_codes[flat]]
        event_ts[inside] = histories.event_ts[flat]
        return HistoryBatch(pairs.take(codes), Events(event_type, event_ts, lengths))

    def _embed(self, batch: HistoryBatch) -> Tensor:
        def call() -> Tensor:
            return self._model.personalize_links(batch.to(self.device)).flatten(1).cpu()

        return _in_memory(call, "rows_per_call", self.shapes.rows_per_call)


class CandidatePredictor:
    """Items -> candidate weights. Built once per worker, called per batch."""

    def __init__(self, package: ModelPackage, shapes: FrozenShapes, device: torch.device) -> None:
        self.package, self.device = package, device
        self.shapes = shapes.fitted_to(package.config)
        self.numerics_id = numerics_id(self.shapes, device)
        self._model = _on_device(package.model, device)

    def predict(self, item_ids: Sequence[str], features: Sequence[str]) -> CandidateWeights:
        """C items -> CandidateWeights on the CPU, in the order given."""
        pairs = _with_padding(self.package, item_ids, features)
        size = self.shapes.items_per_call
        parts = []
        for rows in torch.arange(1, len(item_ids) + 1).split(size):
            padded = torch.zeros(size, dtype=torch.int64)
            padded[: len(rows)] = rows
            parts.append((self._weigh(pairs.take(padded)), len(rows)))
        if not parts:
            empty = self._weigh(pairs.take(torch.zeros(size, dtype=torch.int64)))
            parts.append((empty, 0))
        return _joined(parts)

    def _weigh(self, items: ItemInputs) -> CandidateWeights:
        def call() -> CandidateWeights:
            found = self._model.candidate_weights(items.to(self.device))
            G = found.G.cpu() if found.G is not None else None
            w = found.w.cpu() if found.w is not None else None
            return CandidateWeights(found.A.cpu(), G, w, found.b.cpu())

        return _in_memory(call, "items_per_call", self.shapes.items_per_call)


def _on_device(model: Lime, device: torch.device) -> Lime:
    """A copy of the model: `to` moves in place, and a worker's cached package serves predictors of other devices."""
    return copy.deepcopy(model).to(device).eval()


def _in_memory(call: Callable[[], Result], setting: str, value: int) -> Result:
    """Run without autograd; out of memory becomes an error that names the setting to lower."""
    try:
        with torch.inference_mode():
            return call()
    except torch.cuda.OutOfMemoryError as error:
        raise ConfigError(f"{setting}: expected a batch that fits into memory, found {value}; lower it") from error
    except RuntimeError as error:
        if "can't allocate memory" not in str(error):
            raise
        raise ConfigError(f"{setting}: expected a batch that fits into memory, found {value}; lower it") from error


def _with_padding(package: ModelPackage, item_ids: Sequence[str], features: Sequence[str]) -> ItemInputs:
    """Encoded items [1 + n]: row 0 is padding."""
    found = encode_items(package.vocabulary, package.spec, item_ids, features)
    return ItemInputs(*(torch.cat([t.new_zeros(1, *t.shape[1:]), t]) for t in vars(found).values()))


def _check_offsets(histories: Histories) -> None:
    offsets = histories.offsets
    if offsets[0] != 0 or bool((offsets.diff() < 0).any()) or offsets[-1] != len(histories.codes):
        raise InputError(
            f"histories: expected offsets rising from 0 to {len(histories.codes)} events, "
            f"found {int(offsets[0])} to {int(offsets[-1])}"
        )


def _joined(parts: list[tuple[CandidateWeights, int]]) -> CandidateWeights:
    """Calls with their real row counts -> one CandidateWeights."""
    A = torch.cat([weights.A[:n] for weights, n in parts])
    b = torch.cat([weights.b[:n] for weights, n in parts])
    G = [weights.G[:n] for weights, n in parts if weights.G is not None]
    w = [weights.w[:n] for weights, n in parts if weights.w is not None]
    return CandidateWeights(A, torch.cat(G) if G else None, torch.cat(w) if w else None, b)
