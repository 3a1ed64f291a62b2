"""Judging served lists: the measures on hand-made users, and the job in a lake of two nights."""

import dataclasses
import math
from collections.abc import Iterator
from datetime import UTC, date, datetime
from pathlib import Path

import pytest
from pyspark.sql import DataFrame, Row, SparkSession

from jobs.config import Config, EventSource, ItemSource, LakeConfig, ScoreConfig
from jobs.evaluate_lists import (
    as_judged_users,
    as_pairs,
    figures,
    limit_users,
    publications,
    run,
    served_before,
    with_popularity_rank,
)
from jobs.lake import Commit, Lake
from jobs.stage import Night, StageReport
from schemas.contract import TableContract
from schemas.events import EVENTS
from schemas.items import ITEMS
from schemas.serving_recommendations import SERVING_RECOMMENDATIONS

CUTOFF = datetime(2026, 3, 2, tzinfo=UTC)
SECOND = 1 / math.log2(3)  # the discount of rank 2


def relevant(spark: SparkSession, *rows: tuple[str, str, int | None]) -> DataFrame:
    """(user, item, rank in the popularity list), as `with_popularity_rank` leaves them."""
    made = [(user, item, False, True, rank) for user, item, rank in rows]
    return spark.createDataFrame(
        made, "user_id string, item_id string, seen boolean, relevant boolean, popular_rank int"
    )


def events(spark: SparkSession, *rows: tuple[str, str, str, int]) -> DataFrame:
    """(user, item, type, day of March 2026), at noon."""
    made = [
        (f"e{n}", user, item, kind, datetime(2026, 3, day, 12, tzinfo=UTC), n, None, None, "f", "r")
        for n, (user, item, kind, day) in enumerate(rows)
    ]
    return spark.createDataFrame(made, EVENTS.struct)


def lists(spark: SparkSession, *rows: tuple[str, str, str]) -> DataFrame:
    """(user, source, items as one letter each, best first)."""
    made = [
        (
            user,
            0,
            [(rank, item, 1.0 / rank) for rank, item in enumerate(items, start=1)],
            source,
            "digest",
            "r",
        )
        for user, source, items in rows
    ]
    return spark.createDataFrame(made, SERVING_RECOMMENDATIONS.struct)


def judged(pairs: DataFrame, served: DataFrame, k: int = 20) -> dict[str, Row]:
    return {row["user_id"]: row for row in as_judged_users(pairs, served, k).collect()}


def test_ndcg_and_hit_of_a_single_relevant_item_follow_its_rank(spark: SparkSession) -> None:
    row = judged(relevant(spark, ("u", "b", 1)), lists(spark, ("u", "model", "abc")))["u"]
    assert row["model_ndcg"] == pytest.approx(SECOND)
    assert (row["model_hit"], row["popularity_hit"], row["popularity_ndcg"]) == (1.0, 1.0, 1.0)


def test_several_relevant_items_are_divided_by_the_best_order_of_as_many(spark: SparkSession) -> None:
    # two items, found at ranks 1 and 3, out of three relevant ones
    three = relevant(spark, ("u", "a", None), ("u", "c", None), ("u", "z", None))
    row = judged(three, lists(spark, ("u", "model", "abc")))["u"]
    assert row["model_ndcg"] == pytest.approx((1 + 0.5) / (1 + SECOND + 0.5))
    assert (row["popularity_ndcg"], row["popularity_hit"]) == (0.0, 0.0)


def test_what_stands_below_rank_ten_counts_for_nothing(spark: SparkSession) -> None:
    eleventh = relevant(spark, ("u", "k", 11))
    row = judged(eleventh, lists(spark, ("u", "model", "abcdefghijk")))["u"]
    assert (row["model_ndcg"], row["model_hit"], row["popularity_hit"]) == (0.0, 0.0, 0.0)


def test_the_popularity_list_is_as_short_as_the_served_one(spark: SparkSession) -> None:
    third = relevant(spark, ("u", "c", 3))
    assert judged(third, lists(spark, ("u", "model", "ab")), k=2)["u"]["popularity_hit"] == 0.0


def test_more_relevant_items_than_ranks_can_still_be_perfect(spark: SparkSession) -> None:
    letters = "abcdefghijkl"
    pairs = relevant(spark, *[("u", letter, None) for letter in letters])
    assert judged(pairs, lists(spark, ("u", "model", letters)))["u"]["model_ndcg"] == pytest.approx(1.0)


