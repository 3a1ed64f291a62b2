"""A whole night on two real workers that do not have the project, by the README's spark-submit line."""

from pathlib import Path

from pyspark.sql import SparkSession

from jobs.cli import main
from jobs.config import load_config
from jobs.lake import Lake
from schemas.digest import table_digest
from schemas.errors import EXIT_OK
from schemas.serving_recommendations import SERVING_RECOMMENDATIONS
from tests.packaging import lime_zip
from tests.standalone import ROOT, standalone_cluster
from tests.tiny import write_platform


def test_a_night_on_a_cluster_serves_the_lists_of_local(spark: SparkSession, tmp_path: Path) -> None:
    config = write_platform(tmp_path / "platform")
    assert main(["nightly", "--config", str(config)]) == EXIT_OK
    here = Lake(spark, load_config(str(config)).lake.root)
    # the same model package, another lake
    settings = f'[lake]\nroot = "{here.root}"'
    elsewhere = tmp_path / "cluster.toml"
    elsewhere.write_text(
        config.read_text().replace(settings, f'[lake]\nroot = "{tmp_path}/there"\npackages = "{here.root}/models"')
    )
    (tmp_path / "cluster").mkdir()
    with standalone_cluster(tmp_path / "cluster") as cluster:
        arguments = ["nightly", "--config", str(elsewhere)]
        answer = cluster.submit(ROOT / "jobs" / "submit.py", arguments, py_files=[lime_zip()])
        again = cluster.submit(ROOT / "jobs" / "submit.py", [*arguments, "--date", "2026-01-02"], py_files=[lime_zip()])
    assert answer.returncode == EXIT_OK, answer.stdout[-3000:] + answer.stderr[-3000:]
    there = Lake(spark, f"{tmp_path}/there")
    found = there.read(SERVING_RECOMMENDATIONS)
    assert table_digest(found, SERVING_RECOMMENDATIONS) == table_digest(
        here.read(SERVING_RECOMMENDATIONS), SERVING_RECOMMENDATIONS
    )
    assert again.returncode == 5, "a night older than the served one was not refused"
    assert "backfill" in again.stdout, "spark-submit passes a driver's stderr on as stdout"
