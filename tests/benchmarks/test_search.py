import json
import re
from pathlib import Path

import pytest

from benchmarks import search
from benchmarks.search import main, read_space, trials_of
from lime_model.config import TrainConfig

SPACE = "[model]\nlayers = [1, 2]\n[train]\nlearning_rate = [0.01, 0.001, 0.1]\n"


@pytest.fixture
def command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    short = TrainConfig(steps=4, validate_every=2, blocks_per_step=4, cuts_per_block=4)
    monkeypatch.setattr(search, "QUICK", short)
    lines = [f"u{user} i{(user + step) % 12}" for user in range(10) for step in range(9)]
    (tmp_path / "ring.txt").write_text("\n".join(lines))
    (tmp_path / "space.toml").write_text(SPACE)
    files = ["--data", str(tmp_path / "ring.txt"), "--space", str(tmp_path / "space.toml")]
    return ["--quick", "--model", "two-tower", *files]


def test_trials_are_drawn_without_repeats_and_alike_for_one_seed(tmp_path: Path) -> None:
    (tmp_path / "space.toml").write_text(SPACE)
    space = read_space(tmp_path / "space.toml")
    every = trials_of(space, 99, seed=1)
    assert len(every) == 6
    assert all(every.count(trial) == 1 for trial in every)
    assert trials_of(space, 4, seed=1) == every[:4]
    assert trials_of(space, 99, seed=2) != every


def test_a_search_goes_on_from_its_record_and_names_the_best(
    command: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    record = tmp_path / "record.json"
    assert main([*command, "--trials", "2", "--record", str(record)]) == 0
    first = json.loads(record.read_text())
    assert main([*command, "--trials", "3", "--record", str(record), "--json", str(tmp_path / "f.json")]) == 0
    after = json.loads(record.read_text())
    assert after[:2] == first
    assert len(after) == 3
    (figure,) = json.loads((tmp_path / "f.json").read_text())["figures"]
    assert figure["value"] == max(trial["ndcg10"] for trial in after)
    assert "learning_rate 0.01" in capsys.readouterr().out


def test_a_record_of_other_data_is_not_taken(command: list[str], tmp_path: Path) -> None:
    record = tmp_path / "record.json"
    assert main([*command, "--trials", "1", "--record", str(record)]) == 0
    lines = [f"u{user} i{(3 * user + step) % 12}" for user in range(10) for step in range(9)]
    (tmp_path / "ring.txt").write_text("\n".join(lines))
    assert main([*command, "--trials", "1", "--record", str(record)]) == 0
    assert len({trial["run"] for trial in json.loads(record.read_text())}) == 2
    assert all(trial["trained_on"] for trial in json.loads(record.read_text()))
    assert main([*command, "--trials", "0"]) == 5


@pytest.mark.parametrize(
    ("space", "message"),
    [
        ("[train]\nsteps = 3\n", "expected lists of values .*, found .'train.steps'"),
        ("[rain]\nsteps = [3]\n", "found .'rain'"),
        ("", "found nothing"),
        ("[train]\nepochs = [3]\n", "TrainConfig: expected keys among"),
    ],
)
def test_a_wrong_space_is_refused(
    command: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str], space: str, message: str
) -> None:
    (tmp_path / "space.toml").write_text(space)
    assert main(command) == 5
    assert re.search(message, capsys.readouterr().out)
