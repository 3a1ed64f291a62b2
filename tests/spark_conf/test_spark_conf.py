"""Every file in spark-conf/ parses, says why on each key, and names only keys that this Spark and Delta know.

Known means: Spark registers the key when the classes that declare its settings are loaded (`ConfigEntry`, in
the core, SQL, Delta, YARN and Kubernetes jars), or it is of a family whose names the user makes.
"""

import json
import os
import re
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from pyspark.java_gateway import launch_gateway

from jobs.cli import COMMANDS
from jobs.jars import fetch_jars
from jobs.session import REQUIRED, read_properties

FOLDER = Path(__file__).parents[2] / "spark-conf"
FILES = sorted(FOLDER.glob("*.conf"), key=lambda path: path.name)
DECLARING = (
    "org.apache.spark.internal.config.package$",
    "org.apache.spark.internal.config.Python$",
    "org.apache.spark.internal.config.UI$",
    "org.apache.spark.deploy.yarn.config.package$",
    "org.apache.spark.deploy.k8s.Config$",
    "org.apache.spark.sql.internal.SQLConf$",
    "org.apache.spark.sql.internal.StaticSQLConf$",
    "org.apache.spark.sql.delta.sources.DeltaSQLConf$",
)
# spark.master is a constant of the launcher; the names of resources are the user's
RESOURCE = r"spark\.(driver|executor|worker)\.resource\.\w+\.(amount|discoveryScript)"
FAMILIES = re.compile(rf"spark\.master|{RESOURCE}")


@pytest.fixture(scope="module")
def is_known() -> Iterator[Callable[[str], bool]]:
    """Asks a JVM without a Spark session, so that nothing here can disturb one."""
    classes = os.pathsep.join(map(str, fetch_jars()))
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("PYSPARK_SUBMIT_ARGS", f"--driver-class-path {classes} pyspark-shell")
        environment.setenv("SPARK_LOCAL_IP", "127.0.0.1")
        gateway = launch_gateway()
    loader = gateway.jvm.java.lang.Thread.currentThread().getContextClassLoader()
    for name in DECLARING:
        gateway.jvm.java.lang.Class.forName(name, True, loader)
    find = gateway.jvm.org.apache.spark.internal.config.ConfigEntry.findEntry
    yield lambda key: FAMILIES.fullmatch(key) is not None or find(key) is not None
    gateway.shutdown()
    gateway.proc.stdin.close()
    gateway.proc.wait(timeout=60)


@pytest.mark.parametrize("conf_file", FILES, ids=lambda path: path.name)
def test_every_key_is_known_to_this_spark(conf_file: Path, is_known: Callable[[str], bool]) -> None:
    assert [key for key in read_properties(conf_file) if not is_known(key)] == []


def test_a_misspelt_key_would_be_found(is_known: Callable[[str], bool]) -> None:
    assert is_known("spark.databricks.delta.snapshotPartitions")
    assert not is_known("spark.databricks.delta.snapshotPartition")
    assert not is_known("spark.executor.resource.gpu.amounts")


@pytest.mark.parametrize("conf_file", FILES, ids=lambda path: path.name)
def test_every_key_has_a_comment_of_its_own(conf_file: Path) -> None:
    _, *blocks = conf_file.read_text().strip().split("\n\n")  # the first is about the file
    assert [block for block in blocks if not block.startswith("# ") or len(_keys(block)) != 1] == []
    assert {key for block in blocks for key in _keys(block)} == set(read_properties(conf_file))


@pytest.mark.parametrize("conf_file", FILES, ids=lambda path: path.name)
def test_no_key_is_given_twice(conf_file: Path) -> None:
    keys = _keys(conf_file.read_text())
    assert len(keys) == len(set(keys))


@pytest.mark.parametrize("conf_file", FILES, ids=lambda path: path.name)
def test_each_file_alone_makes_a_session_that_the_jobs_accept(conf_file: Path) -> None:
    assert REQUIRED.items() <= read_properties(conf_file).items()


@pytest.mark.parametrize("conf_file", FILES, ids=lambda path: path.name)
def test_only_commands_that_exist_are_named(conf_file: Path) -> None:
    assert set(re.findall(r"[`(]lime ([a-z-]+)", conf_file.read_text())) <= set(COMMANDS)


def test_there_is_one_file_for_each_kind_of_cluster() -> None:
    kinds = ["kubernetes", "local", "standalone", "standalone-gpu", "yarn"]
    assert sorted(path.stem for path in FILES) == kinds


def test_the_discovery_script_prints_what_spark_reads(tmp_path: Path) -> None:
    fake = tmp_path / "nvidia-smi"
    fake.write_text("#!/bin/sh\n[ \"$1\" = --query-gpu=index ] && printf '0\\n1\\n'\n")
    fake.chmod(0o755)
    path = f"{tmp_path}:{os.environ['PATH']}"
    printed = subprocess.check_output([FOLDER / "getGpusResources.sh"], env={"PATH": path}, text=True)
    assert json.loads(printed) == {"name": "gpu", "addresses": ["0", "1"]}


def test_the_discovery_script_fails_where_there_is_no_driver(tmp_path: Path) -> None:
    for tool in ("bash", "sed", "paste"):
        (tmp_path / tool).symlink_to(f"/usr/bin/{tool}")
    env = {"PATH": str(tmp_path)}
    answer = subprocess.run(["/usr/bin/env", "bash", FOLDER / "getGpusResources.sh"], env=env, check=False)
    assert answer.returncode != 0


def _keys(text: str) -> list[str]:
    """First words of the lines that set something."""
    return [line.split()[0] for line in text.splitlines() if line.startswith("spark.")]
