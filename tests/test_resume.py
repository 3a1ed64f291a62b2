"""A night that is killed after its links were committed: what is said of it, what refuses to go on with it, the end."""

import json
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from pyspark.sql import SparkSession
from pyspark.sql import functions as F

from benchmarks.faults.processes import LIME, Process
from benchmarks.short_lived import short_lived_conf
from benchmarks.tiny import USERS, write_platform
from jobs.cli import main
from jobs.config import load_config
from jobs.lake import Lake, Stamp
from jobs.night_runs import newest_runs
from lime_model.package import save_package
from schemas.errors import EXIT_INPUT, EXIT_OK, EXIT_RETRY
from schemas.events import EVENTS
from schemas.items import ITEMS
from schemas.link_embeddings import LINK_EMBEDDINGS
from schemas.runs import RUNS
from tests.lime_model.samples import SPEC, VOCABULARY
from tests.lime_model.samples import config as model_config
from tests.lime_model.samples import lime as untrained
from tests.test_nights_elsewhere import digests

LATE = "user\titem\tkind\tat\tline\nu1\tc0i7\tlike\t1767200000\t999001\n"  # an event of 2025-12-31
STAGES = [
    "ingest_events", "build_histories", "train_model", "evaluate_lists", "embed_users", "weigh_candidates",
    "score_candidates", "publish",
]  # fmt: skip


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The platform of `first_night`, in files of this module's own."""
    return write_platform(tmp_path_factory.mktemp("killed"))


@pytest.fixture(scope="module")
def killed(config: Path) -> Path:
    """The lake of the first night, which trained a model and was killed once its links were committed."""
    root = config.parent / "lake"
    links = root / "link_embeddings" / "_delta_log" / "00000000000000000001.json"  # 0 makes the empty table
    conf = short_lived_conf(root.with_suffix(".conf"))
    words = ("nightly", "--config", str(config), "--lake", str(root), "--spark-conf", str(conf))
    night = Process((*LIME, *words), root.with_suffix(".log"))
    assert night.wait_until(links.exists), f"the night ended by itself: {night.said[-2000:]}"
    night.kill()
    return root


@pytest.fixture
def lake(killed: Path, spark: SparkSession, tmp_path: Path) -> Lake:
    """A copy of it."""
    return Lake(spark, str(shutil.copytree(killed, tmp_path / "lake")))


Lime = Callable[..., int]


@pytest.fixture
def lime(config: Path, lake: Lake) -> Lime:
    """`lime COMMAND` on the copy."""
    return lambda command, *more: main([command, "--config", str(config), "--lake", lake.root, *more])


def files_below(root: str) -> dict[str, tuple[int, int]]:
    """Every file with its size and time; the lock's aside, which says who held it last."""
    found = {str(path): path.stat() for path in sorted(Path(root).rglob("*")) if path.name != "_lock"}
    return {path: (status.st_size, status.st_mtime_ns) for path, status in found.items()}


@contextmanager
def changed(file: Path, content: bytes) -> Iterator[None]:
    """The file with other bytes; afterwards as it was."""
    before = file.read_bytes()
    file.write_bytes(content)
    try:
        yield
    finally:
        file.write_bytes(before)


