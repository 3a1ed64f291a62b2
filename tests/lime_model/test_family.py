"""Every model of the family behind the same two halves, against its plain form."""

from pathlib import Path
from typing import Any

import pytest
import torch

from lime_model.batches import Events, HistoryBatch
from lime_model.config import DOT_KINDS, LINK_KINDS, TrainConfig
from lime_model.encoders.links import LinkEncoder
from lime_model.features import encode_items
from lime_model.frozen import CandidatePredictor, FrozenShapes, LinkPredictor
from lime_model.model import Lime
from lime_model.package import load_package, save_package
from lime_model.recipe import Recipe
from lime_model.specify import spec_of, vocabulary_of
from lime_model.train import train
from lime_model.windows import cut_windows, windows_of
from schemas.errors import ConfigError
from tests.lime_model.family_reference import plain_links, read_memory
from tests.lime_model.reference import pair_score
from tests.lime_model.samples import (
    FEATURES,
    ITEMS,
    SPEC,
    VOCABULARY,
    chosen_rows,
    config,
    histories,
    history_batch,
    lime,
    package,
    walks,
)

ITEM_INPUTS = encode_items(VOCABULARY, SPEC, ITEMS, FEATURES)
MEMORY = {"memory_slots": 16, "memory_reads": 3}
CPU = torch.device("cpu")
SHAPES = FrozenShapes(rows_per_call=4, length_buckets=(4,), items_per_call=8)

DOTS = [pytest.param({"kind": kind, "links": 1}, id=kind) for kind in DOT_KINDS]
WITH_MEMORY = [pytest.param({"kind": kind, **MEMORY}, id=f"{kind} with memory") for kind in LINK_KINDS]
DEPTHS = [
    pytest.param({"kind": kind, "layers": layers}, id=f"{kind}, {layers} layers")
    for kind in ("lime-mha", "elastic")  # LIME-XOR without a memory: test_model.py
    for layers in (1, 2, 3)
]
FAMILY = [*DOTS, *WITH_MEMORY, *DEPTHS]

Settings = dict[str, Any]
family = pytest.mark.parametrize("settings", FAMILY)


@family
@pytest.mark.parametrize("use_times", [True, False])
def test_links_at_any_cut_equal_the_plain_form_of_the_prefix(settings: Settings, use_times: bool) -> None:
    model = lime(config(**settings, use_times=use_times))
    cuts = {20: torch.tensor([[0, 1, 5, 8, 9, 20], [13, 0, 2, 7, 8, 12]]), 7: torch.tensor([[0, 1, 7], [3, 5, 6]])}
    for width, at in cuts.items():  # longer than a history, and as long as a causal pass may be
        batch = history_batch([width, width - 7 if width > 7 else 6], width)
        found = model.links_at_cuts(model.tower(batch.items), batch.events, at)
        for row in range(2):
            for q, cut in enumerate(at[row].tolist()):
                expected = plain_links(model, batch, row, cut)
                torch.testing.assert_close(found[row, q], expected, rtol=1e-4, atol=1e-4)


@family
def test_what_stands_in_the_padding_is_never_read(settings: Settings) -> None:
    model = lime(config(**settings))
    one, other = history_batch([3, 0], 8, seed=1), history_batch([3, 0], 8, seed=2)
    items = {name: value.clone() for name, value in vars(other.items).items()}
    events = {"event_type": other.events.event_type.clone(), "event_ts": other.events.event_ts.clone()}
    for name in items:
        items[name][0, :3] = getattr(one.items, name)[0, :3]
    for name in events:
        events[name][0, :3] = getattr(one.events, name)[0, :3]
    mixed = HistoryBatch(type(one.items)(**items), Events(**events, length=other.events.length))
    torch.testing.assert_close(model.personalize_links(one), model.personalize_links(mixed), rtol=0, atol=0)


@family
def test_cached_weights_and_folded_links_give_the_plain_score(settings: Settings) -> None:
    heads = ("dot",) if settings["kind"] in DOT_KINDS else ("linear", "dot", "mlp")
    batch = history_batch([0, 1, 8, 5], 8)
    for head in heads:
        model = lime(config(head=head, **settings))
        P, vectors = model.personalize_links(batch), model.tower(ITEM_INPUTS)
        assert P.shape[1:] == (model.config.links, model.config.width)
        found = model.score_all(P, model.candidate_weights(ITEM_INPUTS))
        for u in range(4):
            for c in range(len(ITEMS)):
                dot = settings["kind"] in DOT_KINDS
                expected = P[u, 0] @ vectors[c] if dot else pair_score(model, P[u], vectors[c])
                torch.testing.assert_close(found[u, c], expected, rtol=1e-4, atol=1e-4)


