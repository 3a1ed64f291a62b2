"""Rows of `candidate_weights` of one model -> two plain files: weights in groups of 16 lanes, ids as Arrow.

Spark sorts by item id (its order of strings is that of their UTF-8 bytes) into staged Parquet; the driver reads
that back in file order, a batch at a time, and writes. What it holds is one batch, whatever the number of items,
and no row becomes a Python object.
"""

import hashlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import torch
from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from jobs.arrow import float_matrix
from jobs.host_cache import digest_of
from jobs.kept_folders import local_files
from jobs.lake import Lake
from lime_model.batches import CandidateWeights
from lime_model.candidate_writer import CandidateWriter
from lime_model.candidates import ScoreHead
from lime_model.packed import GROUP, LAYOUT
from schemas.errors import ContractError, EmptyTableError, ModelArtifactError

COLUMNS = ("item_id", "link_weights", "g", "w", "b")
BLOCK = 512 * GROUP  # rows held at a time


@dataclass(frozen=True)
class Content:
    """The packed columns of a model's rows, summed up: rows, those with g and w of their own, a digest."""

    rows: int
    own_g: int
    own_w: int
    digest: str  # free of order, files and provenance

    def check(self, model_digest: str) -> None:
        """Raises EmptyTableError where there is no row, ContractError where only some have their own g or w."""
        if not self.rows:
            raise EmptyTableError(f"candidate_weights: expected rows of model {model_digest}, found none")
        for name, own in (("g", self.own_g), ("w", self.own_w)):
            if own not in (0, self.rows):
                raise ContractError(
                    f"candidate_weights: {name}: expected it in all {self.rows} rows of model {model_digest} or in "
                    f"none, found it in {own}"
                )


def content_of(weights: DataFrame) -> Content:
    """One scan and no shuffle of rows; collects one row.

    Two sums of 64-bit hashes, decimal because a sum of longs overflows under ANSI mode. A hash skips nulls, so
    whether g is there is hashed too.
    """
    columns = [*map(F.col, COLUMNS), F.col("g").isNull()]
    sums = [
        F.sum(F.xxhash64(*chosen).cast("decimal(38,0)")).alias(name)
        for name, chosen in (("there", columns), ("back", columns[::-1]))
    ]
    counts = [F.count("*").alias("rows"), F.count("g").alias("g"), F.count("w").alias("w")]
    (row,) = weights.agg(*counts, *sums).collect()
    return Content(row["rows"], row["g"], row["w"], f"{row['rows']}:{row['there'] or 0}:{row['back'] or 0}")


def address_of(head: ScoreHead, *rest: str) -> str:
    """Digest of the layout, the package's constants and the rest: which content, or which version of a table."""
    digest = hashlib.sha256("\n".join((LAYOUT, head.model_digest, *rest)).encode())
    for constant in (head.fold, head.g, head.w):
        digest.update(constant.numpy().tobytes())
    return digest.hexdigest()[:32]


def sorted_batches(lake: Lake, weights: DataFrame, name: str) -> Iterator[pa.RecordBatch]:
    """The packed columns in order of item id, staged under `name` while they are read."""
    lake.stage(weights.select(*COLUMNS).orderBy("item_id"), name)
    try:
        for file in local_files(lake.spark, f"{lake.staging}/{name}", "part-*.parquet"):
            with pq.ParquetFile(file) as rows:
                yield from rows.iter_batches(BLOCK, columns=list(COLUMNS))
    finally:
        lake.clear_staging(name)


def pack_candidates(
    batches: Iterable[pa.RecordBatch], content: Content, head: ScoreHead, links: int, folder: Path
) -> None:
    """Sorted rows -> `weights-DIGEST.lime` and `items-DIGEST.arrow` in the folder, named by their bytes.

    Raises ModelArtifactError for an item id that is there twice, ContractError for a row of another width and
    BadNumberError for a number that is not finite; each names the item.
    """
    weights_file, items_file = folder / "weights.lime", folder / "items.arrow"
    header = head.header(content.rows, links, content.own_g > 0, content.own_w > 0)
    with CandidateWriter(weights_file, header, head) as writer, _ItemWriter(items_file) as items:
        for rows in in_blocks(batches, BLOCK):
            ids = rows.column("item_id")
            items.append(ids)
            writer.append(_weights(rows, head, links), lambda row, ids=ids: ids[row].as_py())  # type: ignore[misc]
        writer.finish()
        items.finish()
    for file in (weights_file, items_file):
        file.rename(file.with_stem(f"{file.stem}-{digest_of(file)}"))


