"""Pooling nights: sums add up, and one list is judged once."""

import math
import statistics
from datetime import date

import pytest

from jobs.accuracy import Evaluation, one_per_list, pooled, running


def evaluation(night: int, version: int, until: int, model: list[float], popularity: list[float]) -> Evaluation:
    """What `evaluate_lists` would record of these users' NDCG."""
    values = {"model": model, "popularity": popularity}
    values["difference"] = [a - b for a, b in zip(model, popularity, strict=True)]
    figures = {"users": float(len(model)), "served_version": float(version), "until_epoch": float(until)}
    for who, found in values.items():
        figures |= {f"{who}_ndcg_sum": sum(found), f"{who}_ndcg_sq": sum(x * x for x in found)}
    return Evaluation(date(2026, 3, night), figures)


FIRST = evaluation(1, 1, 1, [0.5, 0.0, 1.0], [0.1, 0.2, 0.3])
SECOND = evaluation(2, 2, 2, [0.25], [0.5])


def test_pooled_nights_are_as_good_as_one_night_of_all_their_users() -> None:
    users = [0.5, 0.0, 1.0, 0.25]
    found = pooled([FIRST, SECOND], "model", "ndcg")
    assert found.users == 4
    assert found.mean == pytest.approx(statistics.mean(users))
    assert found.margin == pytest.approx(1.96 * statistics.stdev(users) / math.sqrt(4))


def test_the_difference_is_paired() -> None:
    differences = [0.4, -0.2, 0.7, -0.25]
    found = pooled([FIRST, SECOND], "difference", "ndcg")
    assert found.mean == pytest.approx(statistics.mean(differences))
    assert found.margin == pytest.approx(1.96 * statistics.stdev(differences) / 2)


def test_nobody_judged_is_a_mean_of_zero_users() -> None:
    assert pooled([], "model", "ndcg").users == 0


def test_a_hundred_users_are_enough_and_one_less_is_not() -> None:
    enough, less = (pooled([evaluation(1, 1, 1, [0.5] * n, [0.5] * n)], "model", "ndcg") for n in (100, 99))
    assert (enough.enough, less.enough) == (True, False)


def test_of_one_served_list_the_longest_judgement_stands() -> None:
    longer = evaluation(3, 1, 3, [1.0, 1.0], [0.0, 0.0])  # the list of version 1 again, two nights later
    nobody = Evaluation(date(2026, 3, 4), {"users": 0.0, "served_version": 9.0, "until_epoch": 9.0})
    nothing_served = Evaluation(date(2026, 3, 4), {"users": 0.0})
    assert one_per_list([longer, FIRST, SECOND, nobody, nothing_served]) == [SECOND, longer]


def test_running_estimates_end_with_the_pooled_one() -> None:
    found = running([FIRST, SECOND], "model", "ndcg")
    assert [estimate.users for estimate in found] == [3, 4]
    assert found[-1] == pooled([FIRST, SECOND], "model", "ndcg")
