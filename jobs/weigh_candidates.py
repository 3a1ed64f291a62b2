"""`items` -> `candidate_weights`. Grain: one item under one model. Computes only new or changed items.

Every item that the catalogue ever held before the cut-off is weighed by its latest features, available or not:
what comes back is there, and a rebuild makes the same rows. `--since`, `--until` and `--items` choose whose
weights to look at in a backfill, `--model` under which package; `--all` computes them again even where they are there.
"""

import argparse
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from functools import lru_cache
from pathlib import Path

import pyarrow as pa
import torch
from pyspark.sql import DataFrame, Window
from pyspark.sql import functions as F

from jobs.arrow import float_lists
from jobs.gpu import Device, resource_profile, task_device
from jobs.numerics import numerics_id
from jobs.packages import require_package, ship_package, shipped_package
from jobs.rewrite import is_merged
from jobs.shapes import frozen_shapes
from jobs.stage import Night, StageReport, job_parser, run_alone, timestamp
from lime_model.frozen import CandidatePredictor, FrozenShapes
from lime_model.package import load_package
from schemas.candidate_weights import CANDIDATE_WEIGHTS
from schemas.errors import InputError
from schemas.items import ITEMS

STAGE = "weigh_candidates"
COMPUTED = (
    "item_id string, features string, link_weights array<float>, g array<float>, w array<float>, b float, "
    "numerics_id string"
)


def run(
    night: Night, chosen: Callable[[DataFrame], DataFrame] | None = None, again: bool = False
) -> StageReport:
    """Weigh the catalogue's items (those that `chosen` keeps) where missing or changed; all of them if `again`."""
    lake, folder = night.lake, require_package(night)
    package = load_package(folder)
    model = package.digest
    catalogue = latest_features(lake.read(ITEMS), night.cutoff)
    items = chosen(catalogue) if chosen else catalogue
    weights = lake.read_or_empty(CANDIDATE_WEIGHTS).where(F.col("model_digest") == model)
    shipped = ship_package(lake.spark, folder)
    there = weights.select("item_id", "features")
    stale = items if again else items.join(there, on=["item_id", "features"], how="left_anti")
    fresh = lake.stage(weigh(night, stale, shipped), f"{night.run_id}/weights")
    made, kept = numerics_id(fresh, STAGE), numerics_id(weights, "candidate_weights")
    if made and kept and made != kept:  # other bits: nothing of the old ones may stay beside the new
        items = catalogue
        fresh = lake.stage(weigh(night, items, shipped), f"{night.run_id}/weights-all")
    written = fresh.count()
    rows = CANDIDATE_WEIGHTS.check(fresh.withColumns({"model_digest": F.lit(model), "run_id": F.lit(night.run_id)}))
    stamp = night.stamp(STAGE, model_digest=model)
    if written and is_merged(written, weights.count()):
        lake.upsert(CANDIDATE_WEIGHTS, rows, stamp)
    elif written:
        others = weights.join(fresh.select("item_id"), on=["item_id"], how="left_anti")
        lake.overwrite(CANDIDATE_WEIGHTS, others.unionByName(rows), stamp, f"model_digest = '{model}'")
    counted = items.select("item_id").mapInArrow(_count_items(shipped), "items long, strange long")
    ((count, strange),) = counted.agg(F.coalesce(F.sum("items"), F.lit(0)), F.sum("strange")).collect()
    metrics = {"items_without_training_events": float(strange or 0)}
    return StageReport(count, written, {"unchanged": count - written}, metrics, model_digest=model)


def latest_features(items: DataFrame, moment: datetime) -> DataFrame:
    """(item_id, features, valid_from): each item's newest interval that opened before `moment`."""
    newest = Window.partitionBy("item_id").orderBy(F.col("valid_from").desc())
    opened = items.where(F.col("valid_from") < timestamp(moment)).withColumn(
        "place", F.row_number().over(newest)
    )
    return opened.where(F.col("place") == 1).select("item_id", "features", "valid_from")


def weigh(night: Night, items: DataFrame, shipped: str) -> DataFrame:
    """(item_id, features) -> COMPUTED."""
    config = night.config.embed
    device = Device.of(night.lake.spark, config.device)
    shapes = frozen_shapes(config)
    profile = resource_profile(night.lake.spark, config.device, config.gpu_amount)
    parts = items.select("item_id", "features").repartition(config.partitions)
    return parts.mapInArrow(_weigh_batches(shipped, shapes, device), COMPUTED, profile=profile)


