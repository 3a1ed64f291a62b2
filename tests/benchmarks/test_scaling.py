from pathlib import Path

import pytest

from benchmarks.scaling import private_mb, scaling_figures, worker, write_candidates


def test_every_size_has_a_cost_and_a_memory(capsys: pytest.CaptureFixture[str]) -> None:
    figures = {figure.claim: figure.value for figure in scaling_figures((100, 200), (5, 10), 1, target=False)}
    assert set(figures) == {
        f"{head} {claim}"
        for head in ("mlp", "linear")
        for claim in ("dearest over cheapest", "memory largest over smallest")
    }
    assert all(value >= 1 for value in figures.values())
    assert "100 items, 10 users" in capsys.readouterr().out


@pytest.mark.parametrize("head", ["mlp", "linear"])
def test_a_packed_file_is_mapped_and_scored(head: str, tmp_path: Path) -> None:
    file = tmp_path / "candidates.lime"
    write_candidates(file, head, 70)
    call = worker(str(file), head, 70, 3)()
    assert call["seconds"] > 0
    assert 0 < call["private_mb"] <= private_mb() * 2
