from collections import Counter
from dataclasses import replace

import pytest

from lime_model.windows import Window, WindowBuilder, cut_windows, windows_of
from schemas.errors import InputError


def history(n: int) -> Window:
    return Window("u", [f"i{k}" for k in range(n)], ["{}"] * n, ["view"] * n, [k * 10 for k in range(n)])


@pytest.mark.parametrize("n", [1, 4, 5, 6, 9, 10, 23])
@pytest.mark.parametrize(("length", "context"), [(5, 2), (5, 0), (4, 3)])
def test_every_event_is_a_target_once_and_sees_its_context(n: int, length: int, context: int) -> None:
    windows = cut_windows(history(n), length, context)
    targets = [item for w in windows for item in w.item_ids[w.targets_from :]]
    assert targets == [f"i{k}" for k in range(n)]
    assert [w.is_last for w in windows] == [False] * (len(windows) - 1) + [True]
    assert all(len(w.item_ids) <= length for w in windows)
    assert all(w.targets_from == context for w in windows[1:-1])
    if len(windows) > 1:  # the last one is full, so that its targets see as much as there is
        assert len(windows[-1].item_ids) == length
        assert windows[-1].targets_from >= context


def test_windows_that_are_all_context_are_refused() -> None:
    with pytest.raises(InputError, match="context < length"):
        cut_windows(history(3), 2, 2)


def test_training_targets_leave_out_context_and_validation_events() -> None:
    windows = windows_of(cut_windows(history(8), 5, 2))
    trained = [windows.item_ids[code] for code in windows.codes[windows.trained()].tolist()]
    assert Counter(trained) == Counter(f"i{k}" for k in range(7))  # i7 validates


def test_every_distinct_item_version_and_type_is_kept_once() -> None:
    one = history(3)
    changed = replace(one, user_id="v", features=["{}", '{"a":1}', "{}"], event_types=["view", "like", "view"])
    windows = windows_of([one, changed])
    assert list(zip(windows.item_ids, windows.features, strict=True)) == [
        ("i0", "{}"),
        ("i1", "{}"),
        ("i2", "{}"),
        ("i1", '{"a":1}'),
    ]
    assert windows.event_types == ("view", "like")
    assert windows.codes.tolist() == [0, 1, 2, 0, 3, 2]
    assert windows.user.tolist() == [0, 1]
    assert windows.lengths.tolist() == [3, 3]


@pytest.mark.parametrize("damage", [{"event_ts": [1]}, {"targets_from": 4}, {"targets_from": -1}])
def test_a_window_whose_lists_do_not_fit_is_refused(damage: dict[str, object]) -> None:
    with pytest.raises(InputError, match="training window 0"):
        WindowBuilder().add(replace(history(3), **damage))  # type: ignore[arg-type]