def _weigh_batches(
    shipped: str, shapes: FrozenShapes, device: Device
) -> Callable[[Iterable[pa.RecordBatch]], Iterator[pa.RecordBatch]]:
    """The function that runs in tasks; it captures names and shapes, never a model."""

    def weigh_batches(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        predictor = load_predictor(shipped, shapes, task_device(device))
        for batch in batches:
            item_ids, features = batch.column("item_id"), batch.column("features")
            weights = predictor.predict(item_ids.to_pylist(), features.to_pylist())
            nothing = pa.nulls(len(batch), pa.list_(pa.float32()))
            columns = {
                "item_id": item_ids,
                "features": features,
                "link_weights": float_lists(weights.A.flatten(1)),
                "g": nothing if weights.G is None else float_lists(weights.G),
                "w": nothing if weights.w is None else float_lists(weights.w),
                "b": pa.array(weights.b.numpy(), pa.float32()),
                "numerics_id": pa.array([predictor.numerics_id] * len(batch), pa.string()),
            }
            yield pa.RecordBatch.from_pydict(columns)

    return weigh_batches


def _count_items(shipped: str) -> Callable[[Iterable[pa.RecordBatch]], Iterator[pa.RecordBatch]]:
    """The function that counts, in tasks, items and those that the model's training never saw."""

    def count_items(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        known = shipped_package(shipped).vocabulary
        for batch in batches:
            strange = sum(item not in known for item in batch.column("item_id").to_pylist())
            yield pa.RecordBatch.from_pydict({"items": [len(batch)], "strange": [strange]})

    return count_items


@lru_cache(maxsize=2)
def load_predictor(shipped: str, shapes: FrozenShapes, device: str) -> CandidatePredictor:
    """Once per Python worker, keyed by the package's digest (in its name), shapes and device."""
    return CandidatePredictor(shipped_package(shipped), shapes, torch.device(device))


def chosen_items(
    items_file: str | None, since: date | None, until: date | None
) -> Callable[[DataFrame], DataFrame]:
    """The filter that a backfill's arguments ask for: listed items, intervals opened in [since, until]."""

    def filter_chosen(catalogue: DataFrame) -> DataFrame:
        chosen = catalogue
        if items_file:
            chosen = chosen.where(F.col("item_id").isin(_item_list(items_file)))
        if since:
            chosen = chosen.where(F.col("valid_from") >= timestamp(_midnight(since)))
        if until:
            chosen = chosen.where(F.col("valid_from") < timestamp(_midnight(until + timedelta(days=1))))
        return chosen

    return filter_chosen


def _midnight(day: date) -> datetime:
    return datetime.combine(day, datetime.min.time(), UTC)


def _item_list(items_file: str) -> list[str]:
    """One item id a line."""
    path = Path(items_file)
    if not path.is_file():
        raise InputError(f"--items {items_file}: expected a file with one item id a line, found none")
    return [line for line in path.read_text("utf-8").splitlines() if line]


def arg_parser() -> argparse.ArgumentParser:
    """The job's arguments."""
    parser = job_parser(
        STAGE, "Compute candidate weights of items that are new or changed.", "--since 2026-11-01"
    )
    parser.add_argument("--items", metavar="FILE", help="only these items, one id a line")
    parser.add_argument(
        "--since", type=date.fromisoformat, metavar="YYYY-MM-DD", help="only intervals opened from then"
    )
    parser.add_argument(
        "--until", type=date.fromisoformat, metavar="YYYY-MM-DD", help="only intervals opened till then"
    )
    parser.add_argument("--model", default="", metavar="DIGEST", help="under this package instead of the night's own")
    parser.add_argument("--all", action="store_true", help="also where the weights are there already")
    return parser


def main(argv: list[str] | None = None) -> int:
    """`lime weigh-candidates`."""
    args = arg_parser().parse_args(argv)
    chosen = chosen_items(args.items, args.since, args.until)
    return run_alone(args, STAGE, lambda night: run(replace(night, model=args.model), chosen, args.all))
