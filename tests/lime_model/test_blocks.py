import random

import pytest
import torch

from lime_model.blocks import Blocks, deal, last_events, training_blocks, whole_windows
from lime_model.windows import Window, WindowSet, cut_windows, windows_of


def users(count: int, length: int, context: int) -> WindowSet:
    """Histories of every length up to `count`, each event an item of its own, cut into windows."""
    dice = random.Random(count)
    windows = []
    for user in range(count):
        items = [f"i{user}-{number}" for number in range(user)]
        whole = Window(f"u{user}", items, ["{}"] * user, ["view"] * user, list(range(user)))
        windows += cut_windows(whole, length, context)
    dice.shuffle(windows)
    return windows_of(windows)


def rows(blocks: Blocks) -> list[tuple[int, int, int]]:
    return list(zip(blocks.start.tolist(), blocks.first.tolist(), blocks.end.tolist(), strict=True))


@pytest.mark.parametrize("horizon", [1, 3])
def test_every_training_event_follows_a_cut_and_sees_the_events_before_it(horizon: int) -> None:
    source, cuts, history = users(25, 10, 5), 4, 5
    starts = source.offsets.tolist()
    met = torch.zeros(len(source.codes), dtype=torch.int64)
    for start, first, end in rows(training_blocks(source, cuts, horizon, history)):
        window = max(number for number, opens in enumerate(starts[:-1]) if opens <= first)
        assert first - start == min(history, first - starts[window])
        last = starts[window + 1] - int(source.is_last[window])
        assert end == min(first + cuts + horizon - 1, last)
        met[first : min(first + cuts, end)] += 1
    assert torch.equal(met > 0, source.trained())
    assert int(met.max()) <= 2


def test_only_the_last_block_of_a_window_reaches_back() -> None:
    events = Window("u", list("abcdefghij"), ["{}"] * 10, ["view"] * 10, list(range(10)), targets_from=2)
    blocks = training_blocks(windows_of([events]), 3, 1, 2)
    assert rows(blocks) == [(0, 2, 5), (3, 5, 8), (4, 6, 9)]  # the tenth event validates
    assert rows(blocks.take(torch.tensor([1]))) == [(3, 5, 8)]


def test_a_window_validates_by_its_last_event() -> None:
    three = Window("u", list("abc"), ["{}"] * 3, ["view"] * 3, [1, 2, 3])
    source = windows_of([three, Window("v", ["d"], ["{}"], ["view"], [1])])
    assert rows(last_events(source, torch.tensor([1, 0]), 1)) == [(3, 3, 4), (1, 2, 3)]
    assert rows(whole_windows(source, torch.tensor([0]))) == [(0, 3, 3)]


def test_a_pass_deals_every_block_at_most_once_in_steps_that_pad_little() -> None:
    blocks = training_blocks(users(40, 10, 5), 4, 1, 5)
    dealt = [deal(blocks, 6, torch.Generator().manual_seed(seed)) for seed in (1, 1, 2)]
    for steps in dealt:
        assert [len(step) for step in steps] == [6] * (len(blocks) // 6)
        assert len(torch.cat(steps).unique()) == 6 * len(steps)
    assert all(torch.equal(one, again) for one, again in zip(dealt[0], dealt[1], strict=True))
    assert not torch.equal(dealt[0][0], dealt[2][0])
    padded = [int((blocks.lengths[step].max() - blocks.lengths[step]).sum()) for step in dealt[0]]
    at_random = torch.randperm(len(blocks), generator=torch.Generator().manual_seed(3))[: 6 * len(padded)].split(6)
    assert sum(padded) < sum(int((blocks.lengths[step].max() - blocks.lengths[step]).sum()) for step in at_random) / 2


def test_blocks_too_few_for_a_step_are_one() -> None:
    blocks = training_blocks(users(4, 10, 5), 4, 1, 5)
    (step,) = deal(blocks, 99, torch.Generator().manual_seed(1))
    assert sorted(step.tolist()) == list(range(len(blocks)))
