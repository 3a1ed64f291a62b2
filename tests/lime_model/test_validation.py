from math import log2

import pytest
import torch

from lime_model import validation
from lime_model.config import TrainConfig
from lime_model.training_set import TrainingSet, training_set
from lime_model.validation import (
    ABSENT,
    model_ranks,
    popularity_ranks,
    rank_of,
    ranking_metrics,
    validation_set,
)
from lime_model.windows import Window, cut_windows, windows_of
from tests.lime_model.samples import ITEMS, SPEC, VOCABULARY, config, lime

I = ITEMS  # noqa: E741 - one letter keeps the histories readable


def user(name: str, places: list[int], length: int = 10) -> list[Window]:
    n = len(places)
    whole = Window(name, [I[p] for p in places], ["{}"] * n, ["view"] * n, list(range(n)))
    return cut_windows(whole, length, 2)


def dataset() -> TrainingSet:
    # counts: item 0 three times, item 1 twice, items 2 and 3 once; item 5 only validates
    rows = [*user("a", [0, 1, 2, 3]), *user("b", [0, 1, 0, 5]), *user("c", [3, 2])]
    return training_set(windows_of(rows), VOCABULARY, SPEC)


def test_a_rank_counts_the_others_that_score_at_least_as_high() -> None:
    scores = torch.tensor([[3.0, 5.0, 3.0, 1.0]] * 4)
    excluded = torch.zeros(4, 4, dtype=torch.bool)
    excluded[3, 1] = True
    assert rank_of(scores, torch.tensor([0, 1, -1, 3]), excluded).tolist() == [3, 1, ABSENT, 3]


def test_a_score_that_is_not_a_number_ranks_last() -> None:
    scores = torch.full((1, 5), float("nan"))
    assert rank_of(scores, torch.tensor([2]), torch.zeros(1, 5, dtype=torch.bool)).tolist() == [5]


def test_metrics_are_means_over_users() -> None:
    found = ranking_metrics(torch.tensor([1, 2, 11, ABSENT]))
    assert found.hr10 == 0.5
    assert abs(found.ndcg10 - (1 + 1 / log2(3)) / 4) < 1e-12
    assert found.users == 4 and found.ndcg10_error > 0


def test_the_validation_event_is_the_last_of_the_newest_window_and_seen_items_come_from_all_windows() -> None:
    data = training_set(windows_of(user("a", [0, 1, 2, 3, 4, 2], length=4)), VOCABULARY, SPEC)
    chosen = validation_set(data, TrainConfig())
    assert len(data.windows) == 2 and chosen.windows.tolist() == [1]
    assert [I[p] for p in range(3)] == [data.windows.item_ids[data.candidate_pair[c]] for c in range(3)]
    assert chosen.seen[0].tolist() == [0, 1, 3, 4]  # not 2, the target
    assert validation_set(data, TrainConfig(exclude_seen=False)).seen[0].tolist() == []


def test_popularity_ranks_by_training_count_among_the_unseen() -> None:
    data = dataset()
    chosen = validation_set(data, TrainConfig())
    # a: target 3, seen 0 1 2 -> first. b: its target has no training event. c: target 2, seen 3, behind 0 and 1
    assert popularity_ranks(data, chosen).tolist() == [1, ABSENT, 3]


def test_validation_users_are_capped_evenly() -> None:
    rows = [w for n in range(9) for w in user(f"u{n}", [0, 1, 2])]
    data = training_set(windows_of(rows), VOCABULARY, SPEC)
    assert validation_set(data, TrainConfig(validation_users=3)).windows.tolist() == [0, 4, 8]


def test_small_batches_of_users_give_the_same_ranks(monkeypatch: pytest.MonkeyPatch) -> None:
    model, data = lime(config(head="mlp")), dataset()
    chosen = validation_set(data, TrainConfig())
    whole = model_ranks(model, data, chosen)
    monkeypatch.setattr(validation, "PAIR_NUMBERS", 1)
    assert torch.equal(model_ranks(model, data, chosen), whole)


def test_the_model_never_sees_the_event_that_it_is_validated_on() -> None:
    model = lime(config())
    ranks = []
    for last in (2, 3):
        rows = [*user("a", [0, 1, last]), *user("b", [0, 1, 2, 3, 0])]
        data = training_set(windows_of(rows), VOCABULARY, SPEC)
        chosen = validation_set(data, TrainConfig(exclude_seen=False))
        ranks.append(int(model_ranks(model, data, chosen)[0]))
    assert ranks[0] != ranks[1]  # same scores, two targets
    assert not model.training
