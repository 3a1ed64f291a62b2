"""The layout `lime-candidates-1`: candidates in groups of 16 lanes, as one plain file that is mapped.

The file: 8 bytes `LIMECAND`, the length of a JSON header as a little-endian u64, the header filled up with
spaces, then the sections, all float32, each at a multiple of 64 bytes. A kernel takes one candidate a lane in
aligned 64-byte loads, which safetensors can't promise (it puts tensors wherever its header ends): hence a
format of our own. A section that has a row for every candidate is [groups, width, 16]; the lanes after the
last candidate are zero.
"""

import json
import os
import struct
import warnings
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from math import prod
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
from torch import Tensor

from schemas.errors import ModelArtifactError

LAYOUT = "lime-candidates-1"
MAGIC = b"LIMECAND"
GROUP = 16  # candidates side by side
GROUPS_TOGETHER = 4  # the number of groups is a multiple of it: a kernel's tile needs no end of its own
ALIGNMENT = 64
PAYLOAD = 4096  # where sections start: the header's room, and a page
ITEM_SECTIONS = ("A", "G", "W", "b")  # one row a candidate

_DIMENSIONS = ("count", "heads", "links", "width", "hidden")
_BOUNDS = {"A_max": "A", "G_max": "G", "W_max": "W", "b_max": "b"}
_Scalar = TypeVar("_Scalar", bound=np.generic)


@dataclass(frozen=True)
class Dimensions:
    """How large the candidates of a model are, and which constants each of them has of its own."""

    count: int  # C
    heads: int  # H
    links: int  # L
    width: int  # d
    hidden: int  # F
    own_g: bool  # G is there, else g stands for all
    own_w: bool  # W is there, else w stands for all

    @property
    def groups(self) -> int:
        return groups_of(self.count)

    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Section -> shape, in file order."""
        widths = {"A": self.heads * self.links, "G": self.hidden, "W": self.hidden, "b": 1}
        there = {"A": True, "G": self.own_g, "W": self.own_w, "b": True}
        found: dict[str, tuple[int, ...]] = {
            name: (self.groups, widths[name], GROUP) for name in ITEM_SECTIONS if there[name]
        }
        found["b"] = (self.groups, GROUP)
        found |= {"fold": (self.heads, self.width, self.hidden), "g": (self.hidden,), "w": (self.hidden,)}
        return found | {bound: (widths[name],) for bound, name in _BOUNDS.items()}


@dataclass(frozen=True)
class Header:
    """What a packed file says of itself."""

    dimensions: Dimensions
    relu: bool
    model_digest: str

    def sections(self) -> tuple[dict[str, int], int]:
        """Section -> offset in the file, and the file's size."""
        offsets, end = {}, PAYLOAD
        for name, shape in self.dimensions.shapes().items():
            offsets[name] = end
            end = _aligned(end + 4 * prod(shape))
        return offsets, end

    def to_bytes(self) -> bytes:
        """The first PAYLOAD bytes of the file."""
        offsets, _ = self.sections()
        sizes = {name: value for name, value in asdict(self.dimensions).items() if name in _DIMENSIONS}
        sections = {
            name: {"offset": offsets[name], "shape": list(shape)} for name, shape in self.dimensions.shapes().items()
        }
        known = {"layout": LAYOUT, "model_digest": self.model_digest, "relu": self.relu}
        room = PAYLOAD - len(MAGIC) - 8
        text = json.dumps({**known, **sizes, "sections": sections}).encode()
        if len(text) > room:
            raise ModelArtifactError(f"candidates: expected a header of {room} bytes at most, found {len(text)}")
        return MAGIC + struct.pack("<Q", room) + text.ljust(room)


