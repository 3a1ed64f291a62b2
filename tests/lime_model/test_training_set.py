import pytest
import torch

from lime_model.blocks import Blocks
from lime_model.training_set import training_set
from lime_model.windows import Window, windows_of
from schemas.errors import EmptyTableError
from tests.lime_model.samples import ITEMS, SPEC, VOCABULARY

A, B, C, LATE = ITEMS[0], ITEMS[1], ITEMS[2], ITEMS[11]
# A gets other features later; LATE is only a validation event: no candidate, no negative
ONE = Window("u", [A, B, A, LATE], ["{}", "{}", '{"year":2000}', "{}"], ["view"] * 4, [1, 2, 30, 40])
TWO = Window("v", [A, C], ["{}", "{}"], ["like", "share"], [5, 6], is_last=False)


def test_candidates_are_the_items_with_training_events_and_their_latest_features() -> None:
    data = training_set(windows_of([ONE, TWO]), VOCABULARY, SPEC)
    pairs = [(data.windows.item_ids[p], data.windows.features[p]) for p in data.candidate_pair.tolist()]
    assert pairs == [(A, '{"year":2000}'), (B, "{}"), (C, "{}")]
    assert data.counts.tolist() == [3, 1, 1]
    assert data.candidate_of.tolist() == [0, 1, 0, -1, 2]


def test_a_batch_is_padded_and_marks_its_targets() -> None:
    data = training_set(windows_of([ONE, TWO]), VOCABULARY, SPEC)
    batch = data.batch(Blocks(torch.tensor([4, 0]), torch.tensor([5, 0]), torch.tensor([6, 3])))
    assert batch.events.length.tolist() == [2, 3]
    assert batch.targets.int().tolist() == [[0, 1, 0], [1, 1, 1]]
    assert batch.codes[0, :2].tolist() == [0, 4]
    assert batch.events.event_type[0, :2].tolist() == [2, 0]  # `share` is unknown to the spec
    assert batch.events.event_ts[1].tolist() == [1, 2, 30]


def test_windows_without_any_training_event_are_refused() -> None:
    alone = Window("u", [A], ["{}"], ["view"], [1])
    with pytest.raises(EmptyTableError, match="training event"):
        training_set(windows_of([alone]), VOCABULARY, SPEC)