def in_blocks(batches: Iterable[pa.RecordBatch], size: int) -> Iterator[pa.RecordBatch]:
    """The same rows in batches of `size`, the last one of what is left."""
    held: list[pa.RecordBatch] = []
    for batch in batches:
        held.append(batch)
        while sum(map(len, held)) >= size:
            rows = pa.Table.from_batches(held)
            yield _one_batch(rows.slice(0, size))
            held = rows.slice(size).to_batches()
    if sum(map(len, held)):
        yield _one_batch(pa.Table.from_batches(held))


class _ItemWriter:
    """Ids into one record batch of large_string: offsets and bytes go to plain files, which are then mapped."""

    def __init__(self, path: Path) -> None:
        self._path, self._last, self._bytes, self._count = path, pa.scalar(None, pa.large_string()), 0, 0

    def __enter__(self) -> "_ItemWriter":
        self._folder = TemporaryDirectory(dir=self._path.parent, prefix="items-")
        self._offsets = (Path(self._folder.name) / "offsets").open("wb+")
        self._text = (Path(self._folder.name) / "text").open("wb+")
        self._offsets.write(bytes(8))
        return self

    def __exit__(self, *raised: object) -> None:
        self._offsets.close()
        self._text.close()
        self._folder.cleanup()

    def append(self, ids: pa.StringArray) -> None:
        """The next ids; raises ModelArtifactError where they don't rise by their UTF-8 bytes."""
        large = pa.concat_arrays([pa.array([self._last.as_py()], pa.large_string()), ids.cast(pa.large_string())])
        rises = pc.less(large[:-1], large[1:])  # null before the very first
        if pc.any(pc.invert(rises)).as_py():
            place = pc.index(rises, False).as_py()
            before, item = large[place].as_py(), large[place + 1].as_py()
            raise ModelArtifactError(
                f"candidate_weights: item {item!r}: expected once and in order of ids, found after {before!r}"
            )
        offsets = np.frombuffer(large.buffers()[1], np.int64)[large.offset :][: len(large) + 1]
        self._text.write(memoryview(large.buffers()[2])[offsets[1] : offsets[-1]])
        self._offsets.write((offsets[2:] - offsets[1] + self._bytes).tobytes())
        self._bytes += int(offsets[-1] - offsets[1])
        self._count += len(ids)
        self._last = large[-1]

    def finish(self) -> None:
        """Both parts as one Arrow file; they are mapped, so their size is not the driver's memory."""
        parts = []
        for part in (self._offsets, self._text):
            part.flush()
            parts.append(pa.memory_map(part.name).read_buffer() if part.tell() else pa.py_buffer(b""))
        ids = pa.LargeStringArray.from_buffers(self._count, *parts)
        schema = pa.schema([pa.field("item_id", pa.large_string(), nullable=False)])
        with pa.OSFile(str(self._path), "wb") as sink, pa.ipc.new_file(sink, schema) as file:
            file.write_batch(pa.RecordBatch.from_arrays([ids], schema=schema))


def _weights(rows: pa.RecordBatch, head: ScoreHead, links: int) -> CandidateWeights:
    """A block of rows as the model holds them."""
    heads, _, hidden = head.fold.shape
    attention = _matrix(rows, "link_weights", heads * links)
    g, w = (None if rows.column(name).null_count else _matrix(rows, name, hidden) for name in ("g", "w"))
    b = torch.from_numpy(rows.column("b").to_numpy(zero_copy_only=False).copy())
    return CandidateWeights(attention.reshape(len(b), heads, links), g, w, b)


def _matrix(rows: pa.RecordBatch, name: str, width: int) -> torch.Tensor:
    """A column of float lists -> [n, width]."""
    column = rows.column(name)
    odd = pc.not_equal(pc.list_value_length(column), width)
    if pc.any(odd).as_py():
        row = pc.index(odd, True).as_py()
        raise ContractError(
            f"candidate_weights: {name} of item {rows.column('item_id')[row].as_py()!r}: expected {width} numbers, "
            f"found {len(column[row])}"
        )
    return float_matrix(column, width)


def _one_batch(rows: pa.Table) -> pa.RecordBatch:
    (batch,) = rows.combine_chunks().to_batches()
    return batch
