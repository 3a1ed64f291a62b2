from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from lime_model import train as training
from lime_model.checkpoint import Progress
from lime_model.config import Head, TrainConfig
from lime_model.model import Lime
from lime_model.optimization import ordered_sums
from lime_model.recipe import Recipe
from lime_model.specify import spec_of, vocabulary_of
from lime_model.train import TrainedModel, check_gate, fit, learning_rate, train
from lime_model.training_set import training_set
from lime_model.validation import RankingMetrics, ranking_metrics, validation_set
from lime_model.windows import WindowSet, windows_of
from schemas.errors import ConfigError, GateError
from tests.lime_model.samples import FEATURES, config, walks

SHORT = TrainConfig(
    steps=60, blocks_per_step=8, cuts_per_block=6, validate_every=20, checkpoint_every=15, learning_rate=1e-2,
    warmup_steps=5, exclude_seen=False, patience=9,
)  # fmt: skip


def recipe(source: WindowSet, head: Head = "dot", **changes: float | str) -> Recipe:
    settings = config(head=head, dropout=0.1)
    known: dict[str, Any] = {**vars(SHORT), **changes}
    spec = spec_of(FEATURES, source.event_types)
    return Recipe(settings, TrainConfig(**known), vocabulary_of(source, settings.buckets), spec)


def weights(trained: TrainedModel) -> dict[str, torch.Tensor]:
    return trained.model.state_dict()


def silent(line: str) -> None:
    assert line


@pytest.mark.parametrize(("head", "negatives"), [("dot", 1024), ("linear", 1024), ("mlp", 1024), ("mlp", 6)])
def test_a_walk_around_a_ring_is_learnt(head: Head, negatives: int) -> None:
    source = windows_of(walks())
    found = fit(recipe(source, head, negatives=negatives), source, None, None, silent)
    assert found.validation.ndcg10 > found.popularity.ndcg10 + 0.15
    assert not found.model.training


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_a_gpu_that_is_not_there_is_refused_and_auto_does_without() -> None:
    assert training.training_device(TrainConfig()).type == "cpu"
    with pytest.raises(ConfigError, match="TrainConfig.device: expected a GPU, found 'none on this machine'"):
        training.training_device(TrainConfig(device="gpu"))


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU here")
def test_a_gpu_learns_it_too_and_hands_back_a_model_for_the_cpu(tmp_path: Path) -> None:
    source = windows_of(walks())
    found = train(recipe(source), source, tmp_path, silent)
    assert found.validation.ndcg10 > found.popularity.ndcg10 + 0.15
    assert {parameter.device.type for parameter in found.model.parameters()} == {"cpu"}


def test_sampled_softmax_takes_over_above_the_bound() -> None:
    source = windows_of(walks())
    full, sampled = (
        train(recipe(source, steps=2, full_softmax_up_to=bound, negatives=4), source, None, silent) for bound in (99, 5)
    )
    assert any(not torch.equal(a, b) for a, b in zip(weights(full).values(), weights(sampled).values(), strict=True))


def test_the_same_seed_gives_the_same_bits_and_another_one_does_not() -> None:
    source = windows_of(walks())
    first, second, other = (train(recipe(source, seed=seed, steps=10), source, None, silent) for seed in (3, 3, 4))
    assert all(torch.equal(value, weights(second)[name]) for name, value in weights(first).items())
    assert not torch.equal(first.model.encoder.links, other.model.encoder.links)


def test_threads_that_share_a_gradient_add_to_it_in_one_order() -> None:
    source = windows_of(walks(600))  # enough events for torch to deal the sums of a step to several threads
    threads = torch.get_num_threads()
    torch.set_num_threads(4)
    try:
        wide = recipe(source, steps=6, blocks_per_step=512, device="cpu")
        first, *others = (weights(train(wide, source, None, silent)) for _ in range(4))
    finally:
        torch.set_num_threads(threads)
    for other in others:
        assert all(torch.equal(value, other[name]) for name, value in first.items())
    assert not torch.are_deterministic_algorithms_enabled()


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU here")
def test_a_gpu_adds_to_a_gradient_in_one_order() -> None:
    source = windows_of(walks(600))
    wide = recipe(source, steps=20, blocks_per_step=512, device="gpu")
    first, second = (weights(train(wide, source, None, silent)) for _ in range(2))
    assert all(torch.equal(value, second[name]) for name, value in first.items())


@pytest.mark.parametrize(("device", "mode"), [("cpu", 2), ("cuda", 1)])
def test_where_no_order_is_known_a_cpu_refuses_and_a_gpu_warns(device: str, mode: int) -> None:
    with ordered_sums(torch.device(device)):
        assert torch.get_deterministic_debug_mode() == mode
    assert torch.get_deterministic_debug_mode() == 0


def test_training_leaves_the_random_numbers_of_its_caller_alone() -> None:
    source = windows_of(walks(6))
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    train(recipe(source, steps=2), source, None, silent)
    assert torch.equal(torch.rand(3), expected)


