"""What the model knows about an item besides its id: the frozen feature spec, and encoding by it.

An item version's features are one JSON object: a string or a list of strings is categorical, a number
numeric, a missing key missing. A value that training has not seen adds nothing, exactly like a missing one.
"""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import torch
from torch import Tensor

from lime_model.batches import ItemInputs
from lime_model.vocabulary import Vocabulary
from schemas.errors import InputError, ModelArtifactError

UNKNOWN_EVENT_TYPE = 0


@dataclass(frozen=True)
class Categorical:
    """One feature with named values and a fixed number of slots per item."""

    name: str
    values: tuple[str, ...]
    slots: int


@dataclass(frozen=True)
class Numeric:
    """One number per item, standardised by the mean and standard deviation over the training catalogue."""

    name: str
    mean: float
    std: float


@dataclass(frozen=True)
class FeatureSpec:
    """Frozen with the package. Categorical embedding rows: 0 is padding, then each feature's values in order."""

    categorical: tuple[Categorical, ...] = ()
    numeric: tuple[Numeric, ...] = ()
    event_types: tuple[str, ...] = ()
    _value_rows: dict[tuple[str, str], int] = field(init=False, repr=False, compare=False)
    _event_rows: dict[str, int] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        bad = [n.name for n in self.numeric if not (math.isfinite(n.mean) and math.isfinite(n.std) and n.std > 0)]
        bad += [c.name for c in self.categorical if c.slots < 1 or len(set(c.values)) < len(c.values)]
        if bad:
            raise ModelArtifactError(
                f"feature_spec.json: {bad}: expected finite means, positive stds and slots, distinct values"
            )
        keys = [(c.name, value) for c in self.categorical for value in c.values]
        object.__setattr__(self, "_value_rows", {key: row for row, key in enumerate(keys, start=1)})
        object.__setattr__(self, "_event_rows", {name: row for row, name in enumerate(self.event_types, start=1)})

    @property
    def slots(self) -> int:
        """S: slots of all categorical features together."""
        return sum(c.slots for c in self.categorical)

    @property
    def value_rows(self) -> int:
        return 1 + len(self._value_rows)

    @property
    def event_type_rows(self) -> int:
        """Row 0 is any type that training has not seen."""
        return 1 + len(self.event_types)

    def encode_event_types(self, names: Sequence[str]) -> Tensor:
        """Row of each name -> [n] int64."""
        return torch.tensor([self._event_rows.get(name, UNKNOWN_EVENT_TYPE) for name in names], dtype=torch.int64)

    def categorical_rows(self, features: Mapping[str, Any]) -> list[int]:
        """The filled slots of one item, padded with 0 -> S rows. Values beyond the slots are dropped, last first."""
        out: list[int] = []
        for spec in self.categorical:
            value = features.get(spec.name)
            names = value if isinstance(value, list) else [value]
            rows = sorted({self._value_rows.get((spec.name, str(name)), 0) for name in names} - {0})[: spec.slots]
            out += rows + [0] * (spec.slots - len(rows))
        return out

    def numeric_values(self, features: Mapping[str, Any]) -> tuple[list[float], list[float]]:
        """Standardised values (0 where missing) and 1.0 where missing -> R and R."""
        values: list[float] = []
        missing: list[float] = []
        for spec in self.numeric:
            value = features.get(spec.name)
            known = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
            values.append((float(value) - spec.mean) / spec.std if known and value is not None else 0.0)
            missing.append(0.0 if known else 1.0)
        return values, missing

    def dumps(self) -> str:
        parts = {
            "categorical": [asdict(c) for c in self.categorical],
            "numeric": [asdict(n) for n in self.numeric],
            "event_types": list(self.event_types),
        }
        return json.dumps(parts, sort_keys=True, ensure_ascii=False, separators=(",", ":"))

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> "FeatureSpec":
        try:
            return cls(
                tuple(Categorical(c["name"], tuple(c["values"]), int(c["slots"])) for c in values["categorical"]),
                tuple(Numeric(n["name"], float(n["mean"]), float(n["std"])) for n in values["numeric"]),
                tuple(values["event_types"]),
            )
        except (KeyError, TypeError, ValueError) as error:
            raise ModelArtifactError(
                f"feature_spec.json: expected categorical, numeric, event_types, found {error!r}"
            ) from error


def parse_features(text: str) -> dict[str, Any]:
    """One item version's features; anything but a JSON object is refused."""
    try:
        value = json.loads(text)
    except json.JSONDecodeError as error:
        raise InputError(f"item features: expected a JSON object, found {text[:80]!r} ({error})") from error
    if not isinstance(value, dict):
        raise InputError(f"item features: expected a JSON object, found {text[:80]!r}")
    return value


def encode_items(
    vocabulary: Vocabulary, spec: FeatureSpec, item_ids: Sequence[str], features: Sequence[str]
) -> ItemInputs:
    """Distinct (item_id, features) pairs -> ItemInputs of n items. Each distinct JSON string is parsed once."""
    parsed = {text: parse_features(text) for text in set(features)}
    slots = {text: spec.categorical_rows(value) for text, value in parsed.items()}
    numbers = {text: spec.numeric_values(value) for text, value in parsed.items()}
    n = len(item_ids)
    return ItemInputs(
        ids=torch.tensor([vocabulary.row(item) for item in item_ids], dtype=torch.int64),
        categorical=torch.tensor([slots[t] for t in features], dtype=torch.int64).reshape(n, spec.slots),
        numeric=torch.tensor([numbers[t][0] for t in features], dtype=torch.float32).reshape(n, len(spec.numeric)),
        missing=torch.tensor([numbers[t][1] for t in features], dtype=torch.float32).reshape(n, len(spec.numeric)),
    )
