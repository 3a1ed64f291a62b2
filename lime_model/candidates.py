"""The candidate cache as the scoring stage holds it: items in UTF-8 byte order, in groups of 16.

The position of an item is its rank by id, so a tie between positions is a tie between ids.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import accumulate
from pathlib import Path

import torch
from torch import Tensor

from lime_model.batches import CandidateWeights
from lime_model.packed import (
    GROUPS_TOGETHER,
    Dimensions,
    Header,
    from_groups,
    groups_of,
    map_sections,
    read_header,
    take_rows,
    to_groups,
)
from schemas.errors import BadNumberError, ModelArtifactError

LIMIT = 1e15
"""No number of a candidate is larger: a score that could still overflow does so by its user's links."""


@dataclass(frozen=True)
class ScoreHead:
    """What a package keeps once for all items."""

    fold: Tensor  # [H, d, F]
    g: Tensor  # [F]
    w: Tensor  # [F]
    relu: bool
    model_digest: str

    def check(self) -> None:
        """Raise a BadNumberError that names the constant that is not finite or beyond LIMIT."""
        for name in ("fold", "g", "w"):
            if not bool(_within_limit(getattr(self, name)).all()):
                raise BadNumberError(f"candidates: {name}: expected finite numbers up to {LIMIT:g}, found others")

    def header(self, count: int, links: int, own_g: bool, own_w: bool) -> Header:
        """What a file of `count` candidates says of itself."""
        heads, width, hidden = self.fold.shape
        dimensions = Dimensions(count, heads, links, width, hidden, own_g, own_w)
        return Header(dimensions, self.relu, self.model_digest)


@dataclass(frozen=True)
class Candidates:
    """C items and their cached weights under one model; bounds are of absolute values over all items."""

    count: int  # C
    heads: int  # H
    links: int  # L
    width: int  # d
    hidden: int  # F
    relu: bool  # activation of the hidden layer: ReLU, else identity
    model_digest: str
    item_bytes: Tensor  # [bytes] uint8, ids in UTF-8, one after another
    item_offsets: Tensor  # [C + 1] int64
    A: Tensor  # [groups, H * L, 16]
    G: Tensor | None  # [groups, F, 16]
    W: Tensor | None  # [groups, F, 16]
    b: Tensor  # [groups, 16]
    fold: Tensor  # [H, d, F]
    g: Tensor  # [F], where G is None
    w: Tensor  # [F], where W is None
    A_max: Tensor  # [H * L]
    G_max: Tensor  # [F]: of G, else of g
    W_max: Tensor  # [F]: of W, else of w
    b_max: Tensor  # [1]

    def __len__(self) -> int:
        return self.count

    def item_id(self, position: int) -> str:
        start, end = int(self.item_offsets[position]), int(self.item_offsets[position + 1])
        return self.item_bytes[start:end].numpy().tobytes().decode()

    def rows(self, first: int, count: int) -> CandidateWeights:
        """Candidates first..first + count, fewer at the end, one row each: A [n, H, L], G and w [n, F], b [n]."""
        n = max(min(count, self.count - first), 0)
        return CandidateWeights(
            from_groups(self.A, first, n).reshape(n, self.heads, self.links),
            None if self.G is None else from_groups(self.G, first, n),
            None if self.W is None else from_groups(self.W, first, n),
            self.b.reshape(-1)[first : first + n],
        )

    def subset(self, positions: Tensor) -> "Candidates":
        """A copy of the candidates at these positions, ascending. Bounds stay those of all, scores the same bits."""
        groups, offsets = groups_of(len(positions)), self.item_offsets
        sizes = offsets.diff()[positions]
        ends = sizes.cumsum(0)
        moved = torch.repeat_interleave(offsets[positions] - ends + sizes, sizes)  # from a byte's new place to its old
        tables = {"A": self.A, "G": self.G, "W": self.W, "b": self.b[:, None]}
        taken = {name: to_groups(take_rows(table, positions)) for name, table in tables.items() if table is not None}
        sections = {name: _filled(section, groups) for name, section in taken.items()}
        return replace(
            self,
            count=len(positions),
            item_bytes=self.item_bytes[moved + torch.arange(len(moved))],
            item_offsets=torch.cat([ends.new_zeros(1), ends]),
            A=sections["A"],
            G=sections.get("G"),
            W=sections.get("W"),
            b=sections["b"].squeeze(1),
        )

    @classmethod
    def load(cls, weights_file: Path, item_bytes: Tensor, item_offsets: Tensor) -> "Candidates":
        """Map a packed file beside its ids; reads one page, whatever the number of items.

        Raises ModelArtifactError for a file that is cut off, foreign or of another layout, or not of these ids.
        """
        header = read_header(weights_file)
        if len(item_offsets) != header.dimensions.count + 1:
            found = len(item_offsets) - 1
            raise ModelArtifactError(f"{weights_file}: expected {header.dimensions.count} item ids, found {found}")
        return _candidates(header, item_bytes, item_offsets, map_sections(weights_file, header))


