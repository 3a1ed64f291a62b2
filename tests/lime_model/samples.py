"""Tiny inputs that every test of the model shares: 12 items, two features, three event types."""

import json

import torch
from torch import Tensor

from lime_model.batches import Events, HistoryBatch
from lime_model.config import Head, ModelConfig
from lime_model.features import Categorical, FeatureSpec, Numeric, encode_items
from lime_model.frozen import Histories
from lime_model.loaded import ModelPackage
from lime_model.model import Lime
from lime_model.package import in_memory_package
from lime_model.vocabulary import Vocabulary
from lime_model.windows import Window

ITEMS = tuple(sorted(f"item-{n}" for n in range(12)))
FEATURES = tuple(
    json.dumps({"genres": ["a", "b", "c"][: 1 + n % 3], "year": 1990.0 + n} if n % 4 else {}) for n in range(12)
)
SPEC = FeatureSpec(
    (Categorical("genres", ("a", "b", "c"), 2),), (Numeric("year", 1995.0, 4.0),), ("click", "like", "view")
)
VOCABULARY = Vocabulary(ITEMS[:10], 4)  # the last two items are known by their bucket only
SECOND = 1_000_000


def config(head: Head = "dot", layers: int = 2, max_history: int = 8, **changes: float | str) -> ModelConfig:
    """A small model; `changes` go over it."""
    base: dict[str, object] = {"width": 8, "links": 4, "heads": 2, "ffn_width": 12, "mlp_width": 6, "buckets": 4}
    return ModelConfig.from_json(
        {**base, "head": head, "layers": layers, "max_history": max_history, "dropout": 0.0, **changes}
    )


def lime(settings: ModelConfig, seed: int = 0) -> Lime:
    """Random weights in eval mode, age tables and gains included, so that nothing is symmetric or zero."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = Lime(settings, VOCABULARY, SPEC)
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.add_(torch.randn_like(parameter) * 0.2)
            model.tower.ids.weight[0] = 0.0
            model.tower.values.weight[0] = 0.0
    return model.eval()


def package(settings: ModelConfig | None = None, seed: int = 0) -> ModelPackage:
    """A package that is not on disk."""
    return in_memory_package(lime(settings or config(), seed), VOCABULARY, SPEC, {"trained_until": "2026-01-01"})


def history_batch(lengths: list[int], width: int, seed: int = 0) -> HistoryBatch:
    """Random histories of these lengths, padded to `width` with noise that nobody may read."""
    generator = torch.Generator().manual_seed(seed)
    shape = (len(lengths), width)
    codes = torch.randint(0, len(ITEMS), shape, generator=generator)
    gaps = torch.randint(0, 400_000, shape, generator=generator) * torch.randint(0, 2, shape, generator=generator)
    types = torch.randint(0, 4, shape, generator=generator)
    events = Events(types, gaps.cumsum(1) * SECOND, torch.tensor(lengths))
    return HistoryBatch(encode_items(VOCABULARY, SPEC, ITEMS, FEATURES).take(codes), events)


def histories(lengths: list[int], seed: int = 0) -> Histories:
    """Random ragged histories of these lengths."""
    generator = torch.Generator().manual_seed(seed)
    total = sum(lengths)
    return Histories(
        ITEMS,
        FEATURES,
        ("view", "like", "unheard of"),
        torch.randint(0, len(ITEMS), (total,), generator=generator),
        torch.randint(0, 3, (total,), generator=generator),
        torch.randint(0, 400_000, (total,), generator=generator).cumsum(0) * SECOND,
        torch.tensor([0, *lengths]).cumsum(0),
    )


def chosen_rows(source: Histories, rows: list[int]) -> Histories:
    """The histories of these rows, in this order."""
    spans = [torch.arange(int(source.offsets[row]), int(source.offsets[row + 1])) for row in rows]
    index: Tensor = torch.cat([torch.empty(0, dtype=torch.int64), *spans])
    offsets = torch.tensor([0, *(len(span) for span in spans)]).cumsum(0)
    return Histories(
        source.item_ids,
        source.features,
        source.event_types,
        source.codes[index],
        source.type_codes[index],
        source.event_ts[index],
        offsets,
    )


def walks(users: int = 24, length: int = 14) -> list[Window]:
    """Users who walk around a ring of ten items: what comes next is learnable, popularity knows nothing."""
    rows = []
    for user in range(users):
        places = [(user * 3 + step) % 10 for step in range(length - user % 3)]
        rows.append(
            Window(
                f"u{user}",
                [ITEMS[p] for p in places],
                [FEATURES[p] for p in places],
                [("view", "like")[p % 2] for p in places],
                [(user * 1000 + step * 60) * SECOND for step in range(len(places))],
            )
        )
    return rows