def read_header(path: Path) -> Header:
    """The header of a packed file, checked against the file's size; reads one page.

    Raises ModelArtifactError for a file that is cut off, foreign or of another layout.
    """
    try:
        with path.open("rb") as file:
            start = file.read(PAYLOAD)
        size = path.stat().st_size
    except OSError as error:
        raise _unfit(path, "a packed candidate file", str(error)) from error
    values = _values(path, start)
    if values.get("layout") != LAYOUT:
        raise _unfit(path, f"layout {LAYOUT}", str(values.get("layout")))
    try:
        there = {name: tuple(section["shape"]) for name, section in values["sections"].items()}
        offsets = {name: section["offset"] for name, section in values["sections"].items()}
        count, heads, links, width, hidden = (int(values[name]) for name in _DIMENSIONS)
        dimensions = Dimensions(count, heads, links, width, hidden, "G" in there, "W" in there)
        header = Header(dimensions, bool(values["relu"]), str(values["model_digest"]))
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise _unfit(path, f"a header of layout {LAYOUT}", f"none ({error!r})") from error
    expected, end = header.sections()
    if there != dimensions.shapes() or offsets != expected:
        raise _unfit(path, f"sections {dimensions.shapes()} at {expected}", f"{there} at {offsets}")
    if size != end:
        raise _unfit(path, f"{end} bytes", f"{size}")
    return header


def map_sections(path: Path, header: Header) -> dict[str, Tensor]:
    """Section -> tensor over the file's own pages; nothing is read, and writing to one is a fault."""
    whole = np.memmap(path, dtype=np.uint8, mode="r")
    offsets, _ = header.sections()
    found = {}
    for name, shape in header.dimensions.shapes().items():
        part = whole[offsets[name] : offsets[name] + 4 * prod(shape)]
        found[name] = read_only(part.view("<f4")).reshape(shape)
    return found


def read_only(array: "np.ndarray[Any, np.dtype[_Scalar]]") -> Tensor:
    """A tensor over an array that can't be written to, and is not.

    Mapped shared and read-only, because that is what neither counts as a worker's own memory nor against the
    host's commit limit; torch warns of every such array.
    """
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="The given NumPy array is not writ")
        return torch.from_numpy(array)


def groups_of(count: int) -> int:
    """Groups that hold so many candidates, filled up to whole tiles."""
    return -(-count // (GROUP * GROUPS_TOGETHER)) * GROUPS_TOGETHER


def to_groups(rows: Tensor) -> Tensor:
    """[n, width] -> [ceil(n / 16), width, 16], the last lanes zero."""
    n, width = rows.shape
    groups = -(-n // GROUP)
    padded = rows.new_zeros(groups * GROUP, width)
    padded[:n] = rows
    return padded.view(groups, GROUP, width).transpose(1, 2).contiguous()  # [groups, width, 16]


def from_groups(section: Tensor, first: int, count: int) -> Tensor:
    """Rows first..first + count of a section [groups, width, 16] -> [count, width]."""
    start, end = first // GROUP, -(-(first + count) // GROUP)
    rows = section[start:end].transpose(1, 2).reshape(-1, section.shape[1])
    return rows[first - start * GROUP :][:count]


def take_rows(section: Tensor, positions: Tensor) -> Tensor:
    """The rows at `positions` [n] of a section [groups, width, 16] -> [n, width]."""
    return section[positions // GROUP, :, positions % GROUP]


def _values(path: Path, start: bytes) -> Mapping[str, Any]:
    """The JSON object in a file's first page."""
    if not start.startswith(MAGIC) or len(start) < PAYLOAD:
        raise _unfit(path, f"a file that begins with {MAGIC.decode()}", f"{len(start)} bytes, {start[:8]!r}")
    (length,) = struct.unpack_from("<Q", start, len(MAGIC))
    try:
        values = json.loads(start[len(MAGIC) + 8 :][:length])
    except ValueError as error:
        raise _unfit(path, "a JSON header", str(error)) from error
    if not isinstance(values, dict):
        raise _unfit(path, "a JSON object as header", type(values).__name__)
    return values


def _unfit(path: Path, expected: str, found: str) -> ModelArtifactError:
    return ModelArtifactError(f"{os.fspath(path)}: expected {expected}, found {found}")


def _aligned(offset: int) -> int:
    return -(-offset // ALIGNMENT) * ALIGNMENT
