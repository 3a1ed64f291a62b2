"""Binary tasks per event type: learnt beside the next event, and one more weighted sum in the score."""

import pytest
import torch
from torch import Tensor

from lime_model.batches import HistoryBatch, ItemInputs
from lime_model.blocks import whole_windows
from lime_model.config import HEADS, Head, ModelConfig, TrainConfig
from lime_model.features import encode_items
from lime_model.model import Lime
from lime_model.recipe import Recipe
from lime_model.specify import spec_of, vocabulary_of
from lime_model.train import TrainedModel, train
from lime_model.training_set import training_set
from lime_model.windows import windows_of
from schemas.errors import ConfigError
from tests.lime_model.samples import FEATURES, ITEMS, SPEC, VOCABULARY, config, history_batch, lime, walks

BOTH = {"task_types": ["like", "click"], "task_weights": [0.5, -2.0]}
ITEM_INPUTS = encode_items(VOCABULARY, SPEC, ITEMS, FEATURES)


def with_tasks(head: Head, **changes: object) -> ModelConfig:
    return ModelConfig.from_json({**config(head=head).to_json(), **BOTH, **changes})


def outputs(model: Lime, P: Tensor) -> Tensor:
    """Of every task alone, the next event's first [1 + T, B, C]."""
    assert model.tasks is not None
    vectors = model.tower(ITEM_INPUTS)
    return torch.stack([model.score_all(P, model.weights_of(vectors, mix)) for mix in model.tasks.alone()])


@pytest.mark.parametrize("head", HEADS)
def test_the_ranked_score_is_the_weighted_sum_of_the_outputs(head: Head) -> None:
    model = lime(with_tasks(head))
    P = model.personalize_links(history_batch([3, 8, 0], 8))
    ranked, alone = model.score_all(P, model.candidate_weights(ITEM_INPUTS)), outputs(model, P)
    torch.testing.assert_close(ranked, alone[0] + 0.5 * alone[1] - 2.0 * alone[2], rtol=1e-4, atol=1e-5)
    assert not torch.allclose(ranked, alone[0], atol=0.1)


def test_what_is_the_same_for_all_items_is_still_kept_once() -> None:
    for head in HEADS:
        assert (lime(with_tasks(head)).candidate_weights(ITEM_INPUTS).w is None) == (head != "dot")


def test_an_untrained_task_changes_no_list() -> None:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = Lime(with_tasks("mlp"), VOCABULARY, SPEC).eval()
    P = model.personalize_links(history_batch([3, 8], 8))
    assert torch.equal(model.score_all(P, model.candidate_weights(ITEM_INPUTS)), outputs(model, P)[0])


SOURCE = windows_of(walks())  # items at even places of the ring are viewed, those at odd ones liked
RING, LIKED = ITEMS[:10], [place for place in range(10) if place % 2 == 1]


def trained_on_walks(head: Head, weight: float) -> TrainedModel:
    model = with_tasks(head, task_types=["like"], task_weights=[weight])
    settings = TrainConfig(
        steps=150, blocks_per_step=8, cuts_per_block=6, validate_every=150, learning_rate=1e-2, warmup_steps=5,
        exclude_seen=False, task_loss=1.0,
    )  # fmt: skip
    recipe = Recipe(model, settings, vocabulary_of(SOURCE, 4), spec_of(FEATURES, SOURCE.event_types))
    return train(recipe, SOURCE, None, lambda line: None)


def links_and_ring(model: Lime) -> tuple[Tensor, ItemInputs]:
    """Links of every walker, and the ring's items."""
    vocabulary, spec = vocabulary_of(SOURCE, 4), spec_of(FEATURES, SOURCE.event_types)
    data = training_set(SOURCE, vocabulary, spec)
    batch = data.batch(whole_windows(SOURCE, torch.arange(len(SOURCE))))
    P = model.personalize_links(HistoryBatch(data.pairs.take(batch.codes), batch.events))
    return P, encode_items(vocabulary, spec, RING, FEATURES[:10])


@pytest.mark.parametrize("head", HEADS)
def test_a_task_learns_the_type_and_the_next_event_is_learnt_beside_it(head: Head) -> None:
    found = trained_on_walks(head, 0.0)
    model, tasks = found.model, found.model.tasks
    assert found.validation.ndcg10 > found.popularity.ndcg10 + 0.15
    assert tasks is not None
    with torch.inference_mode():
        P, ring = links_and_ring(model)
        outputs = model.score_all(P, model.weights_of(model.tower(ring), tasks.alone()[1]))
    last = [RING.index(window.item_ids[-1]) for window in walks()]
    following = [(place + 1) % 10 for place in last]
    found_liked = (outputs[torch.arange(len(last)), following] > 0).tolist()
    agree = [said == (place in LIKED) for said, place in zip(found_liked, following, strict=True)]
    assert sum(agree) > 0.9 * len(agree)


def test_a_heavy_task_orders_the_lists() -> None:
    model = trained_on_walks("dot", 1000.0).model
    with torch.inference_mode():
        P, ring = links_and_ring(model)
        first = model.score_all(P, model.candidate_weights(ring)).topk(5).indices
    liked = [place in LIKED for row in first.tolist() for place in row]
    assert sum(liked) > 0.8 * len(liked)  # by chance a half


def test_a_type_that_training_has_not_seen_is_refused_by_name() -> None:
    settings = with_tasks("dot", task_types=["like", "buy"])
    with pytest.raises(ConfigError, match=r"task_types: expected types among click, like, view, found \['buy'\]"):
        Lime(settings, VOCABULARY, SPEC)


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"task_weights": [1.0]}, "task_weights: expected one number for each of 2 task_types"),
        ({"task_types": ["like", "like"]}, "task_types: expected distinct event types"),
        ({"task_types": [1, 2]}, "task_types: expected str, found 1"),
        ({"task_weights": ["1", "2"]}, "task_weights: expected float, found '1'"),
        ({"kind": "hstu", "links": 1}, "task_types: expected (), as kind is hstu"),
    ],
)
def test_a_wrong_task_setting_is_named(changes: dict[str, object], named: str) -> None:
    with pytest.raises(ConfigError) as raised:
        with_tasks("dot", **changes)
    assert named in str(raised.value)
