"""Devices come from Spark's scheduler: fake addresses on a real standalone cluster, and in local mode."""

import json
import subprocess
import sys
from collections import defaultdict
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
import torch
from pyspark.sql import SparkSession

from benchmarks.packaging import lime_zip
from benchmarks.standalone import standalone_cluster
from jobs.gpu import Device, resource_profile, task_device
from lime_model.frozen import FrozenShapes, Histories, LinkPredictor
from lime_model.package import load_package, save_package
from schemas.errors import ConfigError
from tests.lime_model.samples import SPEC, VOCABULARY, config, lime

ROOT = Path(__file__).parents[2]
FAKE_GPUS = '#!/bin/sh\necho \'{"name": "gpu", "addresses": ["0", "1"]}\'\n'

# What a worker of the embedding stage gets beside the product's code: its fake GPU is the CPU, and it counts how often
# a package is opened. A module, because a worker keeps modules from task to task.
WATCH = """
from types import SimpleNamespace
import torch
from jobs import embed_users, packages

embed_users.torch = SimpleNamespace(device=lambda name: torch.device("cpu"))
opened, open_package = [], packages.load_package

def counted(path):
    opened.append(path)
    return open_package(path)

packages.load_package = counted
"""

# Twelve tasks of 0.4 s, first with half a GPU each, then with a whole one; then the embedding stage itself, in twelve
# tasks too. What each saw goes to a file.
JOB = """
import json, sys
from pathlib import Path
from types import SimpleNamespace
from jobs import embed_users
from jobs.config import EmbedConfig
from jobs.gpu import Device, resource_profile, task_device
from jobs.packages import ship_package
from jobs.session import spark_session

spark = spark_session("trial")
device = Device.of(spark, "gpu")

def work(batches):
    import os, time
    for batch in batches:
        start = time.time()
        name = task_device(device)
        time.sleep(0.4)
        yield type(batch).from_pylist([{"executor": os.getcwd(), "device": name, "start": start, "end": time.time()}])

kinds = "executor string, device string, start double, end double"
seen = {}
for amount in (0.5, 1.0):
    profile = resource_profile(spark, "gpu", amount)
    tasks = spark.range(0, 12, 1, 12).mapInArrow(work, kinds, profile=profile)
    seen[str(amount)] = [row.asDict() for row in tasks.collect()]

inner, log = embed_users._embed_batches, str(Path(sys.argv[1]).parent)

def watched(shipped, shapes, device):
    embed_batches = inner(shipped, shapes, device)

    def watched_batches(batches):
        import json, os
        import watch
        from pathlib import Path
        from pyspark import TaskContext
        yield from embed_batches(batches)
        line = {"worker": os.getpid(), "device": task_device(device), "opened": len(watch.opened)}
        Path(log, f"embedded-{TaskContext.get().partitionId()}.json").write_text(json.dumps(line))

    return watched_batches

embed_users._embed_batches = watched
config = EmbedConfig("gpu", gpu_amount=0.5, partitions=12, rows_per_call=4, length_buckets=(2,), items_per_call=8)
night = SimpleNamespace(lake=SimpleNamespace(spark=spark), config=SimpleNamespace(embed=config))
histories = spark.sql('''
    SELECT concat('u', id) AS user_id, 0 AS user_bucket, 'h' AS history_digest, array('item-1', 'item-2') AS item_ids,
        array('{}', '{}') AS features, array('view', 'like') AS event_types,
        array(timestamp'2026-01-01', timestamp'2026-01-02') AS event_ts
    FROM range(48)''')
links = embed_users.embed(night, histories, ship_package(spark, Path(sys.argv[2]))).collect()
seen["links"] = {row["user_id"]: row["links"] for row in links}
Path(sys.argv[1]).write_text(json.dumps(seen))
"""


@pytest.fixture(scope="module")
def tasks(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What tasks saw on one worker with two (fake) GPUs: by the share of a GPU that they asked for, and `embedded`."""
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
    (folder / "watch.py").write_text(WATCH)
    package = save_package(folder, lime(config()), VOCABULARY, SPEC, {"trained_until": "2026-01-01T00:00:00+00:00"})
    (folder / "trial.py").write_text(JOB)
    with standalone_cluster(folder, workers=1, worker_properties=properties, cores=6) as cluster:
        command = cluster.command(
            folder / "trial.py",
            [str(folder / "seen.json"), str(package)],
            py_files=[lime_zip(), folder / "watch.py"],
            properties=properties,
        )
        answer = cluster.submit(command)
    assert answer.returncode == 0, answer.stderr[-3000:]
    embedded = [json.loads(path.read_text()) for path in folder.glob("embedded-*.json")]
    return {**json.loads((folder / "seen.json").read_text()), "package": package, "embedded": embedded}


def test_an_executor_is_pinned_to_one_address_and_all_addresses_are_used(tasks: dict[str, Any]) -> None:
    for rows in (tasks["0.5"], tasks["1.0"]):
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


def test_the_embedding_stage_opens_its_package_once_in_a_worker_that_runs_many_tasks(tasks: dict[str, Any]) -> None:
    rows = tasks["embedded"]
    assert len(rows) == 12
    assert {row["opened"] for row in rows} == {1}
    assert len({row["worker"] for row in rows}) <= 6 < len(rows)


def test_the_embedding_stage_runs_on_the_addresses_that_spark_gives_it(tasks: dict[str, Any]) -> None:
    assert {row["device"] for row in tasks["embedded"]} == {"cuda:0", "cuda:1"}
    stamps = [int(datetime(2026, 1, day, tzinfo=UTC).timestamp()) * 1_000_000 for day in (1, 2)]
    plain = Histories(
        ["item-1", "item-2"], ["{}", "{}"], ["view", "like"], torch.tensor([0, 1]), torch.tensor([0, 1]),
        torch.tensor(stamps), torch.tensor([0, 2]),
    )  # fmt: skip
    shapes = FrozenShapes(rows_per_call=4, length_buckets=(2,), items_per_call=8)
    expected = LinkPredictor(load_package(tasks["package"]), shapes, torch.device("cpu")).predict(plain)[0].tolist()
    assert tasks["links"] == {f"u{n}": expected for n in range(48)}


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
