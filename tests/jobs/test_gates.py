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


def refusals(spark: SparkSession, frame: Frame, *lists: dict[str, Any], served: str = "a") -> list[str]:
    """Gates that refuse these lists of users u1 and u2 over items a and b, after both were served `served`."""
    users = spark.createDataFrame([("u1",), ("u2",)], "user_id string")
    available = spark.createDataFrame([("a",), ("b",)], "item_id string")
    before = [{"user_id": user, "items": [(1, served, 1.0)]} for user in ("u1", "u2")]
    figures = gate_figures(
        frame(RECOMMENDATIONS, LIST, *lists), users, available, frame(SERVING_RECOMMENDATIONS, LIST, *before), K
    )
    return refused_gates(figures, PublishConfig(min_overlap=0.5))


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
    ],
)
def test_bad_lists_are_refused(spark: SparkSession, frame: Frame, second: dict[str, Any], expected: str) -> None:
    found = refusals(spark, frame, {"user_id": "u1"}, {"user_id": "u2", **second})
    assert any(expected in sentence for sentence in found), found


def test_lists_that_share_too_little_with_last_night_are_refused(spark: SparkSession, frame: Frame) -> None:
    found = refusals(spark, frame, {"user_id": "u1"}, {"user_id": "u2"}, served="z")
    assert found == ["overlap with last night: expected at least 0.5, found 0"]
