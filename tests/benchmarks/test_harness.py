import json
from pathlib import Path

import pytest

from benchmarks.harness import Figure, machine, parser, present, table


def test_columns_are_aligned_and_the_header_underlined() -> None:
    assert table([("a", "long"), ("xyz", "1")]) == ["a    long", "---  ----", "xyz  1"]


def test_figures_are_printed_and_written_alike(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    figures = [Figure("one", 0.0851234, target=0.08, spread={"seeds": [0.1, 0.2]}), Figure("two", 3.0, "s")]
    present("title", figures, tmp_path / "new" / "f.json")
    printed = capsys.readouterr().out
    assert "0.08512" in printed and "seeds [0.1 0.2]" in printed and "3 s" in printed
    written = json.loads((tmp_path / "new" / "f.json").read_text())
    assert written["machine"] == json.loads(json.dumps(machine()))
    assert written["figures"] == [
        {"claim": "one", "value": 0.0851234, "unit": "", "target": 0.08, "spread": {"seeds": [0.1, 0.2]}},
        {"claim": "two", "value": 3.0, "unit": "s", "target": None},
    ]


def test_every_benchmark_has_quick_and_json() -> None:
    args = parser("x", "y").parse_args(["--quick", "--json", "f.json"])
    assert args.quick and args.json == Path("f.json")
    assert not parser("x", "y").parse_args([]).quick
