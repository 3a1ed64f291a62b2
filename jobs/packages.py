"""Model packages as jobs see them: which one a night uses, and how it reaches executors.

A package travels as one zip file named by its digest, through Spark, and is checked by digest where it
arrives; no executor ever opens a path of the driver's host.
"""

import json
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from functools import lru_cache
from pathlib import Path
from tempfile import mkdtemp
from typing import Any

from pyspark import SparkFiles
from pyspark.sql import SparkSession

from jobs.stage import Night
from lime_model.loaded import ModelPackage
from lime_model.package import load_package, zip_package
from schemas.errors import ConfigError, EmptyTableError, InputError, ModelArtifactError

SHIPPED = ".lime.zip"  # what follows the digest in a shipped package's name


def read_manifest(folder: Path) -> dict[str, Any]:
    """A package's training manifest, unchecked: enough to choose by, checked when the package is loaded."""
    try:
        manifest: dict[str, Any] = json.loads((folder / "manifest.json").read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise ModelArtifactError(
            f"{folder}/manifest.json: expected a training manifest, found {error}"
        ) from error
    return manifest


def package_folders(root: Path) -> list[Path]:
    """Every package of a folder; hidden folders are work in progress."""
    inside: Iterable[Path] = root.iterdir() if root.is_dir() else ()
    return sorted(p for p in inside if p.is_dir() and not p.name.startswith("."))


def current_package(night: Night) -> Path | None:
    """The newest package that saw nothing after the night's cut-off; None where there is none.

    Newest is by the cut-off it was trained to, then by when it was made: a package trained on later events
    than the night may see is never chosen for it. A run that goes by one package has that one, whatever came
    since; raises ModelArtifactError where it is gone, InputError where it saw later events.
    """
    if night.model:
        folder = night.packages / night.model
        if not folder.is_dir():
            raise ModelArtifactError(
                f"packages {night.packages}: expected {night.model}, which run {night.run_id} goes by; found none"
            )
        if (trained_until := _trained_until(read_manifest(folder))) > night.cutoff:
            raise InputError(
                f"package {folder}: expected one trained on events before {night.cutoff:%Y-%m-%d}, "
                f"found events before {trained_until:%Y-%m-%d}"
            )
        return folder
    fit = []
    for folder in package_folders(night.packages):
        manifest = read_manifest(folder)
        trained_until = _trained_until(manifest)
        if trained_until <= night.cutoff:
            fit.append((trained_until, str(manifest["created_at"]), folder))
    return max(fit)[2] if fit else None


def _trained_until(manifest: Mapping[str, Any]) -> datetime:
    return datetime.fromisoformat(str(manifest["trained_until"])).astimezone(UTC)


def require_package(night: Night) -> Path:
    """The package of the night; raises EmptyTableError where none was trained early enough."""
    folder = current_package(night)
    if folder is None:
        raise EmptyTableError(
            f"packages {night.packages}: expected a model trained on events before {night.cutoff:%Y-%m-%d}, "
            "found none; run `lime train-model`"
        )
    return folder


def ship_package(spark: SparkSession, folder: Path) -> str:
    """Give the package to Spark as one file; returns the name to open it by in a task."""
    name, context = f"{folder.name}{SHIPPED}", spark.sparkContext
    if not any(added.endswith(f"/{name}") for added in context.listFiles):  # a name is taken once
        # Executors that start later fetch it from where it lies: a folder that Spark removes when the session ends.
        kept = Path(mkdtemp(prefix="lime-package-", dir=SparkFiles.getRootDirectory()))
        context.addFile(str(zip_package(folder, kept / name)))
    return name


@lru_cache(maxsize=2)
def shipped_package(name: str) -> ModelPackage:
    """Open a shipped package in a task, loaded once per Python worker.

    Raises ModelArtifactError where it is whole but not the one that its name, and so the driver, speaks of.
    """
    package = load_package(Path(SparkFiles.get(name)))
    if package.digest != name.removesuffix(SHIPPED):
        raise ModelArtifactError(f"package {name}: expected the digest in its name, found {package.digest}")
    return package


def require_history_length(night: Night, package: ModelPackage) -> None:
    """Refuse histories of another length than the model was trained on."""
    built, trained = night.config.model.max_history, package.config.max_history
    if built != trained:
        raise ConfigError(
            f"model.max_history: expected {trained} as in package {package.digest}, found {built}; "
            "set it back or run `lime train-model`"
        )
