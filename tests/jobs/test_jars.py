"""Delta's jars: fetched once, whole or not at all, found offline, never where Spark has them."""

import os
from pathlib import Path

import pytest

from jobs.jars import (
    delta_coordinate,
    fetch_jars,
    fetched_jars,
    jars_folder,
    jars_for_session,
    main,
    spark_home,
)
from schemas.errors import ConfigError, RetryableError

# A spark-submit that counts its calls, finds nothing until the file `reachable` is there, and then answers as
# Spark does: the resolved jars are on the Python path of the script.
FAKE_SUBMIT = """#!/bin/sh
ivy=$SPARK_HOME-ivy
echo "$@" >> "$SPARK_HOME/calls"
[ -e "$SPARK_HOME/reachable" ] || exit 1
echo "$ivy/delta-spark.jar:$ivy/storage.jar:$SPARK_HOME/jars/spark-core.jar:$SPARK_HOME/python/lib/pyspark.zip"
"""


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A SPARK_HOME with the fake spark-submit, and no Maven on the PATH but the one that a test makes."""
    home = tmp_path / "spark"
    for jar in ("spark-ivy/delta-spark.jar", "spark-ivy/storage.jar", "spark/jars/spark-core.jar"):
        (tmp_path / jar).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / jar).write_text(jar)
    write_program(home / "bin" / "spark-submit", FAKE_SUBMIT)
    java = tmp_path / "java"
    write_program(java / "bin" / "java", "#!/bin/sh\necho 'openjdk version \"17.0.9\"'\n")
    tools = tmp_path / "tools"
    tools.mkdir()
    (tools / "touch").symlink_to("/bin/touch")
    monkeypatch.setenv("SPARK_HOME", str(home))
    monkeypatch.setenv("JAVA_HOME", str(java))
    monkeypatch.setenv("PATH", str(tools))
    return home


def write_program(path: Path, text: str) -> None:
    """An executable file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    path.chmod(0o755)


def names(jars: list[Path]) -> list[str]:
    """File names."""
    return [jar.name for jar in jars]


def test_the_version_is_that_of_the_installed_delta_spark() -> None:
    assert delta_coordinate() == "io.delta:delta-spark_2.13:4.0.1"


def test_they_are_resolved_once_and_found_without_a_repository_afterwards(home: Path, tmp_path: Path) -> None:
    (home / "reachable").touch()
    first = fetch_jars(tmp_path / "kept")
    (home / "reachable").unlink()
    assert names(first) == ["delta-spark.jar", "storage.jar"]
    assert fetch_jars(tmp_path / "kept") == first
    assert (home / "calls").read_text().count("--packages io.delta:delta-spark_2.13:4.0.1") == 1


def test_no_repository_is_one_sentence(home: Path, tmp_path: Path) -> None:
    with pytest.raises(
        RetryableError, match=r"no Maven repository was reached: check network and proxy"
    ) as raised:
        fetch_jars(tmp_path / "kept")
    assert "\n" not in str(raised.value)
    assert fetched_jars(tmp_path / "kept") == []


def test_where_ivy_reaches_nothing_the_users_maven_is_asked(home: Path, tmp_path: Path) -> None:
    maven = f'#!/bin/sh\necho "$@" >> {home}/maven\ntouch {home}/reachable\n'
    write_program(tmp_path / "tools" / "mvn", maven)
    assert len(fetch_jars(tmp_path / "kept")) == 2
    assert "dependency:get -Dartifact=io.delta:delta-spark_2.13:4.0.1" in (home / "maven").read_text()


def test_a_failure_in_the_middle_leaves_no_folder(home: Path, tmp_path: Path) -> None:
    (home / "reachable").touch()
    (tmp_path / "spark-ivy" / "storage.jar").unlink()  # the second jar cannot be copied
    with pytest.raises(ConfigError, match="cannot be kept in"):
        fetch_jars(tmp_path / "kept")
    assert list((tmp_path / "kept").iterdir()) == []


def test_a_missing_java_is_one_sentence(home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("JAVA_HOME", str(tmp_path / "nowhere"))
    with pytest.raises(ConfigError, match=r"Spark needs Java 17 and there is no java in JAVA_HOME="):
        fetch_jars(tmp_path / "kept")


@pytest.mark.parametrize("key", ["spark.jars", "spark.jars.packages", "spark.driver.extraClassPath"])
def test_a_configuration_that_brings_delta_fetches_nothing(home: Path, key: str) -> None:
    assert jars_for_session({key: "io.delta:delta-spark_2.13:4.0.1"}) == []
    assert not (home / "calls").exists()


def test_a_spark_that_has_delta_fetches_nothing(home: Path) -> None:
    (home / "jars" / "delta-spark_2.13-4.0.1.jar").touch()
    assert jars_for_session({}) == []
    assert not (home / "calls").exists()


def test_the_command_prints_what_spark_submit_takes(
    home: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (home / "reachable").touch()
    assert main(["--into", str(tmp_path / "kept")]) == 0
    folder = jars_folder(tmp_path / "kept")
    assert capsys.readouterr().out == f"{folder}/delta-spark.jar,{folder}/storage.jar\n"


def test_spark_itself_resolves_the_three_jars(tmp_path: Path) -> None:
    jars = fetch_jars(tmp_path)  # from Ivy's cache where they were fetched before, else from the network
    assert [name.split("_")[1].split("-")[0] for name in names(jars)] == ["delta", "delta", "antlr4"]


def test_spark_itself_without_a_network_is_one_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # an empty cache, a proxy that nobody answers for, no Maven
    proxy = [f"-D{kind}.proxy{key}" for kind in ("http", "https") for key in ("Host=127.0.0.1", "Port=9")]
    monkeypatch.setenv("JAVA_TOOL_OPTIONS", " ".join([f"-Duser.home={tmp_path}", *proxy]))
    monkeypatch.setattr("jobs.jars._ask_maven", lambda: False)
    with pytest.raises(RetryableError, match="no Maven repository was reached"):
        fetch_jars(tmp_path / "kept")


def test_the_spark_that_is_asked_is_the_one_that_would_start() -> None:
    assert (spark_home() / "bin" / "spark-submit").is_file()
    assert os.access(spark_home() / "bin" / "spark-submit", os.X_OK)
