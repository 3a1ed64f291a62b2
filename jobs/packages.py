"""Model packages as jobs see them: which one a night uses, and how it reaches executors.

A package travels as one zip file named by its digest, through Spark, and is checked by digest where it
arrives; no executor ever opens a path of the driver's host.
"""

import json
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
from schemas.errors import ConfigError, EmptyTableError, ModelArtifactError

_SHIPPED: set[str] = set()  # Spark takes a file of one name once; the name holds the digest


def read_manifest(folder: Path) -> dict[str, Any]:
    """A package's training manifest, unchecked: enough to choose by, checked when the package is loaded."""
    try:
        manifest: dict[str, Any] = json.loads((folder / "manifest.json").read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise ModelArtifactError(
            f"{folder}/manifest.json: expected a training manifest, found {error}"
        ) from error
    return manifest


def package_folders(packages: str) -> list[Path]:
    """Every package of a folder; hidden folders are work in progress."""
    root = Path(packages)
    return (
        sorted(p for p in root.iterdir() if p.is_dir() and not p.name.startswith("."))
        if root.is_dir()
        else []
    )


def current_package(night: Night) -> Path | None:
    """The newest package that saw nothing after the night's cut-off; None where there is none.

    Newest is by the cut-off it was trained to, then by when it was made: a package trained on later events
    than the night may see is never chosen for it.
    """
    fit = []
    for folder in package_folders(night.config.packages):
        manifest = read_manifest(folder)
        trained_until = datetime.fromisoformat(str(manifest["trained_until"])).astimezone(UTC)
        if trained_until <= night.cutoff:
            fit.append((trained_until, str(manifest["created_at"]), folder))
    return max(fit)[2] if fit else None


def require_package(night: Night) -> Path:
    """The package of the night; raises EmptyTableError where none was trained early enough."""
    folder = current_package(night)
    if folder is None:
        raise EmptyTableError(
            f"packages {night.config.packages}: expected a model trained on events before {night.cutoff:%Y-%m-%d}, "
            "found none; run `lime train-model`"
        )
    return folder


def ship_package(spark: SparkSession, folder: Path) -> str:
    """Give the package to Spark as one file; returns the name to open it by in a task."""
    name = f"{folder.name}.lime.zip"
    if name not in _SHIPPED:
        spark.sparkContext.addFile(str(zip_package(folder, Path(mkdtemp(prefix="lime-package-")) / name)))
        _SHIPPED.add(name)
    return name


@lru_cache(maxsize=2)
def shipped_package(name: str) -> ModelPackage:
    """Open a shipped package in a task: digest checked, loaded once per Python worker."""
    return load_package(Path(SparkFiles.get(name)))


def require_history_length(night: Night, package: ModelPackage) -> None:
    """Refuse histories of another length than the model was trained on."""
    built, trained = night.config.model.max_history, package.config.max_history
    if built != trained:
        raise ConfigError(
            f"model.max_history: expected {trained} as in package {package.digest}, found {built}; "
            "set it back or run `lime train-model`"
        )
