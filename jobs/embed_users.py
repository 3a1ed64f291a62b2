"""`user_history` -> `link_embeddings`. Grain: one user under one model. Computes only what is not there yet.

The GPU-scheduled step: a vectorised UDF over Arrow batches in a fixed number of partitions, the model loaded
once per Python worker, the device taken from Spark's scheduler, shapes frozen so that a user's bits do not
depend on who shares the batch.
"""

from collections.abc import Callable, Iterable, Iterator
from functools import lru_cache

import pyarrow as pa
import torch
from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from jobs.arrow import as_histories, float_lists
from jobs.bucket_groups import FOLDER, group_count, inputs_digest, staged_groups
from jobs.gpu import Device, resource_profile, task_device
from jobs.numerics import numerics_id
from jobs.packages import require_history_length, require_package, ship_package, shipped_package
from jobs.rewrite import in_buckets, is_merged, replace_users
from jobs.shapes import frozen_shapes
from jobs.stage import Night, StageReport, job_parser, run_alone
from lime_model.frozen import FrozenShapes, LinkPredictor
from lime_model.package import load_package
from schemas.link_embeddings import LINK_EMBEDDINGS
from schemas.user_history import USER_HISTORY

STAGE = "embed_users"
READ = ("user_id", "user_bucket", "history_digest", "item_ids", "features", "event_types", "event_ts")
COMPUTED = "user_id string, user_bucket int, history_digest string, links array<float>, numerics_id string"


def run(night: Night) -> StageReport:
    """Embed every user whose (history digest, model digest) is not in the table."""
    lake, folder = night.lake, require_package(night)
    package = load_package(folder)
    require_history_length(night, package)
    model = package.digest
    history = lake.read(USER_HISTORY).select(*READ)
    links = lake.read_or_empty(LINK_EMBEDDINGS).where(F.col("model_digest") == model)
    shipped = ship_package(lake.spark, folder)
    stale = history.join(
        links.select("user_id", "history_digest"), on=["user_id", "history_digest"], how="left_anti"
    )
    staged = f"{STAGE}-{inputs_digest(night, model)}"
    fresh = _embedded(night, stale, shipped, staged)
    made, kept = numerics_id(fresh, STAGE), numerics_id(links, "link_embeddings")
    if made and kept and made != kept:  # other bits: nothing of the old ones may stay beside the new
        fresh = lake.stage(embed(night, history, shipped), f"{night.run_id}/links-all")
    written = fresh.count()
    gone = links.join(history.select("user_id"), on=["user_id"], how="left_anti").select("user_id")
    touched, users = fresh.select("user_id").union(gone), history.count()
    rows = LINK_EMBEDDINGS.check(fresh.withColumns({"model_digest": F.lit(model), "run_id": F.lit(night.run_id)}))
    stamp = night.stamp(STAGE, model_digest=model)
    if written and is_merged(written, users) and gone.isEmpty():
        lake.upsert(LINK_EMBEDDINGS, rows, stamp)
    elif not touched.isEmpty():
        where = f"model_digest = '{model}' AND {in_buckets(touched)}"
        lake.overwrite(LINK_EMBEDDINGS, replace_users(links.where(where), touched, rows), stamp, where)
    lake.clear_staging(f"{FOLDER}/{staged}")
    return StageReport(users, written, {"unchanged": users - written}, model_digest=model)


def _embedded(night: Night, histories: DataFrame, shipped: str, staged: str) -> DataFrame:
    """The links of these histories, computed once; many of them in groups of buckets that a resume finds again."""
    lake, most = night.lake, night.config.embed.users_per_group
    many = lake.read(USER_HISTORY).count() > most  # a look at the table's statistics; counting histories is a join
    groups = group_count(histories.count(), most) if many else 1
    if groups == 1:
        return lake.stage(embed(night, histories, shipped), f"{night.run_id}/links")
    return staged_groups(night, staged, groups, lambda mine: embed(night, histories.where(mine), shipped))


def embed(night: Night, histories: DataFrame, shipped: str) -> DataFrame:
    """Rows of `user_history` -> COMPUTED, in the configured number of partitions, on the configured device."""
    config = night.config.embed
    device = Device.of(night.lake.spark, config.device)
    shapes = frozen_shapes(config)
    # An explicit count: adaptive execution would collapse a small input to one Python task.
    parts = histories.repartition(config.partitions)
    profile = resource_profile(night.lake.spark, config.device, config.gpu_amount)
    return parts.mapInArrow(_embed_batches(shipped, shapes, device), COMPUTED, profile=profile)


def _embed_batches(
    shipped: str, shapes: FrozenShapes, device: Device
) -> Callable[[Iterable[pa.RecordBatch]], Iterator[pa.RecordBatch]]:
    """The function that runs in tasks; it captures names and shapes, never a model."""

    def embed_batches(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        predictor = load_predictor(shipped, shapes, task_device(device))
        for batch in batches:
            links = predictor.predict(as_histories(batch))  # [B, L * d]
            ids = pa.array([predictor.numerics_id] * len(batch), pa.string())
            kept = [batch.column(name) for name in ("user_id", "user_bucket", "history_digest")]
            names = ["user_id", "user_bucket", "history_digest", "links", "numerics_id"]
            yield pa.RecordBatch.from_arrays([*kept, float_lists(links), ids], names)

    return embed_batches


@lru_cache(maxsize=2)
def load_predictor(shipped: str, shapes: FrozenShapes, device: str) -> LinkPredictor:
    """Once per Python worker, keyed by the package's digest (in its name), shapes and device."""
    return LinkPredictor(shipped_package(shipped), shapes, torch.device(device))


def main(argv: list[str] | None = None) -> int:
    """`lime embed-users`."""
    args = job_parser(STAGE, "Compute personalised links of users whose history changed.").parse_args(argv)
    return run_alone(args, STAGE, run)
