"""Devices come from Spark's scheduler: fake addresses on a real standalone cluster, and in local mode."""

import json
import subprocess
import sys
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
from pyspark.sql import SparkSession

from jobs.gpu import Device, resource_profile, task_device
from schemas.errors import ConfigError
from tests.packaging import lime_zip
from tests.standalone import standalone_cluster

ROOT = Path(__file__).parents[2]
FAKE_GPUS = '#!/bin/sh\necho \'{"name": "gpu", "addresses": ["0", "1"]}\'\n'

# A model that counts how often it is loaded; a module, because a worker keeps modules from task to task.
MODEL = """
import functools, itertools

LOADS = itertools.count(1)

@functools.cache
def load(device):
    return device, next(LOADS)
"""

# Twelve tasks of 0.4 s, first with half a GPU each, then with a whole one; what each saw goes to a file.
JOB = """
import json, sys
from pathlib import Path
from jobs.gpu import Device, resource_profile, task_device
from jobs.session import spark_session

spark = spark_session("trial")
device = Device.of(spark, "gpu")

def work(batches):
    import os, time
    import trial_model
    for batch in batches:
        start = time.time()
        name, loads = trial_model.load(task_device(device))
        time.sleep(0.4)
        yield type(batch).from_pylist([{
            "executor": os.getcwd(), "worker": os.getpid(), "device": name, "loads": loads,
            "start": start, "end": time.time()}])

kinds = "executor string, worker long, device string, loads long, start double, end double"
seen = {}
for amount in (0.5, 1.0):
    profile = resource_profile(spark, "gpu", amount)
    tasks = spark.range(0, 12, 1, 12).mapInArrow(work, kinds, profile=profile)
    seen[str(amount)] = [row.asDict() for row in tasks.collect()]
Path(sys.argv[1]).write_text(json.dumps(seen))
"""


@pytest.fixture(scope="module")
def tasks(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, list[dict[str, Any]]]]:
    """What tasks saw on one worker with two (fake) GPUs, by the share of a GPU that they asked for."""
    folder = tmp_path_factory.mktemp("gpus")
    script = folder / "fake_gpus.sh"
    script.write_text(FAKE_GPUS)
    script.chmod(0o755)
    # the published file, but for the number of GPUs, where their addresses come from, and a third core an
    # executor: with two, the cores and not the GPU's share would keep a third task away
    properties = folder / "standalone-gpu.conf"
    changed = {
        "spark.worker.resource.gpu.amount": "2",
        "spark.worker.resource.gpu.discoveryScript": str(script),
        "spark.executor.cores": "3",
    }
    lines = (ROOT / "spark-conf" / "standalone-gpu.conf").read_text().splitlines()
    kept = [line for line in lines if line.split(" ")[0] not in changed]
    properties.write_text("\n".join([*kept, *(f"{key} {value}" for key, value in changed.items()), ""]))
    (folder / "trial_model.py").write_text(MODEL)
    (folder / "trial.py").write_text(JOB)
    with standalone_cluster(folder, workers=1, worker_properties=properties, cores=6) as cluster:
        answer = cluster.submit(
            folder / "trial.py",
            [str(folder / "seen.json")],
            py_files=[lime_zip(), folder / "trial_model.py"],
            properties=properties,
        )
    assert answer.returncode == 0, answer.stderr[-3000:]
    yield json.loads((folder / "seen.json").read_text())


def test_an_executor_is_pinned_to_one_address_and_all_addresses_are_used(tasks: dict[str, Any]) -> None:
    for rows in tasks.values():
        devices = defaultdict(set)
        for row in rows:
            devices[row["executor"]].add(row["device"])
        assert sorted(map(sorted, devices.values())) == [["cuda:0"], ["cuda:1"]]


@pytest.mark.parametrize(("amount", "most"), [("0.5", 2), ("1.0", 1)])
def test_no_more_tasks_than_planned_run_on_one_gpu(tasks: dict[str, Any], amount: str, most: int) -> None:
    spans = defaultdict(list)
    for row in tasks[amount]:
        spans[row["device"]].append((row["start"], row["end"]))
    # how many were running at the start of each task, itself included
    together = [sum(a <= start < b for a, b in ran) for ran in spans.values() for start, _ in ran]
    assert max(together) == most


def test_a_model_is_loaded_once_in_a_python_worker_that_runs_many_tasks(tasks: dict[str, Any]) -> None:
    rows = [row for some in tasks.values() for row in some]
    assert {row["loads"] for row in rows} == {1}
    assert len({row["worker"] for row in rows}) <= 6 < len(rows)


LOCAL_JOB = """
import json, sys
from jobs.gpu import Device, resource_profile, task_device
from jobs.session import spark_session

spark = spark_session("trial", sys.argv[1])
device = Device.of(spark, "gpu")
assert resource_profile(spark, "gpu", 0.5) is None
named = lambda batches: (type(batch).from_pylist([{"device": task_device(device)}]) for batch in batches)
rows = spark.range(0, 4, 1, 4).mapInArrow(named, "device string").collect()
print(json.dumps([row.device for row in rows]))
"""


def test_in_local_mode_tasks_share_the_drivers_addresses(tmp_path: Path) -> None:
    script = tmp_path / "fake_gpus.sh"
    script.write_text(FAKE_GPUS)
    script.chmod(0o755)
    conf = tmp_path / "local.conf"
    conf.write_text(
        (ROOT / "spark-conf" / "local.conf").read_text()
        + f"spark.driver.resource.gpu.amount 2\nspark.driver.resource.gpu.discoveryScript {script}\n"
    )
    command = [sys.executable, "-c", LOCAL_JOB, str(conf)]
    printed = subprocess.check_output(command, cwd=ROOT, text=True, stderr=subprocess.PIPE)
    assert json.loads(printed.splitlines()[-1]) == ["cuda:0", "cuda:1", "cuda:0", "cuda:1"]


def test_the_cpu_is_used_when_the_config_says_so() -> None:
    spark = session("spark://master:7077")
    assert task_device(Device.of(spark, "cpu")) == "cpu"
    assert resource_profile(spark, "cpu", 0.5) is None


def test_an_unknown_kind_is_refused() -> None:
    with pytest.raises(ConfigError, match="expected one of cpu, gpu, found 'tpu'"):
        Device.of(session("local[2]"), "tpu")


def test_local_mode_without_a_gpu_is_refused_before_any_task() -> None:
    with pytest.raises(ConfigError, match=r"spark\.driver\.resource\.gpu\.discoveryScript"):
        Device.of(session("local[2]"), "gpu")


def test_a_cluster_whose_executors_have_no_gpu_is_refused_before_any_task() -> None:
    with pytest.raises(ConfigError, match=r"set spark\.executor\.resource\.gpu\.amount"):
        resource_profile(session("spark://master:7077"), "gpu", 0.5)


@pytest.mark.parametrize("amount", [0.0, -1.0, 1.5])
def test_a_share_that_spark_cannot_schedule_is_refused(amount: float) -> None:
    with pytest.raises(ConfigError, match="expected a share of one GPU or a whole number"):
        resource_profile(session("spark://master:7077"), "gpu", amount)


def test_outside_a_task_there_is_no_gpu_address() -> None:
    with pytest.raises(ConfigError, match="outside a Spark task"):
        task_device(Device("gpu"))


def session(master: str) -> SparkSession:
    """As much of a session as the driver's checks look at."""
    conf = SimpleNamespace(getAll=list)
    return cast(
        SparkSession,
        SimpleNamespace(sparkContext=SimpleNamespace(master=master, resources={}, getConf=lambda: conf)),
    )
