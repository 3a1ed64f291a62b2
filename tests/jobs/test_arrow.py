"""Arrow rows <-> what the model reads: every event finds its own item, features, type and time again."""

from datetime import UTC, datetime
from typing import Any

import pyarrow as pa
import pytest
import torch

from jobs.arrow import as_histories, float_lists, float_matrix

Event = tuple[str, str, str, datetime]
NOON = datetime(2026, 1, 1, 12, 0, 0, 1, tzinfo=UTC)  # a microsecond past: none may be lost
OLD, NEW = '{"genre":"old"}', '{"genre":"new"}'
ROWS: list[list[Event]] = [
    [("a", OLD, "view", NOON), ("b", OLD, "like", NOON), ("a", NEW, "view", NOON.replace(day=2))],
    [],  # a user without events
    [("b", OLD, "view", NOON)],
    [("b", NEW, "like", NOON.replace(year=1969)), ("a", OLD, "view", NOON)],  # before 1970: a negative number
]


def batch_of(rows: list[list[Event]]) -> pa.RecordBatch:
    names = ("item_ids", "features", "event_types", "event_ts")
    values = {name: [[event[n] for event in row] for row in rows] for n, name in enumerate(names)}
    kinds = [pa.string(), pa.string(), pa.string(), pa.timestamp("us", "UTC")]
    columns = [pa.array(values[name], pa.list_(kind)) for name, kind in zip(names, kinds, strict=True)]
    return pa.RecordBatch.from_arrays(columns, list(names))


def decoded(batch: Any) -> list[list[tuple[str, str, str, int]]]:
    """What a model that reads the histories sees, row by row."""
    h = as_histories(batch)
    codes, types = h.codes.tolist(), h.type_codes.tolist()
    events = [
        (h.item_ids[code], h.features[code], h.event_types[kind], ts)
        for code, kind, ts in zip(codes, types, h.event_ts.tolist(), strict=True)
    ]
    bounds = h.offsets.tolist()
    return [events[start:end] for start, end in zip(bounds[:-1], bounds[1:], strict=True)]


def plain(rows: list[list[Event]]) -> list[list[tuple[str, str, str, int]]]:
    epoch = datetime(1970, 1, 1, tzinfo=UTC)
    return [[(i, f, t, round((ts - epoch).total_seconds() * 1e6)) for i, f, t, ts in row] for row in rows]


def test_every_event_is_found_again() -> None:
    assert decoded(batch_of(ROWS)) == plain(ROWS)


def test_each_pair_of_item_and_features_is_named_once() -> None:
    h = as_histories(batch_of(ROWS))
    pairs = list(zip(h.item_ids, h.features, strict=True))
    assert sorted(pairs) == [("a", NEW), ("a", OLD), ("b", NEW), ("b", OLD)]


@pytest.mark.parametrize(("start", "length"), [(0, 2), (1, 2), (2, 2), (3, 1), (1, 1)])
def test_a_slice_reads_its_own_rows(start: int, length: int) -> None:
    assert decoded(batch_of(ROWS).slice(start, length)) == plain(ROWS[start : start + length])


def test_a_struct_column_and_a_batch_are_the_same() -> None:
    batch = batch_of(ROWS)
    struct = pa.StructArray.from_arrays(batch.columns, batch.schema.names)
    assert decoded(struct) == plain(ROWS)


def test_no_rows_and_only_empty_rows_are_histories_too() -> None:
    assert decoded(batch_of([])) == []
    assert decoded(batch_of([[], []])) == [[], []]


def test_float_lists_come_back_as_the_matrix_they_were() -> None:
    rows = torch.arange(6, dtype=torch.float32).reshape(3, 2) / 7
    lists = float_lists(rows)
    assert lists.type == pa.list_(pa.float32())
    assert torch.equal(float_matrix(lists, 2), rows)
    assert torch.equal(float_matrix(lists.slice(1, 2), 2), rows[1:]), "a slice keeps its parent's values"
