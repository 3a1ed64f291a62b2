"""From training windows to what a package freezes: the item vocabulary and the feature spec."""

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from statistics import fmean, pstdev
from typing import Any

import torch

from lime_model.features import Categorical, FeatureSpec, Numeric, parse_features
from lime_model.vocabulary import Vocabulary
from lime_model.windows import WindowSet


def vocabulary_of(windows: WindowSet, buckets: int) -> Vocabulary:
    """Items by their number of training events."""
    trained = torch.bincount(windows.codes[windows.trained()], minlength=len(windows.item_ids))
    counts: Counter[str] = Counter()
    for item, count in zip(windows.item_ids, trained.tolist(), strict=True):
        counts[item] += count
    return Vocabulary.build(counts, buckets)


def spec_of(features: Iterable[str], event_types: Sequence[str]) -> FeatureSpec:
    """Values, slots, means and deviations over the distinct items given; a constant number is left out."""
    values: defaultdict[str, set[str]] = defaultdict(set)
    slots: Counter[str] = Counter()
    numbers: defaultdict[str, list[float]] = defaultdict(list)
    for parsed in map(parse_features, features):
        for name, value in parsed.items():
            if isinstance(value, int | float):
                numbers[name].append(float(value))
            else:
                words = _words(value)
                values[name].update(words)
                slots[name] = max(slots[name], len(words))
    categorical = (Categorical(name, tuple(sorted(values[name])), slots[name]) for name in sorted(values))
    spread = {name: pstdev(found) for name, found in sorted(numbers.items())}
    numeric = (Numeric(name, fmean(numbers[name]), std) for name, std in spread.items() if std > 0)
    return FeatureSpec(tuple(categorical), tuple(numeric), tuple(sorted(event_types)))


def _words(value: Any) -> list[str]:
    return list(value) if isinstance(value, list) else [value]
