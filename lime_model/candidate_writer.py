"""Packs candidates into a file block by block, holding one block in memory."""

from collections.abc import Callable
from math import prod
from pathlib import Path
from types import TracebackType
from typing import Self

import torch
from torch import Tensor

from lime_model.batches import CandidateWeights
from lime_model.candidates import ScoreHead, checked_bounds, flat_sections
from lime_model.packed import GROUP, Header, to_groups
from schemas.errors import ModelArtifactError


class CandidateWriter:
    """Writes, and never maps: pages of a mapping that it filled would count as the driver's own memory.

    The header is written last, so that a file that was not finished is no candidate file.
    """

    def __init__(self, path: Path, header: Header, head: ScoreHead) -> None:
        head.check()
        self._path, self._header, self._head = path, header, head
        self._offsets, self._end = header.sections()
        self._bounds: dict[str, Tensor] | None = None
        self._written = 0

    def __enter__(self) -> Self:
        self._file = self._path.open("wb")
        self._file.truncate(self._end)  # what is not written is zero
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()

    def append(self, block: CandidateWeights, item_id: Callable[[int], str]) -> None:
        """The next rows in order of position; every block but the last is whole groups.

        Raises a BadNumberError that names the first item whose numbers are not finite.
        """
        rows = flat_sections(block)
        n = len(rows["b"])
        if self._written % GROUP or self._written + n > self._header.dimensions.count:
            raise ModelArtifactError(
                f"{self._path}: expected {self._header.dimensions.count} rows in whole groups of {GROUP}, "
                f"found {n} after {self._written}"
            )
        self._widen(checked_bounds(rows, self._head, self._written, item_id))
        for name, values in rows.items():
            self._write(name, to_groups(values), self._written // GROUP)
        self._written += n

    def finish(self) -> None:
        """Constants, bounds and, last, the header. Raises ModelArtifactError where rows are missing."""
        count = self._header.dimensions.count
        if self._written != count or self._bounds is None:
            raise ModelArtifactError(f"{self._path}: expected {count} rows, found {self._written}")
        for name in ("fold", "g", "w"):
            self._write(name, getattr(self._head, name), 0)
        for name, bound in self._bounds.items():
            self._write(name, bound, 0)
        self._file.seek(0)
        self._file.write(self._header.to_bytes())
        self._file.flush()

    def _widen(self, bounds: dict[str, Tensor]) -> None:
        before = self._bounds or bounds
        self._bounds = {name: torch.maximum(before[name], bound) for name, bound in bounds.items()}

    def _write(self, name: str, values: Tensor, first: int) -> None:
        """A section's values, `first` entries of its first dimension in."""
        shape = self._header.dimensions.shapes()[name]
        entry = prod(shape[1:])
        if values.numel() != entry * values.shape[0] or first + values.shape[0] > shape[0]:
            raise ModelArtifactError(f"{self._path}: {name}: expected shape {list(shape)}, found {list(values.shape)}")
        self._file.seek(self._offsets[name] + 4 * first * entry)
        self._file.write(values.detach().to(torch.float32).contiguous().numpy().tobytes())
