"""A limit on workers' memory is one on address space: what they map must fit under it."""

import pytest
from pyspark import SparkConf, SparkContext
from pyspark.sql import SparkSession

from jobs.candidates import HEADROOM, require_address_space
from schemas.errors import ConfigError


@pytest.mark.parametrize(
    ("cores", "value", "fits"), [(1, 4100, True), (1, 4099, False), (2, 8200, True), (2, 8199, False)]
)
def test_a_worker_limit_below_what_is_mapped_is_refused(
    spark: SparkSession, monkeypatch: pytest.MonkeyPatch, cores: int, value: int, fits: int
) -> None:
    settings = (
        SparkConf(False).set("spark.executor.pyspark.memory", f"{value}m").set("spark.executor.cores", str(cores))
    )
    monkeypatch.setattr(SparkContext, "getConf", lambda self: settings)
    mapped = (4100 << 20) - HEADROOM
    if fits:
        require_address_space(spark, mapped)
        return
    needed = 4100 * cores
    with pytest.raises(ConfigError, match=rf"spark\.executor\.pyspark\.memory={value}m: expected at least {needed}m"):
        require_address_space(spark, mapped)


def test_without_a_limit_any_size_is_mapped(spark: SparkSession) -> None:
    require_address_space(spark, 1 << 50)
