"""Positions and scores of a block of users <-> the list columns of `recommendations`."""

import pyarrow as pa
import pyarrow.compute as pc
import torch

from lime_model.scoring import TopK

ITEM_LIST = "array<struct<rank: int, item_id: string, score: float>>"
RESERVE = "array<struct<item_id: string, score: float>>"
FLOOR = "struct<item_id: string, score: float>"
LIST_COLUMNS = (
    f"items {ITEM_LIST}, source string, shortfall string, reserve {RESERVE}, floor {FLOOR}, numerics_id string"
)
SCORED_COLUMNS = (
    "user_id", "user_bucket", "items", "source", "shortfall", "reserve", "floor", "numerics_id"
)  # fmt: skip
SCORED = f"user_id string, user_bucket int, {LIST_COLUMNS}"

_ENTRY = pa.struct([("item_id", pa.string()), ("score", pa.float32())])
_RANKED = pa.struct([("rank", pa.int32()), ("item_id", pa.string()), ("score", pa.float32())])


def seen_positions(seen: pa.ListArray, item_ids: pa.Array) -> tuple[torch.Tensor, torch.Tensor]:
    """Lists of item ids -> sorted candidate positions, CSR: offsets [B + 1], positions. Non-candidates fall out."""
    found = pc.index_in(seen.flatten().cast(item_ids.type), value_set=item_ids)
    lengths = pc.fill_null(pc.list_value_length(seen), 0).to_numpy(zero_copy_only=False)
    row = torch.repeat_interleave(torch.arange(len(seen)), torch.from_numpy(lengths.astype("int64")))
    position = torch.from_numpy(
        pc.fill_null(found, -1).cast(pa.int64()).to_numpy(zero_copy_only=False).copy()
    )
    keys = torch.unique((row * len(item_ids) + position)[position >= 0])  # sorted by row, then position
    counts = torch.bincount(keys // max(len(item_ids), 1), minlength=len(seen))
    offsets = torch.cat([torch.zeros(1, dtype=torch.int64), torch.cumsum(counts, 0)])
    return offsets, keys % max(len(item_ids), 1)


def list_arrays(top: TopK, item_ids: pa.Array, k: int) -> dict[str, pa.Array]:
    """`items`, `reserve` and `floor` of each row; the floor is null where nothing was cut off."""
    width = top.positions.shape[1]
    places = torch.arange(width).expand_as(top.positions)
    filled = places < top.count[:, None]
    return {
        "items": _entries(top, item_ids, filled & (places < k), ranked=True),
        "reserve": _entries(top, item_ids, filled & (places >= k), ranked=False),
        "floor": _floor(top, item_ids),
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


def _floor(top: TopK, item_ids: pa.Array) -> pa.StructArray:
    """The last kept entry of full rows: below it nothing was kept."""
    full = top.count == top.positions.shape[1]
    last = torch.where(full, top.positions[:, -1], torch.zeros_like(top.count))
    names = item_ids.take(pa.array(last.numpy())).cast(pa.string())
    scores = pa.array(top.scores[:, -1].numpy(), pa.float32())
    return pa.StructArray.from_arrays([names, scores], fields=list(_ENTRY), mask=pa.array((~full).numpy()))


def shortfall(eligible: int, seen: int, k: int) -> str:
    """Why a list is short, for the row."""
    return f"fewer than {k} items: {eligible} available, {seen} of them seen"