def test_sums_cover_model_lists_and_count_the_others_apart(spark: SparkSession) -> None:
    pairs = relevant(spark, ("u", "b", 1), ("p", "a", 1), ("nobody", "a", None))
    served = lists(spark, ("u", "model", "ab"), ("p", "popularity", "ab"))
    row = as_judged_users(pairs, served, 20).agg(*figures()).first()
    assert row is not None
    assert (row["users"], row["popularity_list_users"], row["users_without_list"]) == (1, 1, 1)
    assert row["popularity_list_hits"] == 1.0
    assert row["model_ndcg_sum"] == pytest.approx(SECOND)
    assert row["model_ndcg_sq"] == pytest.approx(SECOND**2)
    assert row["difference_ndcg_sum"] == pytest.approx(SECOND - 1)
    assert row["difference_ndcg_sq"] == pytest.approx((SECOND - 1) ** 2)
    assert (row["popularity_hit_sum"], row["difference_hit_sum"]) == (1.0, 0.0)


def test_popularity_rank_skips_what_the_user_has_seen(spark: SparkSession) -> None:
    ranking = spark.createDataFrame([("a", 1), ("b", 2), ("c", 3), ("d", 4)], "item_id string, place int")
    seen, new = True, False
    rows = [
        ("u", "a", seen),
        ("u", "c", new),
        ("u", "d", new),
        ("u", "unranked", new),
        ("u", "unranked and seen", seen),  # takes no place away
        ("v", "c", new),
        ("v", "d", seen),  # worse than c: seeing it changes nothing
    ]
    pairs = spark.createDataFrame(rows, "user_id string, item_id string, seen boolean")
    ranked = with_popularity_rank(pairs, ranking).where("NOT seen").collect()
    found = {(row["user_id"], row["item_id"]): row["popular_rank"] for row in ranked}
    assert found == {("u", "c"): 2, ("u", "d"): 3, ("u", "unranked"): None, ("v", "c"): 3}


def seen_and_relevant(log: DataFrame, config: ScoreConfig, cutoff: datetime = CUTOFF) -> tuple[str, str]:
    """Letters of the items seen at the cut-off, and of those relevant after it."""
    rows = sorted(as_pairs(log, config, cutoff).collect(), key=lambda row: row["item_id"])
    return (
        "".join(row["item_id"] for row in rows if row["seen"]),
        "".join(row["item_id"] for row in rows if row["relevant"]),
    )


def test_seen_is_what_the_filter_held_back_and_the_rest_is_relevant(spark: SparkSession) -> None:
    log = events(
        spark,
        ("u", "a", "view", 1),  # seen, and taken again
        ("u", "a", "view", 2),
        ("u", "b", "buy", 1),  # seen
        ("u", "c", "view", 2),  # new, twice
        ("u", "c", "view", 2),
    )
    assert seen_and_relevant(log, ScoreConfig()) == ("ab", "c")
    # views do not count as seen: a may come back
    assert seen_and_relevant(log, ScoreConfig(seen_types=("buy",))) == ("b", "ac")
    # on the next night, what was seen more than a day ago may come back
    third = datetime(2026, 3, 3, tzinfo=UTC)
    assert seen_and_relevant(log, ScoreConfig(seen_days=1), third) == ("ac", "")


def test_the_sample_of_users_does_not_depend_on_where_rows_lie(spark: SparkSession) -> None:
    users = spark.range(50).selectExpr("concat('u', id) AS user_id")
    chosen = [row["user_id"] for row in limit_users(users, 5).collect()]
    again = [row["user_id"] for row in limit_users(users.repartition(7), 5).collect()]
    assert chosen == again
    assert len(chosen) == 5


def night(spark: SparkSession, root: Path, day: date) -> Night:
    source = EventSource("jsonl", "none", {"user_id": "u", "item_id": "i", "event_ts": "t"})
    config = Config(LakeConfig(str(root)), source, ItemSource("jsonl", "none", {"item_id": "i"}))
    return Night(Lake(spark, str(root)), config, day, f"run-{day}")


def serve(night: Night, served: DataFrame) -> None:
    night.lake.overwrite(SERVING_RECOMMENDATIONS, served, night.stamp("publish"))


