"""A backfill's arguments choose whose weights are looked at."""

from datetime import UTC, date, datetime
from pathlib import Path

import pytest
from pyspark.sql import SparkSession

from jobs.weigh_candidates import arg_parser, chosen_items
from schemas.errors import InputError


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ([], "abc"),
        (["--since", "2026-01-02"], "bc"),  # from that day's first instant
        (["--until", "2026-01-02"], "ab"),  # to that day's last
        (["--since", "2026-01-02", "--until", "2026-01-02"], "b"),
        (["--items", "FILE"], "ac"),
        (["--items", "FILE", "--since", "2026-01-02"], "c"),
    ],
)
def test_items_are_chosen_by_list_and_by_the_day_their_interval_opened(
    spark: SparkSession, tmp_path: Path, words: list[str], expected: str
) -> None:
    named = tmp_path / "items.txt"
    named.write_text("a\n\nc\nunknown\n")
    opened = {
        "a": datetime(2026, 1, 1, 23, 59, 59, tzinfo=UTC),
        "b": datetime(2026, 1, 2, tzinfo=UTC),
        "c": datetime(2026, 1, 3, tzinfo=UTC),
    }
    catalogue = spark.createDataFrame(list(opened.items()), "item_id string, valid_from timestamp")
    given = [str(named) if word == "FILE" else word for word in words]
    args = arg_parser().parse_args(["--config", "c", "--date", "2026-01-05", *given])
    found = chosen_items(args.items, args.since, args.until)(catalogue).collect()
    assert "".join(sorted(row["item_id"] for row in found)) == expected


def test_a_list_that_is_not_there_is_named(spark: SparkSession, tmp_path: Path) -> None:
    catalogue = spark.createDataFrame([("a",)], "item_id string")
    with pytest.raises(InputError, match="--items .*none.txt: expected a file with one item id a line"):
        chosen_items(str(tmp_path / "none.txt"), date(2026, 1, 1), None)(catalogue)
