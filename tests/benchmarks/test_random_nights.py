from pyspark.sql import SparkSession

from benchmarks.random_nights import random_nights


def test_nights_of_hundreds_of_random_lives_equal_plain_references(spark: SparkSession) -> None:
    """Invariants 1, 2, 4, 6 and 7: what random nights leave is what a rebuild and plain Python make of it."""
    assert random_nights(users=300, items=100, nights=3, seed=1, compared=[2]) == []
