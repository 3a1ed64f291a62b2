"""Sorted Arrow batches -> the two files, without Spark: bytes, refusals, and memory that items do not grow."""

import multiprocessing
from collections.abc import Callable, Iterator
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch

from jobs.candidates import mapped_items, open_candidates
from jobs.host_cache import digest_of
from jobs.pack_candidates import BLOCK, Content, in_blocks, pack_candidates
from lime_model.candidates import Candidates, ScoreHead
from schemas.errors import BadNumberError, ContractError, EmptyTableError, ModelArtifactError

LINKS, WIDTH = 4, 6
FRESH = multiprocessing.get_context("spawn")  # a process of its own, so that its memory is its own
MB = 1 << 20


def head(hidden: int = WIDTH) -> ScoreHead:
    g = torch.Generator().manual_seed(0)
    return ScoreHead(torch.randn(2, 8, hidden, generator=g), torch.zeros(hidden), torch.ones(hidden), True, "model")


def lists(values: np.ndarray[Any, Any]) -> pa.ListArray:
    offsets = np.arange(0, values.size + 1, values.shape[1], dtype=np.int32)
    return pa.ListArray.from_arrays(offsets, values.reshape(-1))


def batch(first: int, n: int, hidden: int = WIDTH) -> pa.RecordBatch:
    """Items first..first + n with numbers that tell them apart."""
    place = np.arange(first, first + n, dtype=np.float32)
    attention = np.repeat(place[:, None], 2 * LINKS, 1)
    offset = np.repeat(-place[:, None], hidden, 1)
    ids = pa.array([f"item-{i:08d}" for i in range(first, first + n)])
    nothing = pa.nulls(n, pa.list_(pa.float32()))
    return pa.RecordBatch.from_pydict(
        {"item_id": ids, "link_weights": lists(attention), "g": lists(offset), "w": nothing, "b": pa.array(place)}
    )


def batches(n: int, size: int = 4000, hidden: int = WIDTH) -> Iterator[pa.RecordBatch]:
    for first in range(0, n, size):
        yield batch(first, min(size, n - first), hidden)


def pack(folder: Path, rows: Iterator[pa.RecordBatch], n: int, hidden: int = WIDTH) -> tuple[Path, Path]:
    folder.mkdir(exist_ok=True)
    pack_candidates(rows, Content(n, n, 0, "content"), head(hidden), LINKS, folder)
    items, weights = sorted(folder.iterdir())
    return weights, items


def open_files(weights: Path, items: Path) -> Candidates:
    return open_candidates(weights, mapped_items(items))


