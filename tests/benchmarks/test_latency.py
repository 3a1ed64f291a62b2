import json
from math import inf
from pathlib import Path

import pytest
import torch

from benchmarks import latency
from benchmarks.contenders import TRANSFORMER
from benchmarks.latency import Sides, crossing, main, settings, slope
from benchmarks.transformer import Transformer
from lime_model.features import FeatureSpec
from lime_model.vocabulary import Vocabulary


def test_a_quick_run_times_every_model_and_draws_its_picture(tmp_path: Path) -> None:
    out, picture = tmp_path / "f.json", tmp_path / "docs" / "latency.svg"
    assert main(["--quick", "--json", str(out), "--picture", str(picture)]) == 0
    claims = {figure["claim"]: figure["value"] for figure in json.loads(out.read_text())["figures"]}
    for name in latency.NAMES:
        assert f"{name} slope of the history's time in N" in claims
        assert f">{name}<" in picture.read_text()
    assert {f"transformer over lime {count}" for count in (64, 128, 256)} <= set(claims)


def test_a_slope_is_that_of_the_last_two_doublings() -> None:
    assert slope({64: 9.0, 128: 1.0, 256: 2.0, 512: 4.0}) == pytest.approx(1.0)
    assert slope({64: 1.0, 128: 1.0, 256: 1.0}) == 0.0


def test_the_crossing_is_where_pairs_cost_more_than_the_history() -> None:
    curve = {256: Sides(1.0, 2.0), 64: Sides(1.0, 0.5), 128: Sides(1.0, 1.0)}
    assert crossing(curve) == 256.0
    assert crossing({64: Sides(1.0, 0.5)}) == inf


def test_candidates_in_blocks_get_the_scores_of_all_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    config = settings(TRANSFORMER, 8)
    torch.manual_seed(1)
    vocabulary = Vocabulary(tuple(f"{n:03d}" for n in range(200)), config.buckets)
    model = Transformer(config, vocabulary, FeatureSpec((), (), ("event",))).eval()
    monkeypatch.setattr(latency, "PAIR_NUMBERS", 1)  # blocks of 64
    items, events = latency._items(torch.arange(1, 201)), latency._events(8)
    with torch.inference_mode():
        vectors = model.tower(latency._items(torch.arange(1, 9)[None]))
        P = model.links_at_cuts(vectors, events, events.length[:, None])[:, 0]  # noqa: N806
        found = latency._attends(model, items)(P)
        expected = torch.topk(model.score_all(P, model.weights_of(model.tower(items))), latency.K)
    assert torch.equal(found.indices, expected.indices)
    torch.testing.assert_close(found.values, expected.values)
