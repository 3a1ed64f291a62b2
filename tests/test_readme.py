"""The README names only what is there: make targets, commands, files, tables, exit codes."""

import re
import tomllib
from pathlib import Path

import pytest

from jobs.cli import COMMANDS, main, usage
from jobs.rule_config import MINIMUM, Denied, Rule, check_filters
from schemas.all_tables import TABLES

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text("utf-8")


def test_make_targets_exist() -> None:
    targets = re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.MULTILINE)
    named = set(re.findall(r"(?:^|`)make ([a-z]+)", README, re.MULTILINE))
    assert {"nightly", "test"} <= named <= set(targets)


def test_lime_commands_exist() -> None:
    assert set(re.findall(r"\blime ([a-z]+(?:-[a-z]+)*)[ `]", README)) - {"nightly"} <= set(COMMANDS)


def test_named_files_exist() -> None:
    named = re.findall(r"(?:jobs|lime_model|schemas|spark-conf|tests|benchmarks)/[\w./-]*\w", README)
    assert named
    assert [name for name in named if not (ROOT / name).exists()] == []


def test_rules_are_written_as_the_configuration_takes_them() -> None:
    (block,) = re.findall(r"```toml\n(.*?)```", README, re.DOTALL)
    found = tomllib.loads(block)["score"]
    listed = [{key: tuple(v) if isinstance(v, list) else v for key, v in rule.items()} for rule in found["rules"]]
    rules = [Rule(**rule) for rule in listed]
    kinds = {rule.item: "numeric" if rule.kind == MINIMUM else "categorical" for rule in rules}
    check_filters(rules, Denied(**found["denied"]), kinds, ["age", "country", "blocked"])


def test_every_table_is_described() -> None:
    assert [name for name in TABLES if f"`{name}`" not in README] == []


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_says_how_it_is_used(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        main([command, "--help"])
    assert end.value.code == 0
    assert f"lime {command}" in capsys.readouterr().out


def test_an_unknown_command_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["nightliy"]) == 2
    assert "unknown command 'nightliy'" in capsys.readouterr().err
    assert all(command in usage() for command in COMMANDS)
