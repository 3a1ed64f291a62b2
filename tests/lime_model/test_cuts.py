import torch

from lime_model.cuts import next_events, random_cuts
from lime_model.specify import spec_of, vocabulary_of
from lime_model.training_set import training_set
from lime_model.windows import windows_of
from tests.lime_model.samples import FEATURES, walks


def test_cuts_are_distinct_targets_and_only_targets() -> None:
    targets = torch.tensor([[False, True, True, True, False], [False, False, False, False, True]])
    for _ in range(20):
        real, positions = random_cuts(targets, 2)
        assert real.tolist() == [[True, True], [True, False]]
        assert set(positions[0].tolist()) <= {1, 2, 3} and len(set(positions[0].tolist())) == 2
        assert int(positions[1, 0]) == 4


def test_a_cut_predicts_the_next_events_of_its_window_as_far_as_the_horizon() -> None:
    source = windows_of(walks(5))
    batch = training_set(source, vocabulary_of(source, 4), spec_of(FEATURES, source.event_types)).batch(torch.arange(5))
    real, positions = random_cuts(batch.targets, 12)
    cuts, codes = next_events(batch, positions, real, 3)
    expected = []
    for cut, (window, place) in enumerate(real.nonzero().tolist()):
        first = int(positions[window, place])
        targets = [p for p in range(first, first + 3) if p < batch.codes.shape[1] and batch.targets[window, p]]
        expected += [(cut, int(batch.codes[window, p])) for p in targets]
    assert list(zip(cuts.tolist(), codes.tolist(), strict=True)) == expected
    assert len(expected) > 2 * int(real.sum())
