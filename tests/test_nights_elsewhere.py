"""The same first night in other circumstances: killed before it was recorded, and on a catalog, not in a folder."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from pyspark.sql import SparkSession

from jobs.cli import main
from jobs.config import load_config
from jobs.lake import Lake
from schemas.candidate_weights import CANDIDATE_WEIGHTS
from schemas.digest import table_digest
from schemas.errors import EXIT_OK
from schemas.events import EVENTS
from schemas.items import ITEMS
from schemas.link_embeddings import LINK_EMBEDDINGS
from schemas.runs import RUNS
from schemas.serving_recommendations import SERVING_RECOMMENDATIONS
from schemas.user_history import USER_HISTORY
from schemas.user_seen import USER_SEEN
from schemas.users import USERS

CONTENT = (
    EVENTS, ITEMS, USERS, USER_HISTORY, USER_SEEN, LINK_EMBEDDINGS, CANDIDATE_WEIGHTS, SERVING_RECOMMENDATIONS
)  # fmt: skip


def digests(lake: Lake) -> dict[str, str]:
    return {table.name: table_digest(lake.read(table), table) for table in CONTENT}


@pytest.fixture(scope="module")
def undisturbed(first_night: Path, spark: SparkSession) -> Lake:
    """A lake where the night just ran."""
    return Lake(spark, load_config(str(first_night)).lake.root)


def test_a_night_that_was_killed_after_its_publication_is_recorded_by_the_next(
    first_night: Path, undisturbed: Lake, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    config = tmp_path / "ended.toml"  # nothing more to do once the first night is recorded
    config.write_text(first_night.read_text().replace("last_date = 2026-01-10", "last_date = 2026-01-06"))
    lake = Lake(undisturbed.spark, str(shutil.copytree(undisturbed.root, tmp_path / "lake")))
    report = Path(lake.root) / "reports" / "2026-01-06.html"
    served = lake.read(SERVING_RECOMMENDATIONS).select("run_id").distinct().collect()[0]["run_id"]
    before = {row["stage"]: row for row in lake.read(RUNS).where(f"run_id = '{served}'").collect()}
    lake.spark.sql(f"DELETE FROM {lake.name(RUNS)} WHERE run_id = '{served}' AND stage != 'plan'")
    report.unlink()
    caplog.set_level("INFO", "lime")
    assert main(["nightly", "--config", str(config), "--lake", lake.root]) == EXIT_OK
    assert f"published by run {served}, which did not record it" in caplog.text
    assert caplog.messages[-1].endswith("2026-01-06 is the data's last day and it is served")
    after = {row["stage"]: row for row in lake.read(RUNS).where(f"run_id = '{served}'").collect()}
    assert set(after) == {"plan", "evaluate_lists", "publish"}
    for column in ("logical_date", "rows_in", "rows_out", "metrics", "outputs", "model_digest"):
        assert after["publish"][column] == before["publish"][column], column
    assert after["evaluate_lists"]["metrics"] == before["evaluate_lists"]["metrics"]
    assert report.is_file()
    caplog.clear()
    assert main(["nightly", "--config", str(config), "--lake", lake.root]) == EXIT_OK
    assert "did not record it" not in caplog.text


@pytest.fixture
def catalog(spark: SparkSession, tmp_path: Path) -> Iterator[str]:
    spark.sql(f"CREATE SCHEMA lime_night LOCATION '{tmp_path}/schema'")
    yield "spark_catalog.lime_night"
    spark.sql("DROP SCHEMA lime_night CASCADE")


def test_a_night_on_a_catalog_equals_one_in_a_folder(
    first_night: Path, undisturbed: Lake, catalog: str, tmp_path: Path
) -> None:
    config, report = tmp_path / "catalog.toml", tmp_path / "night.html"
    there = f'root = "{catalog}"\nstaging = "{tmp_path}/staging"\npackages = "{undisturbed.root}/models"'
    config.write_text(first_night.read_text().replace(f'root = "{undisturbed.root}"', there))
    assert main(["nightly", "--config", str(config), "--report", str(report)]) == EXIT_OK
    assert digests(Lake(undisturbed.spark, catalog, f"{tmp_path}/staging")) == digests(undisturbed)
    assert report.is_file()
    # the packed candidates stay for the next night; staged files do not
    assert [path.name for path in (tmp_path / "staging").iterdir()] == ["candidate_cache"]
