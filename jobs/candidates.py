"""The candidates of a night as executors see them: two plain files that Spark ships and workers map read-only."""

from dataclasses import dataclass
from functools import lru_cache
from hashlib import sha256
from pathlib import Path
from tempfile import mkdtemp

import numpy as np
import pyarrow as pa
import torch
from pyspark import SparkFiles
from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from jobs.arrow import float_matrix
from jobs.stage import Night
from lime_model.batches import CandidateWeights
from lime_model.candidates import Candidates, ScoreHead, candidates_of
from lime_model.loaded import ModelPackage
from schemas.candidate_weights import CANDIDATE_WEIGHTS
from schemas.errors import EmptyTableError


@dataclass(frozen=True)
class ShippedCandidates:
    """Names to open the files by in a task, and what they hold."""

    weights: str
    eligible: str
    digest: str  # over the eligible items: which filter the lists were made under
    eligible_items: int


def ship_candidates(night: Night, package: ModelPackage, available: DataFrame) -> ShippedCandidates:
    """Pack the model's weights and the mask of available items, and give both to Spark.

    `available` is unique by item_id. The driver holds the catalogue once, as Arrow; no row becomes an object.
    Raises EmptyTableError where no available item has weights.
    """
    weights = night.lake.read(CANDIDATE_WEIGHTS).where(F.col("model_digest") == package.digest)
    flagged = weights.join(
        available.select("item_id", F.lit(True).alias("eligible")), on=["item_id"], how="left"
    )
    rows = flagged.withColumn("eligible", F.coalesce("eligible", F.lit(False))).orderBy("item_id").toArrow()
    mask = rows.column("eligible").to_numpy()
    if not mask.any():
        raise EmptyTableError("candidate_weights: expected available items with weights, found none")
    folder = Path(mkdtemp(prefix="lime-candidates-"))
    digest = sha256(mask.tobytes() + "\0".join(rows.column("item_id").to_pylist()).encode()).hexdigest()[:16]
    version = night.lake.reads[CANDIDATE_WEIGHTS.name]
    weights_file = folder / f"candidates-{package.digest[:16]}-{version}-{night.run_id}.safetensors"
    as_candidates(rows, package).save(weights_file)
    mask_file = folder / f"eligible-{digest}-{night.run_id}.mask"
    mask_file.write_bytes(mask.tobytes())
    for file in (weights_file, mask_file):
        night.lake.spark.sparkContext.addFile(str(file))
    return ShippedCandidates(weights_file.name, mask_file.name, digest, int(mask.sum()))


def as_candidates(rows: pa.Table, package: ModelPackage) -> Candidates:
    """Rows of `candidate_weights` and the package's constants -> the model's candidates."""
    config = package.config
    link_weights = _matrix(rows, "link_weights", config.heads * config.links)
    b = torch.from_numpy(rows.column("b").to_numpy().copy())
    weights = CandidateWeights(
        link_weights.reshape(len(b), config.heads, config.links), _optional(rows, "g", config.score_width),
        _optional(rows, "w", config.score_width), b,
    )  # fmt: skip
    g, w = package.model.constants()
    head = ScoreHead(
        package.model.fold().detach(), g.detach(), w.detach(), config.head == "mlp", package.digest
    )
    return candidates_of(rows.column("item_id").to_pylist(), weights, head)


def _optional(rows: pa.Table, name: str, width: int) -> torch.Tensor | None:
    """[C, width], or None where the package keeps one row for all items."""
    return None if rows.column(name).null_count else _matrix(rows, name, width)


def _matrix(rows: pa.Table, name: str, width: int) -> torch.Tensor:
    """A column of float lists -> [C, width]."""
    column = rows.column(name)
    return torch.cat([float_matrix(chunk, width) for chunk in column.chunks])


def item_names(weights: str) -> pa.LargeStringArray:
    """The candidates' ids in position order, mapped: no Python object per item."""
    candidates = shipped_candidates(weights)
    buffers = [pa.py_buffer(candidates.item_offsets.numpy()), pa.py_buffer(candidates.item_bytes.numpy())]
    return pa.LargeStringArray.from_buffers(len(candidates), *buffers)


def eligible_mask(name: str) -> torch.Tensor:
    """[C] bool, mapped: copy-on-write, because torch warns of memory it may not write to."""
    return torch.from_numpy(np.memmap(SparkFiles.get(name), dtype=np.bool_, mode="c"))


@lru_cache(maxsize=2)
def shipped_candidates(name: str) -> Candidates:
    """Once per Python worker; the tensors are mapped, not read."""
    return Candidates.load(Path(SparkFiles.get(name)))
