"""`events`, `items` -> `training_sequences` -> a model package. Grain: one window of one user.

Everything up to the cut-off is training data but each user's last event, which validates. A package that ranks
worse than popularity, or than the current package by the configured margin, is refused (exit code 3).
"""

import argparse
import hashlib
import shutil
import subprocess
from collections.abc import Callable
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

from pyspark.sql import functions as F

from jobs.intervals import as_of
from jobs.packages import current_package, read_manifest
from jobs.stage import Night, StageReport, job_parser, log, run_alone, timestamp
from jobs.training_windows import as_windows
from lime_model.package import save_package
from lime_model.recipe import Recipe
from lime_model.specify import spec_of, vocabulary_of
from lime_model.train import TrainedModel, fit, training_device
from schemas.errors import EmptyTableError, GateError
from schemas.events import EVENTS
from schemas.items import ITEMS
from schemas.training_sequences import TRAINING_SEQUENCES

STAGE = "train_model"
LIBRARIES = ("torch", "pyspark", "delta-spark", "pyarrow", "petastorm", "safetensors")


def run(night: Night, report: Callable[[str], None] = log.info) -> StageReport:
    """Write the windows, train, save the package; raises GateError for one that may not be served."""
    # petastorm takes seconds to import: only a night that trains pays for it
    from lime_model.data import read_windows

    lake, (length, context) = night.lake, night.config.model.window
    events = lake.read(EVENTS).where(F.col("event_ts") < timestamp(night.cutoff))
    items = lake.read(ITEMS)
    versions = dict(lake.reads)
    windows = as_windows(events, items, length, context).withColumn("run_id", F.lit(night.run_id))
    # In one order: the reader goes through files and rows as they lie, and training is seeded.
    lake.overwrite(TRAINING_SEQUENCES, windows.orderBy("user_id", "window"), night.stamp(STAGE, **versions))
    pinned = lake.read(TRAINING_SEQUENCES)
    source = read_windows(pinned.inputFiles(), length)
    if not len(source):
        raise EmptyTableError(f"events: expected some before {night.cutoff:%Y-%m-%d}, found none")
    catalogue = [row["features"] for row in as_of(items, night.cutoff).select("features").collect()]
    recipe = Recipe(
        night.config.model,
        night.config.train,
        vocabulary_of(source, night.config.model.buckets),
        spec_of(catalogue, source.event_types),
    )
    current = current_package(night)
    current_ndcg = read_manifest(current)["metrics"]["validation_ndcg10"] if current else None
    checkpoints = _checkpoints(night, versions)
    try:
        trained = fit(recipe, source, checkpoints, current_ndcg, report)
    except GateError:  # the training came to its end all the same
        shutil.rmtree(checkpoints, ignore_errors=True)
        raise
    manifest = _manifest(night, trained, versions)
    night.lake.require_only_writer()
    folder = save_package(night.packages, trained.model, recipe.vocabulary, recipe.spec, manifest)
    shutil.rmtree(checkpoints, ignore_errors=True)
    metrics = {name: float(value) for name, value in trained.metrics().items()}
    return StageReport(len(source.codes), len(source), metrics=metrics, model_digest=folder.name)


def _checkpoints(night: Night, versions: dict[str, int]) -> Path:
    """Where an interrupted training of the same data under the same configuration goes on."""
    inputs = f"{night.config.hash} {sorted(versions.items())} {night.cutoff.isoformat()}"
    return night.packages / f".checkpoint-{hashlib.sha256(inputs.encode()).hexdigest()[:16]}"


def _manifest(night: Night, trained: TrainedModel, versions: dict[str, int]) -> dict[str, object]:
    """Where the package comes from: nothing in it is part of the model digest."""
    return {
        "trained_until": night.cutoff.isoformat(),
        "created_at": datetime.now(UTC).isoformat(),
        "run_id": night.run_id,
        "config_hash": night.config.hash,
        "data_versions": versions,
        "metrics": trained.metrics(),
        "seed": night.config.train.seed,
        "device": training_device(night.config.train).type,
        "git_commit": _git_commit(),
        "libraries": {name: version(name) for name in LIBRARIES},
    }


def _git_commit() -> str:
    """The commit of the code; `unknown` where it comes from a wheel or a zip (no folder) or git is absent."""
    try:
        found = subprocess.run(
            ["git", "rev-parse", "HEAD"],
            cwd=Path(__file__).parent,
            capture_output=True,
            text=True,
            check=False,
        )
    except OSError:
        return "unknown"
    return found.stdout.strip() or "unknown"


def arg_parser() -> argparse.ArgumentParser:
    """The job's arguments."""
    return job_parser(STAGE, "Train a model package on the events up to the cut-off.")


def main(argv: list[str] | None = None) -> int:
    """`lime train-model`."""
    return run_alone(arg_parser().parse_args(argv), STAGE, run)