@pytest.mark.parametrize("n", [1, 16, 4001, BLOCK, BLOCK + 1, 2 * BLOCK + 17])
def test_batches_of_any_size_become_the_same_files(tmp_path: Path, n: int) -> None:
    weights, items = pack(tmp_path / "a", batches(n), n)
    again = pack(tmp_path / "b", batches(n, 777), n)
    assert [file.name for file in again] == [weights.name, items.name]
    assert weights.name == f"weights-{digest_of(weights)}.lime"
    assert items.name == f"items-{digest_of(items)}.arrow"
    found = open_files(weights, items)
    rows = found.rows(0, n)
    assert rows.b.tolist() == list(range(n))
    assert rows.A.amin() == 0
    assert torch.equal(rows.A[:, 1, 3], rows.b)
    assert rows.G is not None
    assert torch.equal(rows.G[:, 5], -rows.b)
    assert rows.w is None
    assert [found.item_id(p) for p in (0, n // 2, n - 1)] == [f"item-{p:08d}" for p in (0, n // 2, n - 1)]
    assert mapped_items(items).to_pylist() == [f"item-{p:08d}" for p in range(n)]


def test_ids_are_one_batch_with_64_bit_offsets_and_no_nulls(tmp_path: Path) -> None:
    n = BLOCK + 1
    _, items = pack(tmp_path / "a", batches(n), n)
    with pa.memory_map(str(items)) as source, pa.ipc.open_file(source) as file:
        assert file.num_record_batches == 1
        assert file.schema == pa.schema([pa.field("item_id", pa.large_string(), nullable=False)])
        file.get_batch(0).validate(full=True)


@pytest.mark.parametrize("item", ["", "ä", "\U0001f600"])
def test_one_item_of_any_id_is_packed(tmp_path: Path, item: str) -> None:
    columns = {name: batch(0, 1).column(name) for name in ("link_weights", "g", "w", "b")}
    rows = pa.RecordBatch.from_pydict({"item_id": pa.array([item]), **columns})
    found = open_files(*pack(tmp_path / "a", iter([rows]), 1))
    assert found.item_id(0) == item


def test_blocks_hold_the_rows_in_order() -> None:
    ids = [name for rows in in_blocks(batches(50, 7), 16) for name in rows.column("item_id").to_pylist()]
    assert [len(rows) for rows in in_blocks(batches(50, 7), 16)] == [16, 16, 16, 2]
    assert ids == [f"item-{n:08d}" for n in range(50)]
    assert not list(in_blocks(iter([]), 16))


def with_value(name: str, row: int, value: float) -> pa.RecordBatch:
    """Twenty rows, one number of one row changed."""
    rows = batch(0, 20)
    columns = {column: rows.column(column) for column in rows.schema.names}
    flat = columns[name].flatten() if name != "b" else columns[name]
    numbers = flat.to_numpy().copy()
    numbers[row * (len(numbers) // 20)] = value
    columns[name] = pa.array(numbers) if name == "b" else lists(numbers.reshape(20, -1))
    return pa.RecordBatch.from_pydict(columns)


def without_number(name: str) -> pa.RecordBatch:
    """Twenty rows, the list of row 7 one short."""
    rows = batch(0, 20)
    columns = {column: rows.column(column) for column in rows.schema.names}
    values = columns[name].to_pylist()
    columns[name] = pa.array([v[:-1] if n == 7 else v for n, v in enumerate(values)], pa.list_(pa.float32()))
    return pa.RecordBatch.from_pydict(columns)


@pytest.mark.parametrize(
    ("rows", "error", "message"),
    [
        ([with_value("b", 7, float("nan"))], BadNumberError, "b of row 7, item 'item-00000007': .* found nan"),
        ([with_value("link_weights", 7, float("inf"))], BadNumberError, "A of row 7, item 'item-00000007': .* inf"),
        ([with_value("g", 7, float("-inf"))], BadNumberError, "G of row 7, item 'item-00000007': .* -inf"),
        ([batch(0, 10), batch(9, 10)], ModelArtifactError, "'item-00000009': expected once .* after 'item-00000009'"),
        ([batch(10, 10), batch(0, 10)], ModelArtifactError, "'item-00000000': expected once .* after 'item-00000019'"),
        ([without_number("g")], ContractError, "g of item 'item-00000007': expected 6 numbers, found 5"),
        ([without_number("link_weights")], ContractError, "link_weights of item 'item-00000007': expected 8 .* 7"),
        ([batch(0, 19)], ModelArtifactError, "expected 20 rows, found 19"),
        ([batch(0, 21)], ModelArtifactError, "expected 20 rows in whole groups of 16, found 21 after 0"),
    ],
)
def test_a_row_that_cannot_be_packed_is_named(
    tmp_path: Path, rows: list[pa.RecordBatch], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        pack(tmp_path / "a", iter(rows), 20)


@pytest.mark.parametrize(
    ("content", "error", "message"),
    [
        (Content(0, 0, 0, ""), EmptyTableError, "expected rows of model m, found none"),
        (Content(5, 3, 0, ""), ContractError, "g: expected it in all 5 rows of model m or in none, found it in 3"),
        (Content(5, 5, 1, ""), ContractError, "w: expected it in all 5 rows"),
    ],
)
def test_content_that_is_no_models_is_refused(content: Content, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        content.check("m")
    Content(5, 5, 0, "").check("m")


def kilobytes(file: str, *names: str) -> int:
    lines = (line.split() for line in Path(file).read_text().splitlines())
    return sum(int(value[1]) for value in lines if value[0].rstrip(":") in names)


def _memory_of_packing(send: Connection, folder: Path, n: int) -> None:
    pack(folder / "warm", batches(BLOCK, hidden=64), BLOCK, 64)
    before = kilobytes("/proc/self/smaps_rollup", "Anonymous")
    peak = before

    def watched() -> Iterator[pa.RecordBatch]:
        nonlocal peak
        for rows in batches(n, BLOCK, 64):
            yield rows
            peak = max(peak, kilobytes("/proc/self/smaps_rollup", "Anonymous"))

    pack(folder / str(n), watched(), n, 64)
    send.send((peak - before) * 1024)


def _memory_of_mapping(send: Connection, folder: Path, n: int) -> None:
    open_files(*sorted((folder / "warm").iterdir(), reverse=True))
    before = kilobytes("/proc/self/smaps_rollup", "Private_Clean", "Private_Dirty")
    found = open_files(*sorted((folder / str(n)).iterdir(), reverse=True))
    opened = kilobytes("/proc/self/smaps_rollup", "Private_Clean", "Private_Dirty")
    total = float(found.b.sum())  # every page of a section is there now, and none is this process's own
    dirty = kilobytes("/proc/self/smaps_rollup", "Anonymous")
    assert found.G is not None
    total += float(found.G.sum())
    grown = kilobytes("/proc/self/smaps_rollup", "Anonymous") - dirty
    send.send(((opened - before) * 1024, grown * 1024, total))


def in_a_process(target: Callable[..., None], *args: object) -> Any:
    """What a fresh process sends back."""
    receive, send = FRESH.Pipe(duplex=False)
    process = FRESH.Process(target=target, args=(send, *args))
    process.start()
    found = receive.recv() if receive.poll(120) else None
    process.join(30)
    assert process.exitcode == 0
    return found


@pytest.fixture
def nothing_pooled(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fresh processes give freed blocks back at once: what allocators keep is by chance, up to four blocks here."""
    monkeypatch.setenv("ARROW_DEFAULT_MEMORY_POOL", "system")
    monkeypatch.setenv("MALLOC_MMAP_THRESHOLD_", str(64 << 10))  # from that size on every allocation is a mapping


def test_memory_of_driver_and_worker_does_not_grow_with_items(tmp_path: Path, nothing_pooled: None) -> None:
    packed = [in_a_process(_memory_of_packing, tmp_path, n) for n in (20_000, 200_000)]
    size = sum(file.stat().st_size for file in (tmp_path / "200000").iterdir())
    assert size > 55 * MB
    assert packed[1] - packed[0] < 8 * MB, packed
    mapped = [in_a_process(_memory_of_mapping, tmp_path, n) for n in (20_000, 200_000)]
    assert max(opened for opened, _, _ in mapped) < 1 * MB, mapped
    assert max(grown for _, grown, _ in mapped) < 4 * MB, mapped
