"""Positions and scores of a block of users <-> the list columns of `recommendations`."""

from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import torch

from jobs.eligibility import Bits, ClassCounts, chosen
from lime_model.packed import read_only
from lime_model.scoring.kernel import find_positions
from lime_model.scoring.library import carried
from lime_model.scoring.lists import Excluded, TopK

ITEM_LIST = "array<struct<rank: int, item_id: string, score: float>>"
RESERVE = "array<struct<item_id: string, score: float>>"
FLOOR = "struct<item_id: string, score: float>"
SCORED = (
    f"user_id string, user_bucket int, items {ITEM_LIST}, source string, shortfall string, reserve {RESERVE}, "
    f"floor {FLOOR}, inputs_hash bigint, numerics_id string, eligibility_digest string, how string"
)
SCORED_COLUMNS = (
    "user_id", "user_bucket", "items", "source", "shortfall", "reserve",
    "floor", "inputs_hash", "numerics_id", "eligibility_digest", "how",
)  # fmt: skip
FULL, MERGED = "full", "merged"
"""How a list of the model was made: from all candidates, or from the last list; the third value is `popularity`."""

_ENTRY = pa.struct([("item_id", pa.string()), ("score", pa.float32())])
_RANKED = pa.struct([("rank", pa.int32()), ("item_id", pa.string()), ("score", pa.float32())])


