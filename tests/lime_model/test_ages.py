import torch

from lime_model.ages import buckets_of, gap_buckets, time_ages, visible

BOUNDS = torch.tensor([1, 60])
S = 1_000_000


def test_a_value_falls_into_the_bucket_that_counts_the_bounds_below_or_at_it() -> None:
    assert buckets_of(torch.tensor([-5, 0, 1, 59, 60, 9999]), BOUNDS).tolist() == [0, 0, 1, 1, 2, 2]


def test_only_the_first_event_has_no_gap() -> None:
    ts = torch.tensor([[5 * S, 5 * S + 999_999, 7 * S, 1000 * S]])
    assert gap_buckets(ts, BOUNDS).tolist() == [[0, 1, 2, 3]]


def test_a_cut_sees_the_last_events_before_it() -> None:
    seen = visible(torch.tensor([[0, 2, 5]]), 6, max_history=4)
    assert seen[0].int().tolist() == [[0, 0, 0, 0, 0, 0], [1, 1, 0, 0, 0, 0], [0, 0, 1, 1, 1, 0]]


def test_a_full_history_hides_its_oldest_event() -> None:
    assert visible(torch.tensor([[4]]), 4, max_history=4)[0, 0].tolist() == [False, True, True, True]


def test_ages_count_from_the_last_event_of_the_prefix() -> None:
    cuts = torch.tensor([[1, 3]])
    ts = torch.tensor([[10 * S, 12 * S, 40 * S]])
    assert time_ages(ts, cuts)[0].tolist() == [[0, -2, -30], [30, 28, 0]]