def test_status_says_where_the_night_stopped(lime: Lime, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO", "lime")
    assert lime("status") == EXIT_RETRY
    served, night, resume = caplog.messages
    assert served == "served: nothing yet"
    assert night.startswith("night of 2026-01-06: interrupted (or still at work) after embed_users; run 2026-01-06-")
    assert resume.startswith("resume: goes on with run 2026-01-06-")


def test_what_is_not_as_planned_is_named_and_nothing_is_written(
    config: Path, lake: Lake, lime: Lime, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = files_below(lake.root)
    run = newest_runs(lake, 1)[0].plan
    (planned,) = [f for f in run.files.all if f.name.endswith("2026-01-03.tsv")]

    def refused(*more: str) -> str:
        assert lime("resume", *more) == EXIT_INPUT
        assert files_below(lake.root) == before
        return capsys.readouterr().err

    raw = config.parent / "events" / "2026-01-03.tsv"
    with changed(raw, raw.read_bytes()[:-40]):
        said = refused()
    assert f"{planned.name}: expected the file with digest {planned.digest}, found digest " in said
    moved = raw.rename(raw.with_suffix(".away"))
    said = refused()
    moved.rename(raw)
    assert f"{planned.name}: expected the file with digest {planned.digest}, found none" in said
    other = tmp_path / "other.toml"
    other.write_text(config.read_text().replace("k = 5", "k = 4"))
    found = load_config(str(other)).hash
    assert f"expected {run.config_hash} of run {run.run_id}, found {found}" in refused("--config", str(other))
    assert "runs: expected the plan of run nobody, found none" in refused("--run", "nobody")


def test_another_runs_commit_or_a_package_that_is_gone_or_swapped_is_named(
    lake: Lake, lime: Lime, capsys: pytest.CaptureFixture[str]
) -> None:
    run = newest_runs(lake, 1)[0].plan
    (package,) = Path(lake.root, "models").iterdir()
    shutil.rmtree(package)
    assert lime("resume") == EXIT_INPUT
    assert f"expected {package.name}, which run {run.run_id} goes by; found none" in capsys.readouterr().err
    manifest = {"trained_until": "2026-01-07T00:00:00+00:00", "created_at": "1", "run_id": run.run_id}
    other = save_package(package.parent, untrained(model_config()), VOCABULARY, SPEC, manifest).rename(package)
    assert lime("resume") == EXIT_INPUT
    assert f"package {other}: expected the digest in its name, found " in capsys.readouterr().err
    version = lake.append(ITEMS, lake.read(ITEMS).limit(0), Stamp("somebody", "ingest_events", run.logical_date))
    assert lime("resume") == EXIT_INPUT
    expected = f"table items: expected only commits of run {run.run_id} above its planned version (none), "
    assert f"{expected}found version {version} by run somebody" in capsys.readouterr().err


def test_the_resumed_night_equals_an_undisturbed_one_whatever_came_since(
    first_night: Path, spark: SparkSession, config: Path, lake: Lake, lime: Lime, caplog: pytest.LogCaptureFixture
) -> None:
    run = newest_runs(lake, 1)[0].plan
    (config.parent / "events" / "2025-12-31.tsv").write_text(LATE)
    newer = Path(lake.root, "models", "0" * 64)
    newer.mkdir()
    manifest = {"trained_until": "2026-01-07T00:00:00+00:00", "created_at": "9999", "run_id": "somebody"}
    (newer / "manifest.json").write_text(json.dumps(manifest))
    caplog.set_level("INFO", "lime")
    assert lime("resume") == EXIT_OK
    undisturbed = Lake(spark, load_config(str(first_night)).lake.root)
    assert digests(lake) == digests(undisturbed)
    skipped = [line for line in caplog.messages if "skipped, done before" in line]
    assert [line.split(":")[0] for line in skipped] == [stage for stage in STAGES[:5] if stage != "evaluate_lists"]
    assert skipped[-1] == "embed_users: skipped, done before: link_embeddings version 1"
    assert caplog.messages[-1].startswith("published 2026-01-06; report: ")

    rows = {row["stage"]: row for row in lake.read(RUNS).where(F.col("run_id") == run.run_id).collect()}
    theirs = {row["stage"]: row for row in undisturbed.read(RUNS).collect()}
    assert set(rows) == {"plan", *STAGES}
    for stage in STAGES:
        assert rows[stage]["rows_out"] == theirs[stage]["rows_out"], stage
    assert rows["embed_users"]["rows_out"] == USERS
    for column in ("metrics", "model_digest"):
        assert rows["train_model"][column] == theirs["train_model"][column]
    assert rows["publish"]["model_digest"] == theirs["publish"]["model_digest"]
    assert lake.last_commit(LINK_EMBEDDINGS).version == 1  # type: ignore[union-attr]

    caplog.clear()
    assert lime("resume", "--nothing-to-do-code", "7") == 7
    assert caplog.messages[-1] == "nothing to do: no night was interrupted"
    assert lime("resume", "--run", run.run_id) == EXIT_OK
    assert caplog.messages[-1] == f"nothing to do: run {run.run_id} is finished"
    assert lime("status") == EXIT_OK
    shutil.rmtree(newer)
    assert lime("ingest-events", "--date", "2026-01-07") == EXIT_OK
    late = lake.read(EVENTS).where(F.col("source_file").endswith("2025-12-31.tsv"))
    assert late.count() == 1, "the next night does not read what came late"
