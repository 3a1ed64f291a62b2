"""What the last lists keep of a batch of users: `jobs.last_lists.KEPT` as Arrow -> tonight's positions."""

import pyarrow as pa
import pyarrow.compute as pc
import torch
from torch import Tensor

from jobs.lists import positions_of
from lime_model.scoring.incremental import Kept


def kept_lists(kept: pa.StructArray, item_ids: pa.LargeStringArray) -> Kept:
    """One row a user, none null -> entries and floors by position; what is no candidate any more has no place."""
    entries, floor = pc.struct_field(kept, "entries"), floors(kept)
    lengths = torch.from_numpy(pc.list_value_length(entries).to_numpy(zero_copy_only=False).astype("int64"))
    there = torch.arange(int(lengths.max()) if len(lengths) else 0) < lengths[:, None]
    values = entries.flatten()
    positions, scores = torch.full(there.shape, -1, dtype=torch.int64), torch.zeros(there.shape)
    positions[there] = positions_of(pc.struct_field(values, "item_id"), item_ids)
    scores[there] = _floats(pc.struct_field(values, "score"))
    lowest = pc.fill_null(pc.struct_field(floor, "score"), -float("inf"))
    return Kept(positions, scores, _floats(lowest), positions_of(pc.struct_field(floor, "item_id"), item_ids))


def floors(kept: pa.StructArray) -> pa.StructArray:
    """The last lists' own floors, null where nothing was cut off."""
    return pc.struct_field(kept, "floor")


def _floats(values: pa.Array) -> Tensor:
    return torch.from_numpy(values.to_numpy(zero_copy_only=False).astype("float32"))