@family
def test_bits_do_not_depend_on_neighbours(settings: Settings) -> None:
    made, source = package(config(**settings)), histories([0, 3, 8, 5, 1, 8, 2])
    predictor = LinkPredictor(made, SHAPES, CPU)
    together = predictor.predict(source)
    for rows in ([2], [5, 0, 3], [6, 4, 2, 1, 0]):
        assert torch.equal(predictor.predict(chosen_rows(source, rows)), together[rows])
    weigh = CandidatePredictor(made, SHAPES, CPU)
    assert torch.equal(weigh.predict(ITEMS, FEATURES).A[3:5], weigh.predict(ITEMS[3:5], FEATURES[3:5]).A)


@family
def test_a_package_answers_as_the_model_it_was_made_from(settings: Settings, tmp_path: Path) -> None:
    model = lime(config(**settings))
    folder = save_package(tmp_path, model, VOCABULARY, SPEC, {"trained_until": "2026-01-01"})
    loaded, batch = load_package(folder).model, history_batch([3, 8], 8)
    assert torch.equal(loaded.personalize_links(batch), model.personalize_links(batch))


@family
def test_every_parameter_learns_from_a_next_event(settings: Settings) -> None:
    model, batch = lime(config(**settings)), history_batch([8, 5, 0], 8)
    scores = model.score_all(model.personalize_links(batch), model.candidate_weights(ITEM_INPUTS))
    (scores * torch.randn_like(scores)).sum().backward()
    assert [name for name, p in model.named_parameters() if p.grad is None or not p.grad.any()] == []


@pytest.mark.parametrize("settings", [*DOTS, *WITH_MEMORY, pytest.param({"kind": "lime-mha"}, id="lime-mha")])
def test_each_learns_a_walk_around_a_ring(settings: Settings) -> None:
    model = config(**{**settings, "width": 16})
    source = windows_of([part for walk in walks() for part in cut_windows(walk, *model.window)])
    steps = TrainConfig(steps=90, blocks_per_step=16, validate_every=30, learning_rate=1e-2, exclude_seen=False)
    recipe = Recipe(model, steps, vocabulary_of(source, 4), spec_of(FEATURES, source.event_types))
    trained = train(recipe, source, None, lambda line: None)
    assert trained.validation.ndcg10 > trained.popularity.ndcg10 + 0.2


def test_every_position_that_a_full_history_may_end_at_is_trained() -> None:
    model = config(kind="sasrec", links=1, max_history=5)
    source = windows_of([part for walk in walks() for part in cut_windows(walk, *model.window)])
    steps = TrainConfig(steps=1, blocks_per_step=24, cuts_per_block=5, exclude_seen=False, weight_decay=0.0)
    recipe = Recipe(model, steps, vocabulary_of(source, 4), spec_of(FEATURES, source.event_types))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(steps.seed)
        fresh = Lime(model, recipe.vocabulary, recipe.spec)
    trained = train(recipe, source, None, lambda line: None).model
    before, after = (one.state_dict()["encoder.positions.weight"] for one in (fresh, trained))
    assert before.shape[0] == model.max_history - 1
    assert bool((before != after).any(dim=1).all())


def test_a_memory_with_a_slot_for_every_pair_of_keys_is_searched_by_halves() -> None:
    model = lime(config(kind="elastic", memory_slots=144, memory_reads=12))
    encoder = model.encoder
    assert isinstance(encoder, LinkEncoder)
    assert encoder.memory is not None
    tokens = torch.randn(3, 7, 8, generator=torch.Generator().manual_seed(4))
    found = encoder.memory(tokens, torch.tensor([[7], [2], [0]]))[:, 0]
    expected = torch.stack([read_memory(encoder.memory, tokens[row, :n]) for row, n in enumerate((7, 2, 0))])
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"kind": "lime"}, "kind: expected one of lime-xor, lime-mha, elastic, two-tower, sasrec, hstu, found 'lime'"),
        ({"kind": "sasrec"}, "links: expected 1, as kind is sasrec, found 4"),
        ({"kind": "hstu", "links": 1, "head": "mlp"}, "head: expected 'dot', as kind is hstu, found 'mlp'"),
        ({"kind": "two-tower", "links": 1, **MEMORY}, "memory_slots: expected 0, as kind is two-tower, found 16"),
        ({"memory_slots": 15}, "memory_slots: expected 0 or a square number, found 15"),
        ({"memory_slots": 16}, "memory_reads: expected at most 4, the square root of memory_slots, found 8"),
        ({"links": 1, **MEMORY}, "links: expected at least 2, one of them the memory's, found 1"),
    ],
)
def test_settings_that_do_not_fit_each_other_are_refused(changes: Settings, expected: str) -> None:
    with pytest.raises(ConfigError) as refused:
        config(**changes)
    assert str(refused.value) == f"ModelConfig.{expected}"
