"""A past night again, in a root of its own beside a lake that has moved on since."""

import shutil
from datetime import UTC, date, datetime
from pathlib import Path

import pytest
from pyspark.sql import SparkSession

from jobs.backfill import publication_of
from jobs.cli import main
from jobs.config import load_config
from jobs.lake import Lake, Stamp
from jobs.packages import package_folders, read_manifest
from schemas.all_tables import TABLES
from schemas.candidate_weights import CANDIDATE_WEIGHTS
from schemas.digest import table_digest
from schemas.errors import EXIT_INPUT, EXIT_OK
from schemas.events import EVENTS
from schemas.items import ITEMS
from schemas.link_embeddings import LINK_EMBEDDINGS
from schemas.recommendations import RECOMMENDATIONS
from schemas.runs import RUNS
from schemas.serving_recommendations import SERVING_RECOMMENDATIONS
from schemas.user_history import USER_HISTORY
from schemas.user_seen import USER_SEEN

NIGHT = date(2026, 1, 6)
DERIVED = (USER_HISTORY, USER_SEEN, LINK_EMBEDDINGS, CANDIDATE_WEIGHTS, SERVING_RECOMMENDATIONS)


@pytest.fixture(scope="module")
def config(first_night: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the lake whose night is served; an event of that time has arrived since."""
    folder = tmp_path_factory.mktemp("moved_on")
    shutil.copytree(first_night.parent / "lake", folder / "lake")
    file = folder / "night.toml"
    file.write_text(first_night.read_text().replace(f'root = "{first_night.parent}', f'root = "{folder}'))
    return file


@pytest.fixture(scope="module")
def lake(spark: SparkSession, config: Path) -> Lake:
    found = Lake(spark, load_config(str(config)).lake.root)
    late = ("late", "u1", "c0i7", "liked", datetime(2026, 1, 3, tzinfo=UTC), 1, None, None, "late.tsv", "late")
    rows = spark.createDataFrame([late], EVENTS.struct)
    found.append(EVENTS, rows, Stamp("late", "ingest_events", NIGHT))
    return found


def backfill(config: Path, *words: str, night: date = NIGHT) -> int:
    return main(["backfill", "--config", str(config), "--date", str(night), *words])


def heads(lake: Lake) -> dict[str, int | None]:
    commits = {name: lake.last_commit(table) for name, table in TABLES.items()}
    return {name: commit.version if commit else None for name, commit in commits.items()}


def test_a_night_rebuilt_as_it_was_known_equals_what_it_served(config: Path, lake: Lake) -> None:
    before = heads(lake)
    assert backfill(config, "--as-known") == EXIT_OK
    own = Lake(lake.spark, f"{lake.root}/asof/2026-01-06")
    assert not own.exists(SERVING_RECOMMENDATIONS), "served before anybody published it"
    assert main(["publish", "--config", str(config), "--lake", own.root, "--date", str(NIGHT)]) == EXIT_OK
    for table in DERIVED:
        assert table_digest(own.read(table), table) == table_digest(lake.read(table), table), table.name
    assert heads(lake) == before
    assert {row["stage"] for row in own.read(RUNS).select("stage").distinct().collect()} == {
        "build_histories", "embed_users", "weigh_candidates", "score_candidates", "publish"
    }  # fmt: skip


def test_a_night_before_any_package_is_refused_or_trains_its_own(
    config: Path, lake: Lake, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before, packages, day = heads(lake), package_folders(Path(lake.root, "models")), date(2026, 1, 5)
    own = Lake(lake.spark, str(tmp_path / "own"))
    assert backfill(config, "--into", own.root, night=day) == EXIT_INPUT
    assert "expected a model trained on events before 2026-01-06, found none" in capsys.readouterr().err
    assert not Path(own.root).exists()
    assert backfill(config, "--into", own.root, "--retrain", night=day) == EXIT_OK
    (trained,) = package_folders(Path(own.root, "models"))
    assert read_manifest(trained)["trained_until"] == "2026-01-06T00:00:00+00:00"
    assert own.read(EVENTS).where("event_id = 'late'").count() == 1, "not everything that is known now"
    (row,) = own.read(USER_SEEN).where("user_id = 'u1'").collect()
    assert "c0i7" in {seen["item_id"] for seen in row["seen"]}
    assert own.read(RECOMMENDATIONS).select("model_digest").distinct().collect()[0][0] == trained.name
    assert package_folders(Path(lake.root, "models")) == packages
    assert heads(lake) == before


@pytest.mark.parametrize("words", [("--as-known",), ()], ids=["other-versions", "not-ours"])
def test_a_root_that_holds_something_else_is_refused(
    words: tuple[str, ...], config: Path, lake: Lake, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    own = Lake(lake.spark, str(tmp_path / "own"))
    stamp = Stamp("run", "backfill", NIGHT, {"version": 0})
    root = own.root if words else lake.root
    if words:
        own.clone(EVENTS, lake, 0, stamp)
    before = heads(lake)
    assert backfill(config, "--into", root, *words) == EXIT_INPUT
    made = "of version 0" if words else "not made by a backfill"
    assert f"--into {root}: expected an empty root or a backfill from version" in (said := capsys.readouterr().err)
    assert f"found events {made}; remove it or name another root" in said
    assert heads(lake) == before
    assert not own.exists(ITEMS)


def test_what_the_night_knew_is_said_to_be_gone(
    config: Path, lake: Lake, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert backfill(config, "--as-known", night=date(2026, 1, 5)) == EXIT_INPUT
    assert "expected a publication of 2026-01-05" in capsys.readouterr().err
    version = int(str(publication_of(lake, NIGHT).inputs["items"]))
    for file in lake.read(ITEMS, version).inputFiles():
        Path(file.removeprefix("file:")).unlink()
    assert backfill(config, "--as-known", "--into", str(tmp_path / "own")) == EXIT_INPUT
    assert f"expected version {version}, found 1 of its 1 files gone (VACUUM)" in capsys.readouterr().err
    assert not (tmp_path / "own").exists()