def test_a_night_judges_the_list_of_the_night_before_and_not_its_own(spark: SparkSession, tmp_path: Path) -> None:
    first, second = night(spark, tmp_path, date(2026, 3, 1)), night(spark, tmp_path, date(2026, 3, 2))
    beginning = datetime(1970, 1, 1, tzinfo=UTC)
    items = [(item, beginning, None, item, "{}", "{}", item != "x", "r") for item in "abcdx"]
    first.lake.append(ITEMS, spark.createDataFrame(items, ITEMS.struct), first.stamp("ingest_events"))
    log = events(
        spark,
        ("u", "a", "view", 1),  # seen before the list
        ("v", "x", "view", 1),  # x is on top of the counts, and not available
        ("w", "x", "view", 1),
        ("w", "b", "view", 1),
        ("u", "c", "view", 2),  # the list's third item; second on the popularity list b, c, d (a is seen)
        ("u", "a", "view", 2),  # again: not relevant
        ("v", "a", "view", 2),  # v got a popularity list
        ("w", "b", "view", 2),  # w did nothing new
        ("u", "d", "view", 3),  # after tonight's cut-off
    )
    first.lake.append(EVENTS, log, first.stamp("ingest_events"))
    earlier = lists(spark, ("u", "model", "dbc"), ("v", "popularity", "ab"), ("w", "model", "a"))
    serve(first, earlier)
    serve(second, lists(spark, ("u", "model", "c")))  # tonight's own publication, which a rerun finds there

    report = run(second)

    assert (report.rows_in, report.rows_out) == (3, 1)
    assert report.dropped == {"popularity list": 1, "no unseen item": 1}
    assert report.metrics["model_ndcg_sum"] == pytest.approx(0.5)
    assert report.metrics["popularity_ndcg_sum"] == pytest.approx(SECOND)
    assert report.metrics["until_epoch"] - report.metrics["from_epoch"] == 86_400
    commit = served_before(publications(second.lake, date(2026, 3, 2)), date(2026, 3, 2))
    assert commit is not None
    assert report.metrics["served_version"] == commit.version
    back = dataclasses.replace(first, run_id="back").stamp("rollback", restored=commit.version)
    second.lake.overwrite(SERVING_RECOMMENDATIONS, earlier, back)
    assert run(second).metrics == report.metrics, "lists that a rollback brought back count a second time"


def test_publications_are_read_back_to_one_of_an_earlier_night_and_no_further(spark: SparkSession) -> None:
    stamps = [{"logical_date": f"2026-03-{day:02}"} for day in (9, 9, 9, 8)]  # one night served three times over
    history = [Commit(version, stamp) for version, stamp in zip((4, 3, 2, 1), stamps, strict=True)]
    history.append(Commit(0, {}))  # the table was made

    class Served(Lake):
        def commits(self, contract: TableContract) -> Iterator[Commit]:
            return iter(history)

    lake = Served(spark, "lake")
    assert [commit.version for commit in publications(lake, date(2026, 3, 9))] == [4, 3, 2, 1]
    assert [commit.version for commit in publications(lake, date(2026, 3, 10))] == [4]


def test_a_lake_that_served_nothing_has_no_users_to_judge(spark: SparkSession, tmp_path: Path) -> None:
    assert run(night(spark, tmp_path, date(2026, 3, 2))) == StageReport(metrics={"users": 0.0})


def test_a_night_on_which_nobody_acted_has_zero_users(spark: SparkSession, tmp_path: Path) -> None:
    first, second = night(spark, tmp_path, date(2026, 3, 1)), night(spark, tmp_path, date(2026, 3, 2))
    item = ("a", datetime(1970, 1, 1, tzinfo=UTC), None, "a", "{}", "{}", True, "r")
    first.lake.append(ITEMS, spark.createDataFrame([item], ITEMS.struct), first.stamp("ingest_events"))
    first.lake.append(EVENTS, events(spark, ("u", "a", "view", 1)), first.stamp("ingest_events"))
    serve(first, lists(spark, ("u", "model", "a")))
    report = run(second)
    assert (report.rows_in, report.rows_out, report.metrics["users"]) == (0, 0, 0.0)
    assert "model_ndcg_sum" not in report.metrics
