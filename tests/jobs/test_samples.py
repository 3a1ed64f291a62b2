"""Sample lists: who is chosen, what is said of them, and never who they are."""

from datetime import UTC, date, datetime
from pathlib import Path

from pyspark.sql import DataFrame, SparkSession

from jobs.config import Config, EventSource, ItemSource, LakeConfig
from jobs.lake import Lake
from jobs.samples import SampleItem, SampleList, limit_talkative, samples_of, with_recent
from jobs.stage import Night, timestamp
from schemas.items import ITEMS
from schemas.serving_recommendations import SERVING_RECOMMENDATIONS
from schemas.user_history import USER_HISTORY

CUTOFF = datetime(2026, 3, 11, tzinfo=UTC)


def histories(spark: SparkSession, **users: str) -> DataFrame:
    """`u="aL bv"`: item and first letter of the event type (L liked, v viewed), one event a day from 1 March."""
    kinds = {"L": "liked", "v": "viewed"}
    rows = []
    for user, told in users.items():
        events = told.split()
        moments = [datetime(2026, 3, day, 12, tzinfo=UTC) for day, _ in enumerate(events, start=1)]
        items, types = [e[0] for e in events], [kinds[e[1]] for e in events]
        rows.append((user, 0, items, ["{}"] * len(events), types, moments, "digest", "r"))
    return spark.createDataFrame(rows, USER_HISTORY.struct)


def test_recent_is_what_was_liked_or_else_taken_newest_first(spark: SparkSession) -> None:
    told = with_recent(histories(spark, likes="aL bv cL", views="av bv"), timestamp(CUTOFF))
    found = {row["user_id"]: (row["recent"], row["liked"]) for row in told.collect()}
    assert found == {"likes": (["c", "a"], True), "views": (["b", "a"], False)}


def test_events_after_the_cutoff_are_not_told(spark: SparkSession) -> None:
    early = timestamp(datetime(2026, 3, 2, tzinfo=UTC))
    assert with_recent(histories(spark, u="aL bL"), early).collect()[0]["recent"] == ["a"]


def test_users_with_likes_and_most_of_them_come_first(spark: SparkSession) -> None:
    told = with_recent(
        histories(spark, viewer="av bv cv dv ev", few="aL", many="aL bL", most="aL bL cL dL eL fL"), timestamp(CUTOFF)
    )
    assert [row["user_id"] for row in limit_talkative(told, 3).collect()] == ["most", "many", "few"]


def test_a_sample_shows_titles_and_no_user_id(spark: SparkSession, tmp_path: Path) -> None:
    source = EventSource("jsonl", "none", {"user_id": "u", "item_id": "i", "event_ts": "t"})
    config = Config(LakeConfig(str(tmp_path)), source, ItemSource("jsonl", "none", {"item_id": "i"}))
    night = Night(Lake(spark, str(tmp_path)), config, date(2026, 3, 10), "run")
    beginning, gone = datetime(1970, 1, 1, tzinfo=UTC), datetime(2026, 3, 5, tzinfo=UTC)
    items = [
        ("a", beginning, gone, "Old title", "{}", "{}", True, "r"),
        ("a", gone, None, "Alien", "{}", "{}", True, "r"),
        ("b", beginning, gone, "Brazil", "{}", "{}", True, "r"),  # left the catalogue; its title is still known
        ("c", beginning, None, None, "{}", "{}", True, "r"),  # never had one
    ]
    night.lake.append(ITEMS, spark.createDataFrame(items, ITEMS.struct), night.stamp("ingest_events"))
    history = histories(spark, **{"secret-1": "bL", "secret-2": "bv"})
    night.lake.append(USER_HISTORY, history, night.stamp("build_histories"))
    lists = [("secret-1", 0, [(1, "a", 0.75), (2, "c", 0.5)], "model", "m", "r")]
    served = spark.createDataFrame(lists, SERVING_RECOMMENDATIONS.struct)
    version = night.lake.overwrite(SERVING_RECOMMENDATIONS, served, night.stamp("publish"))
    samples = samples_of(night, version, 1)
    expected = SampleList("user A", ("Brazil",), True, (SampleItem(1, "Alien", 0.75), SampleItem(2, "c", 0.5)))
    assert samples == [expected]
    assert samples[0].as_text() == "user A liked Brazil\n    1. Alien  0.750\n    2. c  0.500"
    assert "secret" not in str(samples)
