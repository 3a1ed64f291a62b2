import torch

from lime_model.blocks import training_blocks
from lime_model.cuts import cuts_of, next_events
from lime_model.specify import spec_of, vocabulary_of
from lime_model.training_set import training_set
from lime_model.windows import windows_of
from tests.lime_model.samples import FEATURES, walks


def test_cuts_are_the_first_targets_and_only_targets() -> None:
    targets = torch.tensor([[False, True, True, True, False], [False, False, False, False, True]])
    real, positions = cuts_of(targets, 2)
    assert real.tolist() == [[True, True], [True, False]]
    assert positions[real].tolist() == [1, 2, 4]
    real, positions = cuts_of(targets, 7)
    assert positions[real].tolist() == [1, 2, 3, 4]


def test_a_cut_predicts_the_next_events_of_its_window_as_far_as_the_horizon() -> None:
    source = windows_of(walks(5))
    data = training_set(source, vocabulary_of(source, 4), spec_of(FEATURES, source.event_types))
    batch = data.batch(training_blocks(source, 12, 3, 20))
    real, positions = cuts_of(batch.targets, 12)
    cuts, places = next_events(batch, positions, real, 3)
    expected = []
    for cut, (window, place) in enumerate(real.nonzero().tolist()):
        first = int(positions[window, place])
        targets = [p for p in range(first, first + 3) if p < batch.codes.shape[1] and batch.targets[window, p]]
        expected += [(cut, int(batch.codes[window, p])) for p in targets]
    assert list(zip(cuts.tolist(), batch.codes.flatten()[places].tolist(), strict=True)) == expected
    assert len(expected) > 2 * int(real.sum())
