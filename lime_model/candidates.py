"""The candidate cache as the scoring stage holds it: one memory-mapped file, items in UTF-8 byte order.

The position of an item is its rank by id, so a tie between positions is a tie between ids.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import safetensors.torch
import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from lime_model.batches import CandidateWeights
from schemas.errors import BadNumberError, ModelArtifactError

_NAMES = ("A", "b", "fold", "g", "w", "item_bytes", "item_offsets")


@dataclass(frozen=True)
class Candidates:
    """C items and their cached weights under one model."""

    item_bytes: Tensor  # [bytes] uint8, ids in UTF-8, one after another
    item_offsets: Tensor  # [C + 1] int64
    weights: CandidateWeights  # A [C, H, L], G, w, b [C]
    fold: Tensor  # [H, d, F]
    g: Tensor  # [F], where weights.G is None
    w: Tensor  # [F], where weights.w is None
    relu: bool  # activation of the hidden layer: ReLU, else identity
    model_digest: str

    def __len__(self) -> int:
        return self.weights.b.shape[0]

    def item_id(self, position: int) -> str:
        start, end = int(self.item_offsets[position]), int(self.item_offsets[position + 1])
        return self.item_bytes[start:end].numpy().tobytes().decode()

    def item_ids(self) -> list[str]:
        """All ids in order of position; C strings."""
        packed = self.item_bytes.numpy().tobytes()
        bounds = self.item_offsets.tolist()
        return [packed[a:b].decode() for a, b in zip(bounds, bounds[1:], strict=False)]

    def save(self, path: Path) -> None:
        """One safetensors file."""
        tensors = {"b": self.weights.b, "A": self.weights.A, "fold": self.fold, "g": self.g, "w": self.w}
        tensors |= {"item_bytes": self.item_bytes, "item_offsets": self.item_offsets}
        optional = {"item_G": self.weights.G, "item_w": self.weights.w}
        tensors |= {name: value for name, value in optional.items() if value is not None}
        metadata = {"model_digest": self.model_digest, "activation": "relu" if self.relu else "identity"}
        safetensors.torch.save_file({n: t.contiguous() for n, t in tensors.items()}, path, metadata=metadata)

    @classmethod
    def load(cls, path: Path) -> "Candidates":
        """Tensors stay in the file and are mapped, so tasks of one host share their memory."""
        try:
            with safe_open(path, framework="pt") as file:
                metadata = file.metadata() or {}
                found = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a mapping
        except (SafetensorError, OSError) as error:
            raise ModelArtifactError(f"{path}: expected a candidate cache, found {error}") from error
        missing = [name for name in _NAMES if name not in found]
        missing += [name for name in ("model_digest", "activation") if name not in metadata]
        if missing:
            raise ModelArtifactError(f"{path}: expected {', '.join(missing)} in a candidate cache, found none")
        weights = CandidateWeights(found["A"], found.get("item_G"), found.get("item_w"), found["b"])
        constants = (found["fold"], found["g"], found["w"])
        relu = metadata["activation"] == "relu"
        return cls(found["item_bytes"], found["item_offsets"], weights, *constants, relu, metadata["model_digest"])


@dataclass(frozen=True)
class ScoreHead:
    """What a package keeps once for all items."""

    fold: Tensor  # [H, d, F]
    g: Tensor  # [F]
    w: Tensor  # [F]
    relu: bool
    model_digest: str


def candidates_of(item_ids: Sequence[str], weights: CandidateWeights, head: ScoreHead) -> Candidates:
    """Distinct items in any order -> Candidates in UTF-8 byte order. A row that is not finite is refused."""
    encoded = [item.encode() for item in item_ids]
    if len(set(encoded)) != len(encoded) or len(encoded) != weights.b.shape[0]:
        raise ModelArtifactError(
            f"candidates: expected {weights.b.shape[0]} distinct item ids, found {len(set(encoded))} of {len(encoded)}"
        )
    order = sorted(range(len(encoded)), key=encoded.__getitem__)
    index = torch.tensor(order, dtype=torch.int64)
    sizes = torch.tensor([0, *(len(encoded[i]) for i in order)], dtype=torch.int64)
    packed = bytearray(b"".join(encoded[i] for i in order))
    found = Candidates(
        torch.frombuffer(packed, dtype=torch.uint8) if packed else torch.empty(0, dtype=torch.uint8),
        sizes.cumsum(0),
        CandidateWeights(
            weights.A[index],
            weights.G[index] if weights.G is not None else None,
            weights.w[index] if weights.w is not None else None,
            weights.b[index],
        ),
        head.fold, head.g, head.w, head.relu, head.model_digest,
    )  # fmt: skip
    check_finite(found)
    return found


def check_finite(candidates: Candidates) -> None:
    """Raise a BadNumberError that names the first item, or the constant, that is not finite."""
    for name in ("fold", "g", "w"):
        if not bool(getattr(candidates, name).isfinite().all()):
            raise BadNumberError(f"candidates: {name}: expected finite numbers, found NaN or infinity")
    for name in ("A", "G", "w", "b"):
        rows = getattr(candidates.weights, name)
        if rows is None:
            continue
        bad = torch.nonzero(~rows.flatten(1).isfinite().all(1) if rows.dim() > 1 else ~rows.isfinite()).flatten()
        if len(bad):
            item = candidates.item_id(int(bad[0]))
            raise BadNumberError(
                f"candidates: {name} of row {int(bad[0])}, item {item!r}: expected finite numbers, "
                f"found {len(bad)} bad rows"
            )
