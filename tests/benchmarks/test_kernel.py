import json
from pathlib import Path

import numpy as np
import pytest

from benchmarks import synthetic
from benchmarks.kernel import differing_lists, main, mlp_figures


def test_shares_of_a_core_are_fractions_of_what_it_can_do() -> None:
    figures = {figure.claim: figure.value for figure in mlp_figures(500, 16, 1, 128, target=False)}
    assert set(figures) == {f"{n} share of {of}" for n in ("mlp", "plain mlp") for of in ("sgemm", "fma peak")}
    assert 0 < figures["plain mlp share of fma peak"] < 1.2


def test_only_differences_that_float64_does_not_call_a_tie_count() -> None:
    candidates = synthetic.linear_candidates(50)
    scores = synthetic.linear_links(2).flatten(1).double() @ candidates.rows(0, 50).A.flatten(1).double().T
    right = scores.argsort(dim=1, descending=True)[:, :5].numpy()
    wrong = right.copy()
    wrong[1] = wrong[1][::-1]
    assert differing_lists(right, right, 50) == 0
    assert differing_lists(wrong, right, 50) == 1


def test_seen_candidates_are_sorted_and_within_range() -> None:
    seen = synthetic.some_seen(30, 4, 10)
    for start, end in zip(seen.offsets[:-1].tolist(), seen.offsets[1:].tolist(), strict=True):
        row = seen.positions[start:end].numpy()
        assert (np.diff(row) > 0).all() and row.min() >= 0 and row.max() < 30


def test_the_quick_form_prints_every_claim(tmp_path: Path) -> None:
    pytest.importorskip("faiss", reason="peers come with `make bench`")
    pytest.importorskip("implicit", reason="peers come with `make bench`")
    assert main(["--quick", "--json", str(tmp_path / "f.json")]) == 0
    claims = {figure["claim"]: figure["value"] for figure in json.loads((tmp_path / "f.json").read_text())["figures"]}
    assert {"over faiss 2,000", "over implicit 2,000", "mlp share of sgemm"} <= set(claims)
    assert claims["lists unlike faiss 2,000"] == 0.0
