"""Each gate refuses what it is there for, and says what it expected and found."""

from typing import Any

import pytest
from pyspark.sql import SparkSession

from jobs.config import PublishConfig
from jobs.gates import gate_figures, refused_gates
from schemas.recommendations import RECOMMENDATIONS
from schemas.serving_recommendations import SERVING_RECOMMENDATIONS
from tests.conftest import Frame

K = 2
LIST: dict[str, Any] = {
    "user_bucket": 0, "items": [(1, "a", 2.0), (2, "b", 1.0)], "source": "model", "model_digest": "m",
    "eligibility_digest": "e", "numerics_id": "n", "run_id": "r",
}  # fmt: skip


def figures_of(spark: SparkSession, frame: Frame, *lists: dict[str, Any], served: str = "a") -> dict[str, float]:
    """Figures of these lists of users u1 and u2 over items a and b, after both were served `served`."""
    users = spark.createDataFrame([("u1",), ("u2",)], "user_id string")
    available = spark.createDataFrame([("a",), ("b",)], "item_id string")
    before = [{"user_id": user, "items": [(1, served, 1.0)]} for user in ("u1", "u2")]
    made, last = frame(RECOMMENDATIONS, LIST, *lists), frame(SERVING_RECOMMENDATIONS, LIST, *before)
    return gate_figures(made, users, available, last, K)


def refusals(spark: SparkSession, frame: Frame, *lists: dict[str, Any], served: str = "a") -> list[str]:
    """Gates that refuse."""
    return refused_gates(figures_of(spark, frame, *lists, served=served), PublishConfig(min_overlap=0.5))


def test_good_lists_pass(spark: SparkSession, frame: Frame) -> None:
    assert refusals(spark, frame, {"user_id": "u1"}, {"user_id": "u2"}) == []


@pytest.mark.parametrize(
    ("second", "expected"),
    [
        pytest.param({"user_id": "u3"}, "lists of unknown users: expected 0, found 1", id="unknown user"),
        pytest.param({"user_id": "u3"}, "user coverage: expected at least 1, found 0.5", id="coverage"),
        pytest.param({"items": [(1, "a", 2.0)]}, "full lists: expected at least 0.99, found 0.5", id="short"),
        pytest.param({"items": [(1, "a", 2.0), (2, "a", 1.0)]}, "lists with repeats: expected 0, found 1", id="repeat"),
        pytest.param({"items": [(1, "a", 2.0), (2, "x", 1.0)]}, "unavailable or unknown items", id="unknown item"),
        pytest.param({"items": [(1, "a", float("nan")), (2, "b", 1.0)]}, "found nan", id="nan"),
        pytest.param({"items": [(1, "a", float("-inf")), (2, "b", 1.0)]}, "found inf", id="infinite"),
        pytest.param({"items": [(1, "a", 2e4), (2, "b", 1.0)]}, "model: expected at most 10000, found 20000", id="big"),
        pytest.param(
            {"items": [(1, "a", float("nan")), (2, "b", 1.0)], "source": "popularity"},
            "lists with a score that is not finite: expected 0, found 1",
            id="a popularity list's nan",
        ),
    ],
)
def test_bad_lists_are_refused(spark: SparkSession, frame: Frame, second: dict[str, Any], expected: str) -> None:
    found = refusals(spark, frame, {"user_id": "u1"}, {"user_id": "u2", **second})
    assert any(expected in sentence for sentence in found), found


def test_a_popularity_list_may_count_any_number_of_events(spark: SparkSession, frame: Frame) -> None:
    busy = {"user_id": "u2", "items": [(1, "a", 3e6), (2, "b", 2e6)], "source": "popularity"}
    assert refusals(spark, frame, {"user_id": "u1"}, busy) == []


def test_lists_of_other_items_are_those_that_differ_from_the_served_ones(spark: SparkSession, frame: Frame) -> None:
    same, longer = {"items": [(1, "a", 9.0)]}, {"items": [(1, "a", 9.0), (2, "b", 1.0)]}
    for second, differ in ((same, 0), (longer, 1), ({"items": []}, 1), ({**same, "user_id": "u3"}, 1)):
        found = figures_of(spark, frame, {"user_id": "u1", **same}, {"user_id": "u2", **second})
        assert found["lists_of_other_items"] == differ


@pytest.mark.parametrize(("lists", "refused"), [(10, False), (6, False), (4, True), (16, True)])
def test_a_night_with_many_more_or_fewer_lists_than_the_last_is_refused(lists: int, refused: bool) -> None:
    figures = {
        "lists": lists, "users": lists, "covered": lists, "full_lists": lists, "lists_of_unknown_users": 0,
        "lists_with_repeats": 0, "lists_without_finite_scores": 0, "max_abs_score": 1, "unavailable_items": 0,
        "served_lists": 10, "overlap": 1,
    }  # fmt: skip
    found = refused_gates({name: float(value) for name, value in figures.items()}, PublishConfig())
    change = abs(lists - 10) / 10
    assert found == ([f"change of rows: expected at most 0.5, found {change:g}"] if refused else [])


def test_lists_that_share_too_little_with_last_night_are_refused(spark: SparkSession, frame: Frame) -> None:
    found = refusals(spark, frame, {"user_id": "u1"}, {"user_id": "u2"}, served="z")
    assert found == ["overlap with last night: expected at least 0.5, found 0"]
