"""The candidates of a night as executors see them: two plain files that Spark ships and workers map read-only.

The pinned version of `candidate_weights` is packed once, into a folder beside the tables that is named by a
digest of content and layout:

    <lake>/candidate_cache/<digest>/weights-<digest of its bytes>.lime, items-<digest of its bytes>.arrow

A night whose table version was packed before reads no row; one whose version moved sums up the content in one
scan, and packs only if that is new. The files' own names hold digests because Spark takes a name once a session,
executors fetch them straight from the lake, and each host checks them before its workers share them.
"""

from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
import pyarrow as pa
from pyspark import SparkFiles
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from jobs.host_cache import host_file
from jobs.kept_folders import KeptFolder, KeptFolders
from jobs.lake import Lake
from jobs.pack_candidates import address_of, content_of, pack_candidates, sorted_batches
from jobs.stage import Night
from lime_model.candidates import Candidates, ScoreHead
from lime_model.loaded import ModelPackage
from lime_model.packed import read_header, read_only
from schemas.candidate_weights import CANDIDATE_WEIGHTS
from schemas.errors import ConfigError, ModelArtifactError

WORKER_MEMORY = "spark.executor.pyspark.memory"
CORES = "spark.executor.cores"
# Address space of a worker before it maps anything is 3.4 GB with torch's CUDA libraries; batches come on top.
HEADROOM = 4 << 30

_SHIPPED: set[tuple[str, str]] = set()  # (application, file name): Spark takes a file of one name once
_FOLDERS: set[tuple[str, str]] = set()  # (application, folder): an executor that joins fetches all of them


@dataclass(frozen=True)
class ShippedCandidates:
    """Names to open the files by, in a task or on the driver, and how many candidates they hold."""

    weights: str
    items: str
    count: int
    digest: str  # of content and layout


def ship_candidates(night: Night, package: ModelPackage) -> ShippedCandidates:
    """Find or pack the model's candidates and give them to Spark; what the driver holds is flat in their number.

    Raises EmptyTableError where the model has no weights, ConfigError where workers may not map the files.
    """
    spark, caches = night.lake.spark, cache_folders(night.lake)
    folder = packed_folder(night, package, caches)
    weights, items = sorted(folder.files, reverse=True)
    require_address_space(spark, sum(folder.files.values()))
    application = str(spark.sparkContext.applicationId)
    for name in (weights, items):
        if (application, name) not in _SHIPPED:
            spark.sparkContext.addFile(caches.uri(folder.name, name))
            _SHIPPED.add((application, name))
    _FOLDERS.add((application, folder.name))
    caches.remove_older({name for owner, name in _FOLDERS if owner == application})
    count = read_header(Path(SparkFiles.get(weights))).dimensions.count
    return ShippedCandidates(weights, items, count, folder.name)


def cache_folders(lake: Lake) -> KeptFolders:
    """Beside the tables; below the staging folder where the tables are a catalog's."""
    return KeptFolders(lake.spark, f"{lake.root if lake.by_path else lake.staging}/candidate_cache")


def packed_folder(night: Night, package: ModelPackage, caches: KeptFolders) -> KeptFolder:
    """The folder of the pinned version's content, packed now if nobody did before."""
    weights = night.lake.read(CANDIDATE_WEIGHTS).where(F.col("model_digest") == package.digest)
    head = head_of(package)
    version = address_of(head, _table_id(night.lake), str(night.lake.reads[CANDIDATE_WEIGHTS.name]))
    there = {folder.name: folder for folder in caches.folders() if folder.marks}
    name = next((name for name, folder in there.items() if version in folder.marks), "")
    if not name:
        content = content_of(weights)
        content.check(package.digest)
        name = address_of(head, content.digest)
    if name in there:
        caches.mark(name, version)
        return there[name]
    with caches.work_folder() as work:
        batches = sorted_batches(night.lake, weights, f"{night.run_id}/candidates")
        pack_candidates(batches, content, head, package.config.links, work)
        caches.publish(work, name, version)
    return next(folder for folder in caches.folders() if folder.name == name)


def head_of(package: ModelPackage) -> ScoreHead:
    """What the package keeps once for all items."""
    g, w = package.model.constants()
    fold, relu = package.model.fold(), package.config.head == "mlp"
    return ScoreHead(fold.detach(), g.detach(), w.detach(), relu, package.digest)


def require_address_space(spark: SparkSession, mapped: int) -> None:
    """Refuse a limit on workers' memory that mapped files do not fit under: it is a limit on address space.

    Spark divides it by the cores of an executor (tried on 4.0.5).
    """
    conf = spark.sparkContext.getConf()
    value = conf.get(WORKER_MEMORY)
    if value is None:
        return
    sizes = spark._jvm.org.apache.spark.network.util.JavaUtils  # type: ignore[union-attr]
    needed = -(-(mapped + HEADROOM) // (1 << 20)) * int(conf.get(CORES, "1") or 1)
    if sizes.byteStringAsMb(value) < needed:
        raise ConfigError(
            f"{WORKER_MEMORY}={value}: expected at least {needed}m, because it limits the address space of the "
            f"workers and each of the {conf.get(CORES, '1')} on an executor maps the same {mapped} bytes of "
            f"candidates and needs {HEADROOM >> 30}g beside"
        )


def item_names(shipped: ShippedCandidates) -> pa.LargeStringArray:
    """The candidates' ids in position order, mapped: no Python object per item."""
    return mapped_items(host_file(Path(SparkFiles.get(shipped.items))))


@lru_cache(maxsize=2)
def shipped_candidates(shipped: ShippedCandidates) -> Candidates:
    """Once per Python worker: both files mapped from the host's copy; nothing is done per item."""
    return open_candidates(host_file(Path(SparkFiles.get(shipped.weights))), item_names(shipped))


def open_candidates(weights: Path, ids: pa.LargeStringArray) -> Candidates:
    """A packed file beside its mapped ids, whose buffers the tensors of ids are."""
    _, offsets, text = ids.buffers()
    item_offsets = read_only(np.frombuffer(offsets, np.int64, len(ids) + 1))
    return Candidates.load(weights, read_only(np.frombuffer(text, np.uint8)), item_offsets)


def mapped_items(file: Path) -> pa.LargeStringArray:
    """One record batch of ids, mapped. Raises ModelArtifactError where the file is not that."""
    try:  # NumPy maps shared; Arrow's own mapping is private, which counts as the worker's memory on YARN
        reader = pa.ipc.open_file(pa.py_buffer(np.memmap(file, np.uint8, "r")))
        ids = reader.get_batch(0).column("item_id") if reader.num_record_batches == 1 else None
    except (OSError, KeyError, ValueError) as error:
        raise ModelArtifactError(f"{file}: expected an Arrow file of item ids, found {error}") from error
    if ids is None or ids.type != pa.large_string():
        raise ModelArtifactError(
            f"{file}: expected one batch with large_string item_id, found {reader.num_record_batches} "
            f"of {reader.schema}"
        )
    return ids


def _table_id(lake: Lake) -> str:
    """What tells the table from one that was made again under its name, whose versions count anew."""
    detail: DataFrame = lake.spark.sql(f"DESCRIBE DETAIL {lake.name(CANDIDATE_WEIGHTS)}")
    (row,) = detail.select("id").collect()
    return str(row["id"])
