"""What a machine lacks is said in one sentence."""

from pathlib import Path

import pytest

from jobs.doctor import check_java, java_major, main, pip_error
from schemas.errors import ConfigError, LimeError, RetryableError


@pytest.mark.parametrize(
    ("printed", "major"),
    [
        ('openjdk version "17.0.15" 2025-04-15', 17),
        ('java version "1.8.0_392"', 8),
        ('openjdk version "21" 2023-09-19', 21),
        ("Unable to locate a Java Runtime.", None),
    ],
)
def test_the_major_version_is_read(printed: str, major: int | None) -> None:
    assert java_major(printed) == major


def install_java(folder: Path, says: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A JAVA_HOME whose java prints that."""
    program = folder / "bin" / "java"
    program.parent.mkdir()
    program.write_text(f"#!/bin/sh\necho '{says}' >&2\n")
    program.chmod(0o755)
    monkeypatch.setenv("JAVA_HOME", str(folder))


def test_java_17_is_accepted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    install_java(tmp_path, 'openjdk version "17.0.1"', monkeypatch)
    check_java()


def test_another_java_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    install_java(tmp_path, 'java version "1.8.0_392"', monkeypatch)
    with pytest.raises(ConfigError, match=r"Spark needs Java 17, and .*/bin/java is Java 8: set JAVA_HOME"):
        check_java()


def test_a_java_that_does_not_run_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    install_java(tmp_path, "Unable to locate a Java Runtime.", monkeypatch)
    with pytest.raises(ConfigError, match="does not run"):
        check_java()


def test_a_missing_java_is_said_and_gives_the_exit_code_of_bad_configuration(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    monkeypatch.delenv("JAVA_HOME", raising=False)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert main(["java"]) == 5
    expected = "Spark needs Java 17 and there is no java in PATH: install it or set JAVA_HOME.\n"
    assert capsys.readouterr().err == expected


@pytest.mark.parametrize(
    ("log", "error", "sentence"),
    [
        ("ERROR: THESE PACKAGES DO NOT MATCH THE HASHES FROM THE FILE", ConfigError, "differs from its hash"),
        ("ERROR: Could not install: [Errno 28] No space left on device", ConfigError, "The disk filled up"),
        ("WARNING: Retrying after NewConnectionError", RetryableError, "No package index could be reached"),
        ("ERROR: first\nERROR: torch is broken", ConfigError, "could not install some.lock: torch is broken"),
        ("", ConfigError, "it gave no reason"),
    ],
)
def test_why_pip_stopped_is_one_sentence(log: str, error: type[LimeError], sentence: str) -> None:
    found = pip_error(Path("some.lock"), log, Path("pip.log"))
    assert type(found) is error
    assert sentence in str(found)
    assert "\n" not in str(found)
