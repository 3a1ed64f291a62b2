import pytest
from pyspark.sql import SparkSession

from benchmarks.random_nights import random_nights
from jobs import rewrite
from jobs.lake import Lake


def test_nights_of_hundreds_of_random_lives_equal_plain_references(
    spark: SparkSession, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Invariants 1, 2, 4, 6 and 7: what random nights leave is what a rebuild and plain Python make of it.

    Links and weights are merged, as in large tables, and once all of them are written after that.
    """
    merged: list[str] = []

    def upsert(lake: Lake, *words: object) -> int:
        merged.append(words[0].name)  # type: ignore[attr-defined]
        if len(merged) == 2:
            monkeypatch.setattr(rewrite, "LEAST_KEPT", 1_000_000)
        return plain(lake, *words)  # type: ignore[arg-type]

    plain = Lake.upsert
    monkeypatch.setattr(Lake, "upsert", upsert)
    monkeypatch.setattr(rewrite, "LEAST_KEPT", 0)
    monkeypatch.setattr(rewrite, "MOST_MERGED", 0.9)
    assert random_nights(users=300, items=100, nights=2, seed=1, compared=[1]) == []
    assert merged == ["link_embeddings", "candidate_weights"]
