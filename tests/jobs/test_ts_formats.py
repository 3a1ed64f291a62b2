"""Timestamp patterns: what the configuration lets through is just what Spark can parse."""

import pytest
from pyspark.errors import PySparkException
from pyspark.sql import SparkSession
from pyspark.sql import functions as F

from jobs.config import EventSource
from jobs.ts_formats import check_ts_format
from schemas.errors import ConfigError

GOOD = {
    "yyyy-MM-dd'T'HH:mm:ss[.SSS]XXX": "2026-01-02T03:04:05.678+00:00",
    "dd/MM/yy hh:mm a": "02/01/26 03:04 AM",
    "yyyyMMddHHmmss": "20260102030405",
    "d MMM y 'at' k 'o''clock'": "2 Jan 2026 at 3 o'clock",
    "yyyy-DDD": "2026-002",
    "yyyy-MM-dd HH:mm VV": "2026-01-02 03:04 UTC",
    "yyyy-MM-dd O": "2026-01-02 GMT",
}
SPARK_REFUSES = [
    "isoo", "epoch_second", "YYYY-MM-dd", "uuuu-MM-dd", "yyyy-MM-dd'T", "yyyy-MM-ddd", "yyyy-MM-dd HH]",
    "EEE dd MMM yyyy", "yyyy-MM-dd #", "yyyy-MMMMM-dd", "yyyy-MM-dd SSSSSSSSSS", "yyyy-MM-dd V", "yyyy-MM-dd OO",
    "yyyy-MM-dd aa", "yyyy-MM-dd XXXXXX", "yyyy-MM-dd QQ",
]  # fmt: skip
# parsed, but completed with 1970 or January
NO_DATE = ["HH:mm", "yyyy", "yyyy-mm-dd", "MM-dd HH:mm", "'yyyy-MM-dd'", ""]


def test_what_spark_parses_is_let_through(spark: SparkSession) -> None:
    for pattern in [*GOOD, "iso", "epoch_seconds", "epoch_millis"]:
        check_ts_format("events.ts_format", pattern)
    parsed = [F.try_to_timestamp(F.lit(value), F.lit(pattern)).isNotNull() for pattern, value in GOOD.items()]
    row = spark.range(1).select(*[column.alias(f"c{n}") for n, column in enumerate(parsed)]).first()
    assert row is not None
    assert all(row), list(zip(GOOD, row, strict=True))


@pytest.mark.parametrize("pattern", [*SPARK_REFUSES, *NO_DATE])
def test_what_spark_does_not_parse_is_a_configuration_error(pattern: str) -> None:
    with pytest.raises(ConfigError, match="events.ts_format: expected iso, epoch_seconds, epoch_millis or a Spark"):
        EventSource("csv", "x", {"user_id": "u", "item_id": "i", "event_ts": "t"}, ts_format=pattern)


@pytest.mark.parametrize("pattern", SPARK_REFUSES)
def test_spark_says_so_too(spark: SparkSession, pattern: str) -> None:
    with pytest.raises(PySparkException):
        spark.range(1).select(F.try_to_timestamp(F.lit("2026-01-02"), F.lit(pattern))).collect()
