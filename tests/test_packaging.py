"""The wheel works where it is installed, and the Makefile says in one sentence what a machine lacks."""

import configparser
import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from benchmarks.packaging import ROOT, built_wheel, lime_zip
from benchmarks.standalone import python_without_project

PACKAGES = ("jobs", "lime_model", "schemas")


def sources() -> set[str]:
    """What of the packages belongs into a wheel."""
    paths = (path for package in PACKAGES for path in (ROOT / package).rglob("*") if path.is_file())
    return {str(path.relative_to(ROOT)) for path in paths if "__pycache__" not in path.parts}


def test_the_wheel_has_every_file_of_the_three_packages_and_nothing_else_importable() -> None:
    with zipfile.ZipFile(built_wheel()) as wheel:
        names = {name for name in wheel.namelist() if ".dist-info/" not in name and ".data/" not in name}
    assert names == sources()


def test_the_zip_for_executors_is_importable_as_it_is(tmp_path: Path) -> None:
    python = python_without_project(tmp_path / "python")
    code = f"import sys; sys.path.insert(0, {str(lime_zip())!r}); import schemas.all_tables, lime_model, jobs.gpu"
    subprocess.run([python, "-c", code], cwd=tmp_path, check=True)


def test_an_installed_wheel_brings_the_command_and_the_spark_files(tmp_path: Path) -> None:
    python = python_without_project(tmp_path / "python")
    command = [sys.executable, "-m", "pip", "--python", python, "install", "--quiet", "--no-deps", built_wheel()]
    subprocess.run(command, cwd=tmp_path, check=True)
    usage = subprocess.check_output([python.with_name("lime"), "--help"], cwd=tmp_path, text=True)
    assert usage.startswith("usage: lime COMMAND")
    code = "import jobs.session, lime_model, schemas; print(jobs.session.default_conf()); print(lime_model.__file__)"
    printed = subprocess.check_output([python, "-c", code], cwd=tmp_path, text=True).splitlines()
    conf = tmp_path / "python" / "share" / "lime" / "spark-conf"
    assert printed[0] == str(conf / "local.conf")
    assert printed[1].startswith(str(tmp_path))
    assert {path.name for path in conf.iterdir()} == {path.name for path in (ROOT / "spark-conf").iterdir()}
    assert os.access(conf / "getGpusResources.sh", os.X_OK)


def test_the_lock_has_a_hash_for_every_package_and_names_no_host() -> None:
    for name in ("requirements.lock", "requirements-bench.lock"):
        text = (ROOT / name).read_text()
        entries = [entry for entry in text.replace("\\\n", " ").splitlines() if entry and not entry.startswith("#")]
        assert [entry for entry in entries if "==" not in entry or "--hash=sha256:" not in entry] == []
        assert "://" not in text


def test_every_requirement_is_locked_at_what_its_range_allows() -> None:
    packaging = pytest.importorskip("packaging.requirements")
    config = configparser.ConfigParser()
    config.read(ROOT / "setup.cfg")
    wanted = config["options"]["install_requires"] + config["options.extras_require"]["test"]
    lock = (ROOT / "requirements.lock").read_text().splitlines()
    locked = dict(line.split(" ")[0].split("==") for line in lock if "==" in line)
    for line in filter(None, wanted.splitlines()):
        requirement = packaging.Requirement(line)
        assert requirement.specifier.contains(locked[requirement.name.lower()]), line


@pytest.fixture
def clone(tmp_path: Path) -> Path:
    """As much of a clone as making the environment reads, with one package to install."""
    for name in ("Makefile", "setup.py", "setup.cfg", "pyproject.toml"):
        shutil.copy(ROOT / name, tmp_path)
    for name in ("jobs", "schemas"):
        shutil.copytree(ROOT / name, tmp_path / name, ignore=shutil.ignore_patterns("__pycache__"))
    (tmp_path / "requirements.lock").write_text(f"six==1.17.0 --hash=sha256:{'0' * 64}\n")
    return tmp_path


def make(clone: Path, *arguments: str, **environment: str) -> "subprocess.CompletedProcess[str]":
    """`make nightly` in that clone, without the variables of this test run's own make."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("MAKE") and name != "MFLAGS"}
    command = ["make", f"PYTHON={sys.executable}", *arguments, "nightly"]
    return subprocess.run(
        command, cwd=clone, env={**kept, **environment}, capture_output=True, text=True, check=False
    )


def sentences(answer: "subprocess.CompletedProcess[str]") -> list[str]:
    """What the user is told on standard error, but for make's own last line."""
    assert answer.returncode != 0
    return [line for line in answer.stderr.splitlines() if not line.startswith("make")]


def test_a_wrong_python_is_one_sentence(clone: Path) -> None:
    (clone / "python3.9").write_text("#!/bin/sh\nexit 1\n")
    (clone / "python3.9").chmod(0o755)
    said = sentences(make(clone, f"PYTHON={clone}/python3.9 no-such-python"))
    assert len(said) == 1
    assert said[0].startswith("lime needs Python 3.11, and none of these is one:")
    assert not (clone / ".venv").exists()


def test_a_missing_java_is_one_sentence_before_anything_is_installed(clone: Path) -> None:
    said = sentences(make(clone, JAVA_HOME=str(clone / "nowhere")))
    where = f"JAVA_HOME={clone}/nowhere"
    assert said == [f"Spark needs Java 17 and there is no java in {where}: install it or set JAVA_HOME."]
    assert not (clone / ".venv").exists()


def test_no_network_is_one_sentence_and_the_half_made_environment_is_made_again(clone: Path) -> None:
    offline = {"PIP_INDEX_URL": "http://127.0.0.1:9/", "PIP_FIND_LINKS": "", "PIP_RETRIES": "0"}
    said = sentences(make(clone, **offline))
    assert len(said) == 1
    assert said[0].startswith("No package index could be reached for requirements.lock")
    (clone / ".venv" / "left-behind").touch()
    answer = make(clone, **offline)
    assert ".venv was left half-made: it is removed and made again." in answer.stdout
    assert not (clone / ".venv" / "left-behind").exists()


def test_a_package_that_is_not_what_was_locked_is_refused(clone: Path) -> None:
    wheels = clone / "wheels"
    wheels.mkdir()
    with zipfile.ZipFile(wheels / "six-1.17.0-py2.py3-none-any.whl", "w") as wheel:
        wheel.writestr("six-1.17.0.dist-info/METADATA", "Metadata-Version: 2.1\nName: six\nVersion: 1.17.0\n")
        wheel.writestr("six-1.17.0.dist-info/WHEEL", "Wheel-Version: 1.0\nTag: py2.py3-none-any\n")
    said = sentences(make(clone, PIP_NO_INDEX="1", PIP_FIND_LINKS=str(wheels)))
    assert len(said) == 1
    assert said[0].startswith("A package differs from its hash in requirements.lock, so it was not installed")


def test_continuous_integration_runs_the_tests_by_the_same_command() -> None:
    script = ROOT / ".ci" / "run"
    assert os.access(script, os.X_OK)
    assert "make test" in script.read_text()
