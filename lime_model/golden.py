"""The golden case: a few histories and items, and what the model answered when the package was made.

It runs the whole path, from strings through vocabulary, tower and layers, so a package that loads but answers
differently (another torch, another hash, a swapped file) is refused before work.
"""

import json
from typing import Any

import safetensors.torch
import torch
from safetensors import SafetensorError
from torch import Tensor

from lime_model.frozen import CandidatePredictor, FrozenShapes, Histories, LinkPredictor
from lime_model.loaded import ModelPackage
from schemas.errors import ModelArtifactError

# Another CPU or a GPU sums in another order: float32 over two layers stays well inside, a wrong weight does not.
TOLERANCE = 1e-4
_DAY = 86_400_000_000  # microseconds
_STRINGS = ("item_ids", "features", "event_types")
_SHAPES = FrozenShapes(rows_per_call=4, length_buckets=(8,), items_per_call=16)


def golden_case(package: ModelPackage) -> bytes:
    """golden.safetensors: inputs, outputs, and the strings as metadata."""
    histories = _inputs(package)
    tensors = {name: getattr(histories, name) for name in ("codes", "type_codes", "event_ts", "offsets")}
    strings = {name: list(getattr(histories, name)) for name in _STRINGS}
    answers = {name: answer.contiguous() for name, answer in _answers(package, histories).items()}
    # One key: safetensors writes several in an order that changes from run to run.
    return safetensors.torch.save({**tensors, **answers}, metadata={"strings": json.dumps(strings)})


def replay_golden_case(package: ModelPackage, content: bytes) -> None:
    """Raise unless the package still answers what it answered, within the tolerance."""
    tensors, strings = _read(content)
    try:
        items, features, names = (strings[name] for name in _STRINGS)
        codes, types, times, offsets = (tensors[n] for n in ("codes", "type_codes", "event_ts", "offsets"))
        answers = _answers(package, Histories(items, features, names, codes, types, times, offsets))
        expected = {name: tensors[name] for name in answers}
    except (KeyError, ValueError) as error:
        raise ModelArtifactError(f"golden.safetensors: expected a golden case, found {error!r}") from error
    for name, answer in answers.items():
        if answer.shape != expected[name].shape:
            raise ModelArtifactError(
                f"golden.safetensors: {name}: expected shape {list(expected[name].shape)}, found {list(answer.shape)}"
            )
        difference = float((answer - expected[name]).abs().max())
        if not difference <= TOLERANCE * (1 + float(expected[name].abs().max())):
            raise ModelArtifactError(
                f"golden.safetensors: {name}: expected the stored answer within {TOLERANCE}, found {difference} off"
            )


def _inputs(package: ModelPackage) -> Histories:
    """Histories of 0, 1, 5 and more than N events over known items and one unknown, with plausible features."""
    items = [*package.vocabulary.items[:7], "\x00 no such item"]
    features: dict[str, Any] = {c.name: list(c.values[: c.slots]) for c in package.spec.categorical if c.values}
    features |= {n.name: n.mean + n.std for n in package.spec.numeric}
    texts = [json.dumps(features, sort_keys=True) if i % 3 else "{}" for i in range(len(items))]
    types = [*package.spec.event_types, "no such type"]
    lengths = torch.tensor([0, 1, 5, package.config.max_history + 1])
    event = torch.arange(int(lengths.sum()))
    return Histories(
        items, texts, types, event % len(items), event % len(types), event**2 * _DAY // 50,
        torch.cat([torch.zeros(1, dtype=torch.int64), lengths.cumsum(0)]),
    )  # fmt: skip


def _answers(package: ModelPackage, histories: Histories) -> dict[str, Tensor]:
    cpu = torch.device("cpu")
    weights = CandidatePredictor(package, _SHAPES, cpu).predict(histories.item_ids, histories.features)
    with torch.inference_mode():
        fold = package.model.fold().clone()
    answers = {"links": LinkPredictor(package, _SHAPES, cpu).predict(histories), "fold": fold}
    named = {"A": weights.A, "G": weights.G, "w": weights.w, "b": weights.b}
    return answers | {name: value.contiguous() for name, value in named.items() if value is not None}


def _read(content: bytes) -> tuple[dict[str, Tensor], dict[str, list[str]]]:
    try:
        size = int.from_bytes(content[:8], "little")
        strings: dict[str, list[str]] = json.loads(json.loads(content[8 : 8 + size])["__metadata__"]["strings"])
        return safetensors.torch.load(content), strings
    except (SafetensorError, ValueError, KeyError) as error:
        raise ModelArtifactError(
            f"golden.safetensors: expected a safetensors file with strings, found {error!r}"
        ) from error
