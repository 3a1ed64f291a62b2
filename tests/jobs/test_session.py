"""The session: started from a file as plain `lime`, taken as it is under spark-submit, refused without Delta."""

import json
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import pytest
from pyspark.sql import SparkSession

from jobs import session
from jobs.jars import fetch_jars, spark_home
from jobs.session import default_conf, is_local, read_properties, require_delta, session_conf, spark_session
from schemas.errors import ConfigError

ROOT = Path(__file__).parents[2]

# What a job of plain `lime` gets, and what its user sees when a task fails.
PLAIN = """
import json, logging, os, sys
from jobs.session import spark_session

spark = spark_session("first")
python = spark.range(1).mapInArrow(
    lambda batches: (type(batch).from_pylist([{"python": sys.executable}]) for batch in batches), "python string")
found = {
    "python": python.collect()[0].python,
    "zone": spark.conf.get("spark.sql.session.timeZone"),
    "same": spark_session("second") is spark,
    "host": spark.conf.get("spark.driver.host"),
}
def fail(batches):
    raise ValueError("a task failed")
    yield
try:
    spark.range(1).mapInArrow(fail, "id long").collect()
except Exception as error:
    found["failure"] = "a task failed" in str(error)
print(json.dumps(found))
"""

SUBMITTED = """
import sys
from jobs.session import spark_session
from schemas.errors import LimeError
try:
    spark_session("trial")
except LimeError as error:
    print(f"REFUSED {error}")
    sys.exit(error.exit_code)
"""


def test_plain_lime_gets_delta_utc_this_python_and_a_quiet_terminal(tmp_path: Path) -> None:
    env = {**os.environ, "PYSPARK_PYTHON": "/usr/bin/some-other-python"}
    command = [sys.executable, "-c", PLAIN]
    answer = subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True, check=True)
    assert json.loads(answer.stdout.splitlines()[-1]) == {
        "python": sys.executable, "zone": "UTC", "same": True, "host": "127.0.0.1", "failure": True,
    }
    # the one line is the JVM's own, about the module that Spark starts it with
    assert [line for line in answer.stderr.splitlines() if "incubator modules" not in line] == []


def test_a_submit_without_delta_is_told_what_to_add(tmp_path: Path) -> None:
    script = tmp_path / "trial.py"
    script.write_text(SUBMITTED)
    command = [str(spark_home() / "bin" / "spark-submit"), "--master", "local[1]", "--conf", "spark.ui.enabled=false"]
    env = {**os.environ, "PYSPARK_PYTHON": sys.executable, "SPARK_LOCAL_IP": "127.0.0.1"}
    answer = subprocess.run([*command, str(script)], env=env, capture_output=True, text=True, check=False)
    assert answer.returncode == ConfigError.exit_code
    printed = [line for line in answer.stdout.splitlines() if line.startswith("REFUSED ")]
    assert "--conf spark.sql.extensions=io.delta.sql.DeltaSparkSessionExtension" in printed[0]


def test_a_submit_with_the_published_file_and_jars_is_accepted_as_it_is(tmp_path: Path) -> None:
    script = tmp_path / "trial.py"
    script.write_text(SUBMITTED)
    command = [str(spark_home() / "bin" / "spark-submit"), "--properties-file", str(default_conf())]
    jars = ",".join(map(str, fetch_jars()))
    env = {**os.environ, "PYSPARK_PYTHON": sys.executable, "SPARK_LOCAL_IP": "127.0.0.1"}
    answer = subprocess.run(
        [*command, "--jars", jars, str(script)], env=env, capture_output=True, text=True, check=False
    )
    assert answer.returncode == 0, answer.stderr[-2000:]


def test_a_running_session_is_taken(spark: SparkSession) -> None:
    assert spark_session("another") is spark


def fake_session(conf: dict[str, str]) -> SparkSession:
    """As much of a session as the check looks at, without Delta's classes."""
    delta = SimpleNamespace(sql=SimpleNamespace(DeltaSparkSessionExtension=None))
    jvm = SimpleNamespace(io=SimpleNamespace(delta=delta))
    return cast(SparkSession, SimpleNamespace(conf=conf, _jvm=jvm))


def test_all_missing_settings_are_named_at_once() -> None:
    with pytest.raises(ConfigError) as raised:
        require_delta(fake_session({"spark.sql.session.timeZone": "Europe/Berlin"}))
    for key, value in session.REQUIRED.items():
        assert f"--conf {key}={value}" in str(raised.value)


def test_delta_beside_another_extension_is_enough_but_its_classes_must_be_there() -> None:
    conf = {**session.REQUIRED, "spark.sql.extensions": "some.Other,io.delta.sql.DeltaSparkSessionExtension"}
    with pytest.raises(ConfigError, match="has no Delta classes: add --jars"):
        require_delta(fake_session(conf))


@pytest.mark.parametrize(
    ("master", "local"), [("local", True), ("local[*]", True), ("local-cluster[2,1,1024]", False), ("yarn", False)]
)
def test_local_is_what_runs_tasks_in_the_driver(master: str, local: bool) -> None:
    assert is_local(master) is local


def test_a_properties_file_is_read_with_its_comments_left_out(tmp_path: Path) -> None:
    file = tmp_path / "some.conf"
    file.write_text("# why\nspark.master local[2]\n\n  spark.driver.extraJavaOptions   -Da=1 -Db=2  \n")
    expected = {"spark.master": "local[2]", "spark.driver.extraJavaOptions": "-Da=1 -Db=2"}
    assert read_properties(file) == expected


@pytest.mark.parametrize("line", ["spark.master", "master local[2]"])
def test_a_line_that_sets_nothing_is_named(tmp_path: Path, line: str) -> None:
    file = tmp_path / "some.conf"
    file.write_text(f"# why\n{line}\n")
    with pytest.raises(ConfigError, match=r"some\.conf, line 2: expected `spark\.key value`"):
        read_properties(file)


def test_a_missing_file_is_named() -> None:
    with pytest.raises(ConfigError, match=r"no Spark properties file nowhere\.conf"):
        read_properties(Path("nowhere.conf"))


def test_a_missing_java_is_one_sentence(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("JAVA_HOME", str(tmp_path))
    with pytest.raises(ConfigError, match="Spark needs Java 17 and there is no java in JAVA_HOME="):
        session_conf(default_conf())


def test_another_spark_than_pyspark_is_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("SPARK_HOME", str(tmp_path))
    with pytest.raises(ConfigError, match=r"SPARK_HOME=.* is not Spark 4\.0\.\d+: unset SPARK_HOME"):
        session_conf(default_conf())


def test_on_a_cluster_jars_travel_and_the_nodes_python_is_theirs(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("PYSPARK_PYTHON", "python-of-the-nodes")
    file = tmp_path / "cluster.conf"
    file.write_text("spark.master spark://master:7077\nspark.jars more.jar\n")
    conf = session_conf(file)
    assert conf["spark.jars"] == ",".join(["more.jar", *map(str, fetch_jars())])
    assert os.environ["PYSPARK_PYTHON"] == "python-of-the-nodes"


@pytest.mark.parametrize("kept", [True, False])
def test_classes_come_from_the_archive_where_there_is_one(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, kept: bool
) -> None:
    file = tmp_path / "classes.jsa"
    if kept:
        file.touch()
    monkeypatch.setattr(session, "archive_file", lambda: file)
    options = session_conf(default_conf())[session.JAVA_OPTIONS]
    assert (f"-XX:SharedArchiveFile={file}" in options) is kept
    assert "-Dlog4j2.configurationFile=file:" in options
