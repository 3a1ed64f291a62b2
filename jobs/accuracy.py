"""Rows of `evaluate_lists` -> the accuracy of all nights so far: plain arithmetic on sums, no Spark."""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date

ENOUGH_USERS = 100
"""Below it an interval is itself a guess: the report says so instead of showing one."""
Z95 = 1.96
MEASURES = {"ndcg": "NDCG@10", "hit": "Hit rate@10"}
WHO = ("model", "popularity", "difference")


@dataclass(frozen=True)
class Evaluation:
    """What one night found of the lists served before it; `figures` are the stage's metrics."""

    night: date
    figures: Mapping[str, float]

    @property
    def users(self) -> int:
        """Judged users who had a list of the model."""
        return int(self.figures.get("users", 0))

    def mean(self, who: str, measure: str) -> float:
        """The night's own mean; asks for at least one user."""
        return self.figures[f"{who}_{measure}_sum"] / self.users


@dataclass(frozen=True)
class Estimate:
    """A mean over users with half the width of its 95 % interval."""

    users: int
    mean: float
    margin: float

    @property
    def enough(self) -> bool:
        """Whether there are users enough to say anything."""
        return self.users >= ENOUGH_USERS


def one_per_list(evaluations: Iterable[Evaluation]) -> list[Evaluation]:
    """The evaluations that may be added up, in order of nights.

    A night that runs again, or after one that was refused, judges the same served list once more, over the same
    time or a longer one: the longest stands, so no event counts twice.
    """
    longest: dict[float, Evaluation] = {}
    for evaluation in evaluations:
        version = evaluation.figures.get("served_version")
        if version is None or not evaluation.users:
            continue
        kept = longest.get(version)
        if kept is None or evaluation.figures["until_epoch"] >= kept.figures["until_epoch"]:
            longest[version] = evaluation
    return sorted(longest.values(), key=lambda e: (e.night, e.figures["served_version"]))


def pooled(evaluations: Sequence[Evaluation], who: str, measure: str) -> Estimate:
    """Mean over all judged users of all evaluations, a user once a night; an error of zero for one user."""
    users = sum(e.users for e in evaluations)
    if not users:
        return Estimate(0, 0.0, 0.0)
    total = sum(e.figures[f"{who}_{measure}_sum"] for e in evaluations)
    squares = sum(e.figures[f"{who}_{measure}_sq"] for e in evaluations)
    mean = total / users
    variance = max(squares - users * mean * mean, 0.0) / max(users - 1, 1)
    return Estimate(users, mean, Z95 * math.sqrt(variance / users))


def running(evaluations: Sequence[Evaluation], who: str, measure: str) -> list[Estimate]:
    """The pooled estimate as it stood after each evaluation."""
    return [pooled(evaluations[:n], who, measure) for n in range(1, len(evaluations) + 1)]
