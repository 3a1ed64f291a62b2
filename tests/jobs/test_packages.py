"""Which package a night uses, where packages lie, and that a task gets the one it was told of."""

import json
from collections.abc import Mapping
from dataclasses import replace
from datetime import date
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import pytest
from pyspark import SparkFiles
from pyspark.sql import SparkSession

from jobs import packages
from jobs.config import Config, EventSource, ItemSource, LakeConfig
from jobs.lake import Lake
from jobs.packages import current_package, require_history_length, require_package, ship_package, shipped_package
from jobs.stage import Night
from lime_model.package import save_package, zip_package
from schemas.errors import ConfigError, EmptyTableError, InputError, ModelArtifactError
from tests.lime_model.samples import SPEC, VOCABULARY, lime, package
from tests.lime_model.samples import config as model_config

COLUMNS = {"user_id": "u", "item_id": "i", "event_ts": "t"}


def night(root: str, packages: str = "", day: date = date(2026, 1, 6)) -> Night:
    """A night that never meets a session."""
    lake = Lake(cast(SparkSession, None), root, "staging")
    events, items = EventSource("csv", "e.csv", COLUMNS), ItemSource("csv", "i.csv", {"item_id": "i"})
    return Night(lake, Config(LakeConfig("elsewhere", packages=packages), events, items), day, "run")


def write_manifests(root: Path, manifests: Mapping[str, tuple[str, str]]) -> None:
    for name, (until, created) in manifests.items():
        (root / name).mkdir(parents=True)
        manifest = {"trained_until": f"{until}T00:00:00+00:00", "created_at": created}
        (root / name / "manifest.json").write_text(json.dumps(manifest))


def test_the_newest_package_that_saw_nothing_after_the_cut_off_is_used(tmp_path: Path) -> None:
    manifests = {
        "old": ("2026-01-05", "9"),  # made last, but it has seen less
        "first": ("2026-01-07", "1"),  # trained to the cut-off of the 6th itself
        "second": ("2026-01-07", "2"),
        "future": ("2026-01-08", "3"),  # has seen the 7th
        ".unfinished": ("2026-01-07", "4"),
    }
    write_manifests(tmp_path / "models", manifests)
    chosen = {day: current_package(night(str(tmp_path), day=date(2026, 1, day))) for day in (3, 4, 6, 7)}
    assert {day: folder.name if folder else None for day, folder in chosen.items()} == {
        3: None, 4: "old", 6: "second", 7: "future",
    }  # fmt: skip
    with pytest.raises(EmptyTableError, match="expected a model trained on events before 2026-01-04, found none"):
        require_package(night(str(tmp_path), day=date(2026, 1, 3)))


def test_a_named_package_is_used_where_it_is_there_and_saw_nothing_later(tmp_path: Path) -> None:
    write_manifests(tmp_path / "models", {"old": ("2026-01-05", "1"), "new": ("2026-01-07", "2")})
    named = {digest: replace(night(str(tmp_path)), model=digest) for digest in ("old", "new", "none")}
    assert require_package(named["old"]).name == "old"
    with pytest.raises(ModelArtifactError, match="packages .*models: expected none, which run run goes by; found none"):
        require_package(named["none"])
    with pytest.raises(InputError, match="trained on events before 2026-01-06, found events before 2026-01-07"):
        require_package(replace(named["new"], logical_date=date(2026, 1, 5)))


def test_packages_lie_in_the_lake_that_was_named_on_the_command_line(tmp_path: Path) -> None:
    assert night(f"{tmp_path}/other").packages == tmp_path / "other" / "models"
    assert night(f"{tmp_path}/other", packages="/kept").packages == Path("/kept")
    assert night("main.reco", packages="/kept").packages == Path("/kept")


@pytest.mark.parametrize("root", ["main.reco", "hdfs://nn/lake", "s3a://bucket/lake"])
def test_a_lake_that_is_no_folder_needs_a_folder_of_packages(root: str) -> None:
    with pytest.raises(ConfigError, match=rf"lake\.packages: expected a folder .* {root}, found none"):
        _ = night(root).packages


def test_histories_of_another_length_than_the_models_are_refused() -> None:
    here = night("lake")
    require_history_length(here, package(model_config(max_history=here.config.model.max_history)))
    with pytest.raises(ConfigError, match=r"model\.max_history: expected 8 as in package .*, found 50"):
        require_history_length(here, package(model_config(max_history=8)))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    manifest = {"trained_until": "2026-01-01T00:00:00+00:00"}
    return save_package(tmp_path_factory.mktemp("models"), lime(model_config()), VOCABULARY, SPEC, manifest)


def test_a_shipped_package_must_be_the_one_that_its_name_speaks_of(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    good, swapped = f"{folder.name}.lime.zip", f"{'0' * 64}.lime.zip"
    for name in (good, swapped):
        zip_package(folder, tmp_path / name)
    monkeypatch.setattr(packages, "SparkFiles", SimpleNamespace(get=lambda name: str(tmp_path / name)))
    assert shipped_package(good).digest == folder.name
    with pytest.raises(ModelArtifactError, match=f"expected the digest in its name, found {folder.name}"):
        shipped_package(swapped)


def test_a_package_is_shipped_once_and_lies_where_spark_cleans_up(folder: Path, spark: SparkSession) -> None:
    names = {ship_package(spark, folder) for _ in range(2)}
    assert names == {f"{folder.name}.lime.zip"}
    copies = list(Path(SparkFiles.getRootDirectory()).glob(f"lime-package-*/{folder.name}.lime.zip"))
    assert len(copies) == 1
    assert Path(SparkFiles.get(names.pop())).read_bytes() == copies[0].read_bytes()
