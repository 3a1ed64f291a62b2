"""A whole night on two real workers that do not have the project, by the README's own command."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

from pyspark.sql import SparkSession

from benchmarks.packaging import lime_zip
from benchmarks.standalone import ROOT, SUBMIT_SECONDS, StandaloneCluster, readme_command, standalone_cluster
from jobs.config import load_config
from jobs.lake import Lake
from schemas.digest import table_digest
from schemas.errors import EXIT_OK
from schemas.serving_recommendations import SERVING_RECOMMENDATIONS


def test_a_night_on_a_cluster_trains_and_serves_the_lists_of_local(
    spark: SparkSession, first_night: Path, tmp_path: Path
) -> None:
    here = Lake(spark, load_config(str(first_night)).lake.root)
    clone = clone_with_zip(tmp_path / "clone")
    settings = first_night.read_text().replace(f'root = "{here.root}"', f'root = "{tmp_path}/there"')
    (clone / "night.toml").write_text(settings)
    (tmp_path / "cluster").mkdir()
    with standalone_cluster(tmp_path / "cluster") as cluster:
        answer = type_in(clone, cluster)
    assert answer.returncode == EXIT_OK, answer.stdout[-3000:] + answer.stderr[-3000:]
    found = Lake(spark, f"{tmp_path}/there").read(SERVING_RECOMMENDATIONS)
    assert table_digest(found, SERVING_RECOMMENDATIONS) == table_digest(
        here.read(SERVING_RECOMMENDATIONS), SERVING_RECOMMENDATIONS
    )


def clone_with_zip(folder: Path) -> Path:
    """As much of a clone as the README's command names; the packages are in the zip alone."""
    (folder / "jobs").mkdir(parents=True)
    shutil.copy(ROOT / "jobs" / "submit.py", folder / "jobs")
    shutil.copytree(ROOT / "spark-conf", folder / "spark-conf")
    shutil.copy(lime_zip(), folder)
    (folder / ".venv").symlink_to(sys.prefix)
    return folder


def type_in(clone: Path, cluster: StandaloneCluster) -> "subprocess.CompletedProcess[str]":
    """The README's command in that clone, with this cluster's address and interpreter for those it names."""
    command = readme_command()
    for named, real in (("spark://HOST:7077", cluster.master), ("/opt/lime/bin/python", str(cluster.python))):
        assert named in command
        command = command.replace(named, real)
    hidden = ("PYTHONPATH", "SPARK_HOME", "SPARK_CONF_DIR", "PYSPARK_PYTHON", "PYSPARK_DRIVER_PYTHON")
    kept = {name: value for name, value in os.environ.items() if name not in hidden}
    return subprocess.run(
        ["bash", "-c", command],
        env={**kept, "SPARK_LOCAL_IP": "127.0.0.1"},
        cwd=clone,
        capture_output=True,
        text=True,
        timeout=SUBMIT_SECONDS,
        check=False,
    )