def candidates_of(item_ids: Sequence[str], weights: CandidateWeights, head: ScoreHead) -> Candidates:
    """Distinct items in any order -> Candidates in UTF-8 byte order. A row that is not finite is refused."""
    encoded = [item.encode() for item in item_ids]
    C = weights.b.shape[0]
    if len(set(encoded)) != len(encoded) or len(encoded) != C:
        raise ModelArtifactError(
            f"candidates: expected {C} distinct item ids, found {len(set(encoded))} of {len(encoded)}"
        )
    order = sorted(range(C), key=encoded.__getitem__)
    packed = bytearray(b"".join(encoded[i] for i in order))
    offsets = torch.tensor([0, *accumulate(len(encoded[i]) for i in order)], dtype=torch.int64)
    rows = {name: values[order] for name, values in flat_sections(weights).items()}
    head.check()
    bounds = checked_bounds(rows, head, 0, lambda row: item_ids[order[row]])
    header = head.header(C, weights.A.shape[2], weights.G is not None, weights.w is not None)
    groups = header.dimensions.groups
    sections = {name: _filled(to_groups(values), groups) for name, values in rows.items()}
    sections["b"] = sections["b"].squeeze(1)
    constants = {"fold": head.fold, "g": head.g, "w": head.w}
    item_bytes = torch.frombuffer(packed, dtype=torch.uint8) if packed else torch.empty(0, dtype=torch.uint8)
    return _candidates(header, item_bytes, offsets, {**sections, **constants, **bounds})


def flat_sections(weights: CandidateWeights) -> dict[str, Tensor]:
    """What there is of A [n, H * L], G [n, F], W [n, F] and b [n, 1]."""
    found = {"A": weights.A.flatten(1), "G": weights.G, "W": weights.w, "b": weights.b[:, None]}
    return {name: rows for name, rows in found.items() if rows is not None}


def checked_bounds(
    rows: dict[str, Tensor], head: ScoreHead, first: int, item_id: Callable[[int], str]
) -> dict[str, Tensor]:
    """Bound -> largest absolute value of each column of a block, constants where items have none of their own.

    Raises a BadNumberError that names the first row that is not finite or beyond LIMIT. `first` is the position of the
    block's first row, `item_id` tells a row's item.
    """
    peaks = {"G": head.g.abs(), "W": head.w.abs()}
    peaks |= {name: _peak(values) for name, values in rows.items()}
    # a maximum passes NaN and infinity on, so rows are looked at only where there is something to name
    if not all(bool(_within_limit(peaks[name]).all()) for name in rows):
        _name_bad_row(rows, first, item_id)
    return {"A_max": peaks["A"], "G_max": peaks["G"], "W_max": peaks["W"], "b_max": peaks["b"]}


def _name_bad_row(rows: dict[str, Tensor], first: int, item_id: Callable[[int], str]) -> None:
    bad = {name: torch.nonzero(~_within_limit(values).all(1)).flatten() for name, values in rows.items()}
    row, name = min((int(found[0]), name) for name, found in bad.items() if len(found))
    raise BadNumberError(
        f"candidates: {name} of row {first + row}, item {item_id(row)!r}: expected finite numbers up to {LIMIT:g}, "
        f"found {rows[name][row][~_within_limit(rows[name][row])][0]}"
    )


def _within_limit(values: Tensor) -> Tensor:
    """False for NaN, infinity and what is beyond LIMIT."""
    return values.abs() <= LIMIT


def _peak(rows: Tensor) -> Tensor:
    """[n, width] -> the largest absolute value of each column [width]; zero where there is no row."""
    return rows.abs().amax(0) if len(rows) else rows.new_zeros(rows.shape[1])


def _filled(section: Tensor, groups: int) -> Tensor:
    """Zero groups at the end, up to `groups`."""
    missing = groups - section.shape[0]
    assert 0 <= missing < GROUPS_TOGETHER, f"{section.shape[0]} of {groups} groups"
    return torch.cat([section, section.new_zeros(missing, *section.shape[1:])])


def _candidates(header: Header, item_bytes: Tensor, item_offsets: Tensor, sections: dict[str, Tensor]) -> Candidates:
    sizes = header.dimensions
    found: dict[str, Tensor | None] = {"G": None, "W": None, **sections}
    return Candidates(
        sizes.count, sizes.heads, sizes.links, sizes.width, sizes.hidden, header.relu, header.model_digest,
        item_bytes, item_offsets, **found,  # type: ignore[arg-type]  # A and b are always there
    )  # fmt: skip
