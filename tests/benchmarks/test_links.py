import json
from pathlib import Path

import pytest

from benchmarks import links
from benchmarks.links import main
from lime_model.config import TrainConfig


def test_a_quick_run_says_what_links_cost_and_draws_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    short = TrainConfig(steps=4, validate_every=2, blocks_per_step=4, cuts_per_block=4)
    monkeypatch.setattr(links, "QUICK", short)
    lines = [f"u{user} i{(user + step) % 12}" for user in range(10) for step in range(9)]
    (tmp_path / "ring.txt").write_text("\n".join(lines))
    out, picture = tmp_path / "f.json", tmp_path / "links.svg"
    command = ["--quick", "--data", str(tmp_path / "ring.txt"), "--json", str(out), "--picture", str(picture)]
    assert main(command) == 0
    value = {figure["claim"]: figure["value"] for figure in json.loads(out.read_text())["figures"]}
    assert value["8 links bytes of a user"] == 2 * value["4 links bytes of a user"] == 8 * 64 * 4
    assert value["8 links bytes of an item"] - value["4 links bytes of an item"] == 2 * 4 * 4
    assert all(0 <= value[f"{count} links ndcg@10"] <= 1 for count in (4, 8))
    assert ">milliseconds a user<" in picture.read_text()


def test_a_missing_file_is_named_and_exits_5(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--data", str(tmp_path / "none.txt")]) == 5
    assert "none.txt: expected a readable text file" in capsys.readouterr().out