def test_a_killed_run_goes_on_to_identical_weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = windows_of(walks())
    whole = train(recipe(source), source, None, silent)
    step = training._Run._step

    def killed(run: training._Run, number: int) -> float:
        if number == 37:
            raise KeyboardInterrupt
        return step(run, number)

    monkeypatch.setattr(training._Run, "_step", killed)
    with pytest.raises(KeyboardInterrupt):
        train(recipe(source), source, tmp_path, silent)
    monkeypatch.setattr(training._Run, "_step", step)
    lines: list[str] = []
    resumed = train(recipe(source), source, tmp_path, lines.append)
    assert "resumed at step 30" in lines
    assert resumed.best_step == whole.best_step
    assert all(torch.equal(value, weights(resumed)[name]) for name, value in weights(whole).items())


def test_it_stops_when_validation_no_longer_gets_better(monkeypatch: pytest.MonkeyPatch) -> None:
    source = windows_of(walks(6))
    figures = iter([0.1, 0.3, 0.2, 0.3, 0.9, 0.9])

    def figure(_: torch.Tensor) -> RankingMetrics:
        return RankingMetrics(next(figures), 0.5, 0.1, 6)

    popular = ranking_metrics(torch.tensor([5]))
    monkeypatch.setattr(training, "popularity_ranks", lambda data, chosen: torch.tensor([5]))
    monkeypatch.setattr(training, "ranking_metrics", lambda ranks: popular if len(ranks) == 1 else figure(ranks))
    validated: dict[int, torch.Tensor] = {}
    seen = Progress.seen

    def noted(progress: Progress, ndcg: float, model: Lime) -> None:
        validated[progress.step] = model.encoder.links.detach().cpu().clone()
        seen(progress, ndcg, model)

    monkeypatch.setattr(Progress, "seen", noted)
    found = train(recipe(source, validate_every=5, patience=2), source, None, silent)
    assert (found.best_step, found.steps) == (10, 20)
    assert torch.equal(found.model.encoder.links, validated[10])
    assert not torch.equal(found.model.encoder.links, validated[20])


def measured(ndcg: float, popular: float) -> TrainedModel:
    source = windows_of(walks(6))
    made = train(recipe(source, steps=1), source, None, silent)
    return replace(
        made, validation=replace(made.validation, ndcg10=ndcg), popularity=replace(made.popularity, ndcg10=popular)
    )


def test_a_model_below_popularity_is_refused() -> None:
    with pytest.raises(GateError, match=r"popularity's 0\.3000, found 0\.2000"):
        check_gate(measured(0.2, 0.3), 0.1, None)


def test_a_model_below_the_current_one_by_more_than_the_margin_is_refused() -> None:
    check_gate(measured(0.46, 0.3), 0.1, 0.5)
    with pytest.raises(GateError, match=r"0\.5000 less 10%, found 0\.4400"):
        check_gate(measured(0.44, 0.3), 0.1, 0.5)


def test_fit_refuses_what_the_gate_refuses() -> None:
    source = windows_of(walks(6))
    with pytest.raises(GateError):
        fit(recipe(source, steps=1), source, None, 5.0, silent)


def test_the_rate_warms_up_and_falls_to_a_tenth() -> None:
    rates = [learning_rate(SHORT, step) for step in range(SHORT.steps)]
    assert rates[0] < rates[4] == max(rates) == SHORT.learning_rate
    assert rates[-1] == pytest.approx(SHORT.learning_rate / 10, rel=0.01)


def test_a_pass_deals_every_block_once() -> None:
    source = windows_of(walks(18))
    made = recipe(source)
    data = training_set(source, made.vocabulary, made.spec)
    run = training._Run(Lime, made, data, validation_set(data, made.train), silent, torch.device("cpu"))
    # 13, 12 and 11 targets in turn at 6 cuts: 42 blocks, in steps of 8 five whole ones a pass; what is over waits
    assert len(run.blocks) == 42
    passes = [torch.cat([run._dealt(step).first for step in range(first, first + 5)]).tolist() for first in (0, 5)]
    for dealt in passes:
        assert len(set(dealt)) == 40 and set(dealt) <= set(run.blocks.first.tolist())
    assert passes[0] != passes[1]


def test_products_are_rounded_in_steps_only(monkeypatch: pytest.MonkeyPatch) -> None:
    found: list[str] = []
    step_loss, ranks = training._Run._loss, training.model_ranks

    def noted(name: str) -> None:
        found.append(f"{name} {torch.get_float32_matmul_precision()}")

    monkeypatch.setattr(training._Run, "_loss", lambda run, batch: (noted("step"), step_loss(run, batch))[1])
    monkeypatch.setattr(training, "model_ranks", lambda *words: (noted("validation"), ranks(*words))[1])
    source = windows_of(walks(6))
    train(recipe(source, steps=1, matmul_precision="medium"), source, None, silent)
    assert found == ["step medium", "validation highest", "validation highest"]
    assert torch.get_float32_matmul_precision() == "highest"
    with pytest.raises(ConfigError, match="matmul_precision: expected one of highest, high, medium, found 'low'"):
        TrainConfig(matmul_precision="low")