def seen_positions(seen: pa.ListArray, item_ids: pa.Array) -> tuple[torch.Tensor, torch.Tensor]:
    """Lists of item ids -> sorted candidate positions, CSR: offsets [B + 1], positions. Non-candidates fall out."""
    lengths = pc.fill_null(pc.list_value_length(seen), 0).to_numpy(zero_copy_only=False)
    row = torch.repeat_interleave(torch.arange(len(seen)), torch.from_numpy(lengths.astype("int64")))
    position = positions_of(seen.flatten(), item_ids)
    keys = torch.unique((row * len(item_ids) + position)[position >= 0])  # sorted by row, then position
    counts = torch.bincount(keys // max(len(item_ids), 1), minlength=len(seen))
    offsets = torch.cat([torch.zeros(1, dtype=torch.int64), torch.cumsum(counts, 0)])
    return offsets, keys % max(len(item_ids), 1)


def positions_of(ids: pa.Array, item_ids: pa.LargeStringArray) -> torch.Tensor:
    """Each id's position among the sorted `item_ids`; a stranger's is -1 less the place where it would stand.

    No table of the catalogue is built. A null is at -1.
    """
    coded = ids.cast(pa.large_string()).dictionary_encode()
    if carried():
        found = find_positions(_packed(item_ids), _packed(coded.dictionary))
    else:
        found = torch.tensor([_position(item, item_ids) for item in coded.dictionary.to_pylist()], dtype=torch.int64)
    codes = _int64(coded.indices)
    return torch.where(codes >= 0, found[codes.clamp(min=0)], -1) if len(found) else codes


def _position(item: str, item_ids: pa.LargeStringArray) -> int:
    """As the kernel finds it, where there is no kernel."""
    key = item.encode()
    place = bisect_left(range(len(item_ids)), key, key=lambda at: item_ids[at].as_py().encode())
    return place if place < len(item_ids) and item_ids[place].as_py() == item else -1 - place


def _packed(ids: pa.LargeStringArray) -> tuple[torch.Tensor, torch.Tensor]:
    """(bytes, offsets [n + 1]) of a whole array, not copied."""
    _, offsets, text = ids.buffers()
    sizes = np.frombuffer(offsets, np.int64, len(ids) + 1)
    return read_only(np.frombuffer(text or b"", np.uint8)), read_only(sizes)


def _int64(values: pa.Array) -> torch.Tensor:
    """Integers, null as -1."""
    return torch.from_numpy(pc.fill_null(values.cast(pa.int64()), -1).to_numpy(zero_copy_only=False).copy())


def list_arrays(top: TopK, item_ids: pa.Array, k: int) -> dict[str, pa.Array]:
    """`items` and `reserve` of each row."""
    width = top.positions.shape[1]
    places = torch.arange(width).expand_as(top.positions)
    filled = places < top.count[:, None]
    return {
        "items": _entries(top, item_ids, filled & (places < k), ranked=True),
        "reserve": _entries(top, item_ids, filled & (places >= k), ranked=False),
    }


def _entries(top: TopK, item_ids: pa.Array, kept: torch.Tensor, ranked: bool) -> pa.ListArray:
    """The kept places [B, K] as one list a row, in rank order."""
    names = item_ids.take(pa.array(top.positions[kept].numpy())).cast(pa.string())
    scores = pa.array(top.scores[kept].numpy(), pa.float32())
    offsets = torch.cat([torch.zeros(1, dtype=torch.int64), torch.cumsum(kept.sum(1), 0)]).to(torch.int32)
    if ranked:
        rank = pa.array((torch.nonzero(kept)[:, 1] + 1).to(torch.int32).numpy())
        values = pa.StructArray.from_arrays([rank, names, scores], fields=list(_RANKED))
    else:
        values = pa.StructArray.from_arrays([names, scores], fields=list(_ENTRY))
    return pa.ListArray.from_arrays(pa.array(offsets.numpy()), values)


def cut_floors(top: TopK, item_ids: pa.Array) -> pa.StructArray:
    """The last entry of lists without room, below which nothing was kept; null for the others."""
    full = top.count == top.positions.shape[1]
    last = torch.where(full, top.positions[:, -1], torch.zeros_like(top.count))
    names = item_ids.take(pa.array(last.numpy())).cast(pa.string())
    scores = pa.array(top.scores[:, -1].numpy(), pa.float32())
    return pa.StructArray.from_arrays([names, scores], fields=list(_ENTRY), mask=pa.array((~full).numpy()))


@dataclass(frozen=True)
class Filtered:
    """What held items back from each user of a batch; `excluded` are `seen` and the user's denials in one."""

    masks: Bits  # [classes, groups * 2]
    class_of: npt.NDArray[np.int64]  # [B]
    seen: Excluded
    excluded: Excluded


def filtered_rows(rows: pa.RecordBatch, item_ids: pa.Array, masks: Bits) -> Filtered:
    """Rows with `rule_class`, and with `seen` and `denied` as lists of item ids -> what is held back from each."""
    seen, denied = (Excluded(*seen_positions(rows.column(name), item_ids)) for name in ("seen", "denied"))
    class_of = rows.column("rule_class").to_numpy().astype(np.int64)
    return Filtered(masks, class_of, seen, union_of(seen, denied, len(item_ids)))


def union_of(one: Excluded, other: Excluded, candidates: int) -> Excluded:
    """Each user's positions of either side, sorted, each once."""
    users = len(one.offsets) - 1
    row = torch.cat([torch.repeat_interleave(torch.arange(users), side.offsets.diff()) for side in (one, other)])
    keys = torch.unique(row * candidates + torch.cat([one.positions, other.positions]))
    counts = torch.bincount(keys // max(candidates, 1), minlength=users)
    return Excluded(torch.cat([counts.new_zeros(1), counts.cumsum(0)]), keys % max(candidates, 1))


def short_reasons(
    k: int, count: torch.Tensor, filtered: Filtered, classes: Sequence[ClassCounts]
) -> list[str | None]:
    """Why each list with fewer than `k` items is short, null for the others. `count` [B] is what was kept."""
    reasons: list[str | None] = [None] * len(count)
    for row in torch.nonzero(count < k).flatten().tolist():
        class_ = int(filtered.class_of[row])
        seen, excluded = (
            int(chosen(filtered.masks[class_], _row_of(pairs, row)).sum())
            for pairs in (filtered.seen, filtered.excluded)
        )
        reasons[row] = shortfall(k, classes[class_], seen, excluded - seen)
    return reasons


def shortfall(k: int, counts: ClassCounts, seen: int, denied: int) -> str:
    """Why a list is short, for the row: every candidate that is not on it counts once, at the first reason that holds.

    The order is that of the sentence: availability, the rules as declared, then of what these leave the items
    `seen`, then of the rest those `denied` to the user. What is left after all of them is the list.
    """
    by_rule = [(label, removed) for label, removed in counts.removed if removed]
    named = ", ".join(f"{label} {removed:,}" for label, removed in by_rule)
    reasons = [
        (counts.unavailable, "not available"),
        (sum(removed for _, removed in by_rule), f"denied by rules ({named})"),
        (seen, "seen"),
        (denied, "denied to the user"),
    ]
    parts = [f"{counts.candidates:,} candidates", *[f"{number:,} {what}" for number, what in reasons if number]]
    return f"fewer than {k:,} items: {', '.join(parts)}"


def _row_of(pairs: Excluded, row: int) -> npt.NDArray[np.int64]:
    """One user's positions."""
    found: npt.NDArray[np.int64] = pairs.positions[int(pairs.offsets[row]) : int(pairs.offsets[row + 1])].numpy()
    return found
