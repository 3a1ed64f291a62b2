"""A real standalone cluster whose workers do not have the project: the README's spark-submit line."""

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from benchmarks.packaging import lime_zip
from benchmarks.standalone import StandaloneCluster, standalone_cluster

# Where tasks ran and where they got the project from; a Delta table is written and read on the way.
JOB = """
import json, sys
from jobs.session import spark_session

spark = spark_session("trial")

def where(batches):
    import jobs.gpu, os
    for batch in batches:
        row = {"python": sys.prefix, "project": jobs.gpu.__file__, "executor": os.getcwd()}
        yield type(batch).from_pylist([row])

rows = spark.range(0, 8, 1, 8).mapInArrow(where, "python string, project string, executor string")
rows.write.format("delta").save(sys.argv[1])
found = [row.asDict() for row in spark.read.format("delta").load(sys.argv[1]).collect()]
print("FOUND " + json.dumps(found))
sys.exit(int(sys.argv[2]))
"""


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[StandaloneCluster]:
    with standalone_cluster(tmp_path_factory.mktemp("cluster")) as running:
        yield running


def test_the_workers_python_does_not_have_the_project(cluster: StandaloneCluster) -> None:
    command = [cluster.python, "-c", "import torch.version, pyarrow, numpy; import jobs"]
    answer = subprocess.run(command, cwd=cluster.folder, capture_output=True, text=True, check=False)
    assert answer.stderr.strip().endswith("ModuleNotFoundError: No module named 'jobs'")


def test_both_workers_get_the_project_from_the_zip_and_the_exit_code_comes_back(
    cluster: StandaloneCluster,
) -> None:
    script = cluster.folder / "trial.py"
    script.write_text(JOB)
    command = cluster.command(script, [str(cluster.folder / "table"), "3"], py_files=[lime_zip()])
    answer = cluster.submit(command)
    assert answer.returncode == 3, answer.stderr[-3000:]
    printed = next(line for line in answer.stdout.splitlines() if line.startswith("FOUND "))
    rows = json.loads(printed.removeprefix("FOUND "))
    assert len(rows) == 8
    assert {row["python"] for row in rows} == {str(cluster.python.parents[1])}
    assert all("lime.zip" in row["project"] for row in rows)
    assert len({row["executor"] for row in rows}) == 2


def test_a_task_that_needs_the_project_fails_without_the_zip(cluster: StandaloneCluster) -> None:
    script = cluster.folder / "trial_alone.py"
    script.write_text(JOB)
    answer = cluster.submit(cluster.command(script, [str(cluster.folder / "no_table"), "0"]))
    assert answer.returncode != 0
    assert "No module named 'jobs'" in answer.stderr


def test_the_launcher_runs_the_console_command_from_the_zip(
    cluster: StandaloneCluster, tmp_path: Path
) -> None:
    launcher = Path(__file__).parents[1] / "jobs" / "submit.py"
    alone = tmp_path / "submit.py"
    alone.write_text(launcher.read_text())
    driver = f"spark.pyspark.driver.python={cluster.python}"
    answer = cluster.submit(cluster.command(alone, ["--help"], py_files=[lime_zip()], conf=[driver]))
    assert answer.returncode == 0, answer.stderr[-3000:]
    assert "usage: lime COMMAND" in answer.stdout
