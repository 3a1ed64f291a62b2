"""Arrow batches <-> what the model reads: flat codes into the distinct strings of a batch."""

from collections.abc import Sequence

import pyarrow as pa
import pyarrow.compute as pc
import torch

from lime_model.frozen import Histories


def as_histories(batch: pa.RecordBatch | pa.StructArray) -> Histories:
    """Rows with item_ids, features, event_types, event_ts (lists of one length a row) -> Histories.

    Every distinct (item, features) pair is named once, so that its JSON is parsed once.
    """
    lists = {name: _column(batch, name) for name in ("item_ids", "features", "event_types", "event_ts")}
    offsets = _offsets(lists["item_ids"])
    items = lists["item_ids"].flatten().dictionary_encode()
    features = lists["features"].flatten().dictionary_encode()
    item_codes, feature_codes = _codes(items), _codes(features)
    pairs, codes = torch.unique(item_codes * len(features.dictionary) + feature_codes, return_inverse=True)
    item_of, feature_of = pairs // max(len(features.dictionary), 1), pairs % max(len(features.dictionary), 1)
    types = lists["event_types"].flatten().dictionary_encode()
    return Histories(
        item_ids=_take(items, item_of),
        features=_take(features, feature_of),
        event_types=types.dictionary.to_pylist(),
        codes=codes,
        type_codes=_codes(types),
        event_ts=_tensor(lists["event_ts"].flatten().cast(pa.timestamp("us", "UTC")).cast(pa.int64())),
        offsets=offsets,
    )


def float_lists(rows: torch.Tensor) -> pa.ListArray:
    """[B, n] float32 -> one list of n floats a row."""
    values = pa.array(rows.reshape(-1).numpy(), pa.float32())
    width = rows.shape[1]
    offsets = torch.arange(0, (len(rows) + 1) * width, width, dtype=torch.int32)
    return pa.ListArray.from_arrays(pa.array(offsets.numpy(), pa.int32()), values)


def float_matrix(lists: pa.ListArray, width: int) -> torch.Tensor:
    """Lists of `width` floats -> [B, width] float32."""
    return _tensor(lists.flatten()).reshape(len(lists), width)


def _column(batch: pa.RecordBatch | pa.StructArray, name: str) -> pa.ListArray:
    return batch.field(name) if isinstance(batch, pa.StructArray) else batch.column(name)


def _offsets(lists: pa.ListArray) -> torch.Tensor:
    """Start of each row in the flattened values, [B + 1]; an Arrow slice keeps its parent's offsets."""
    lengths = _tensor(pc.fill_null(pc.list_value_length(lists), 0).cast(pa.int64()))
    return torch.cat([torch.zeros(1, dtype=torch.int64), torch.cumsum(lengths, 0)])


def _codes(values: pa.DictionaryArray) -> torch.Tensor:
    return _tensor(values.indices.cast(pa.int64()))


def _take(values: pa.DictionaryArray, index: torch.Tensor) -> Sequence[str]:
    return list(values.dictionary.take(pa.array(index.numpy())).to_pylist())


def _tensor(values: pa.Array) -> torch.Tensor:
    return torch.from_numpy(values.to_numpy(zero_copy_only=False).copy())
