"""The lake: by path and by catalog, what a commit says of itself, what lands once, what is refused."""

import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, date, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from pyspark.errors import AnalysisException, PySparkException
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from jobs.commits import ATTEMPTS, CONFLICTS, Commit, commit_again, effective, stamp_of
from jobs.lake import Lake, Stamp
from schemas.errors import ConfigError, ContractError, EmptyTableError, RetryableError
from schemas.events import EVENTS
from schemas.users import USERS
from tests.conftest import Frame

EVENT: dict[str, Any] = {
    "user_id": "u", "item_id": "i", "event_type": "view", "event_ts": datetime(2026, 1, 1, tzinfo=UTC),
    "sequence": 1, "source_file": "f", "run_id": "r",
}  # fmt: skip


def stamp(run: str, stage: str = "stage", **inputs: object) -> Stamp:
    return Stamp(run, stage, date(2026, 1, 1), inputs)


def ids(df: DataFrame) -> list[str]:
    return sorted(row["event_id"] for row in df.collect())


@pytest.fixture(params=["path", "catalog"])
def lake(request: pytest.FixtureRequest, spark: SparkSession, tmp_path: Path) -> Iterator[Lake]:
    if request.param == "path":
        yield Lake(spark, str(tmp_path / "lake"))
        return
    spark.sql(f"CREATE SCHEMA lime_lake LOCATION '{tmp_path}/schema'")
    yield Lake(spark, "spark_catalog.lime_lake", str(tmp_path / "staging"))
    spark.sql("DROP SCHEMA lime_lake CASCADE")


def test_tables_are_written_read_and_travelled_by_path_and_by_catalog(lake: Lake, frame: Frame) -> None:
    first = lake.append(EVENTS, frame(EVENTS, EVENT, {"event_id": "a"}), stamp("run1"))
    second = lake.append(EVENTS, frame(EVENTS, EVENT, {"event_id": "b"}), stamp("run2", events=7))
    assert ids(lake.read(EVENTS)) == ["a", "b"]
    assert ids(lake.read(EVENTS, first)) == ["a"]
    assert ids(lake.changes(EVENTS, first, second)) == ["b"]
    commit = lake.last_commit(EVENTS)
    assert commit is not None
    assert (commit.version, commit.stamp["run_id"], commit.inputs) == (second, "run2", {"events": 7})
    assert lake.last_commit(EVENTS, "other stage") is None
    assert (lake.reads, lake.writes) == ({"events": first}, {"events": second})
    staged = lake.stage(frame(EVENTS, EVENT, {"event_id": "b", "value": 2.0}), "run3/x")
    lake.update_by_key(EVENTS, staged, stamp("run3"))
    merged = lake.last_commit(EVENTS)
    assert merged is not None
    assert merged.reads == {"events": first}, "a commit does not say what was read before it"
    assert lake.read(EVENTS).where("value = 2.0").count() == 1
    lake.clear_staging("run3")


def test_the_log_says_what_describe_history_says(lake: Lake, frame: Frame) -> None:
    assert list(lake.commits(EVENTS)) == []
    lake.append(EVENTS, frame(EVENTS, EVENT, {"event_id": "a"}), stamp("run1"))
    lake.spark.sql(f"DELETE FROM {lake.name(EVENTS)} WHERE event_id = 'a'")  # a writer that says nothing of itself
    lake.append(EVENTS, frame(EVENTS, EVENT, {"event_id": "b"}), stamp("run2"))
    rows = lake.spark.sql(f"DESCRIBE HISTORY {lake.name(EVENTS)}").select("version", "userMetadata").collect()
    assert [(c.version, c.stamp) for c in lake.commits(EVENTS)] == [(v, stamp_of(said)) for v, said in rows]
    assert [c.stamp.get("run_id") for c in lake.commits(EVENTS)] == ["run2", None, "run1", None]


def test_a_stage_that_a_run_repeats_lands_once(lake: Lake, frame: Frame) -> None:
    version = lake.append(EVENTS, frame(EVENTS, EVENT, {"event_id": "a"}), stamp("run1"))
    assert lake.append(EVENTS, frame(EVENTS, EVENT, {"event_id": "b"}), stamp("run1")) == version
    assert ids(lake.read(EVENTS)) == ["a"]


def test_only_the_stated_rows_are_replaced(lake: Lake, spark: SparkSession, frame: Frame) -> None:
    start = datetime(1970, 1, 1, tzinfo=UTC)
    base = {"valid_from": start, "attributes": "{}", "run_id": "r"}
    rows = ({"user_id": f"u{n}", "user_bucket": n % 2} for n in range(4))
    lake.overwrite(USERS, frame(USERS, base, *rows), stamp("run1"))
    lake.overwrite(USERS, frame(USERS, base, {"user_id": "new", "user_bucket": 1}), stamp("run2"), "user_bucket IN (1)")
    assert sorted(row["user_id"] for row in lake.read(USERS).collect()) == ["new", "u0", "u2"]
    outside = frame(USERS, base, {"user_id": "x", "user_bucket": 0})
    with pytest.raises(PySparkException, match="DELTA_REPLACE_WHERE_MISMATCH"):
        lake.overwrite(USERS, outside, stamp("run3"), "user_bucket IN (1)")


def test_a_commit_that_another_writer_got_ahead_of_is_made_again(
    spark: SparkSession, frame: Frame, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    lake, started, go = Lake(spark, str(tmp_path / "lake")), tmp_path / "started", tmp_path / "go"
    base = {"valid_from": datetime(1970, 1, 1, tzinfo=UTC), "attributes": "{}", "run_id": "r", "user_bucket": 1}
    lake.overwrite(USERS, frame(USERS, base, {"user_id": "u1"}), stamp("run1"))

    def held_back(batches: Iterator[Any]) -> Iterator[Any]:
        started.touch()
        end = time.monotonic() + 120
        while not go.exists() and time.monotonic() < end:
            time.sleep(0.05)
        yield from batches

    rows = frame(USERS, base, {"user_id": "u2"}).coalesce(1)  # one task: the other writer needs a core too
    slow = rows.mapInArrow(held_back, rows.schema)
    with ThreadPoolExecutor(1) as pool:
        first = pool.submit(lake.overwrite, USERS, slow, stamp("run2"), "user_bucket IN (1)")
        while not (started.exists() or first.done()):
            time.sleep(0.05)
        Lake(spark, lake.root).append(USERS, frame(USERS, base, {"user_id": "u3"}), stamp("run3"))
        go.touch()
        version = first.result()
    assert [commit.stamp.get("run_id") for commit in lake.commits(USERS)][:2] == ["run2", "run3"]
    assert version == lake.head(USERS)
    assert [row["user_id"] for row in lake.read(USERS).collect()] == ["u2"], "the bucket is not as the stage made it"
    assert "table users: another writer was first, the commit is tried again: " in caplog.text


def test_a_commit_is_tried_no_more_than_so_often() -> None:
    attempts = []

    def commit() -> None:
        attempts.append(1)
        raise CONFLICTS[0]("[DELTA_CONCURRENT_APPEND] files were added\nby others", "")

    with pytest.raises(RetryableError) as named:
        commit_again(USERS, commit)
    assert str(named.value) == (
        "table users: expected no other writer, found one in 3 attempts: [DELTA_CONCURRENT_APPEND] files were added"
    )
    assert len(attempts) == ATTEMPTS


def test_what_a_restore_undid_is_in_no_list_of_commits_and_its_stage_can_be_repeated(lake: Lake, frame: Frame) -> None:
    first = lake.append(EVENTS, frame(EVENTS, EVENT, {"event_id": "a"}), stamp("run1"))
    for run in ("run2", "run3"):
        lake.append(EVENTS, frame(EVENTS, EVENT, {"event_id": run}), stamp(run))
    lake.restore(EVENTS, first, stamp("run4", "undo"))
    assert ids(lake.read(EVENTS)) == ["a"]
    assert [commit.stamp.get("run_id") for commit in lake.commits(EVENTS)] == ["run4", "run1", None]
    version = lake.append(EVENTS, frame(EVENTS, EVENT, {"event_id": "b"}), stamp("run2"))
    assert lake.append(EVENTS, frame(EVENTS, EVENT, {"event_id": "b"}), stamp("run2")) == version
    assert ids(lake.read(EVENTS)) == ["a", "b"]


def test_a_restore_is_seen_through_by_a_later_one() -> None:
    said = {9: 2, 7: 5}  # version: what it restored
    log = [Commit(v, {"restored_to": said[v]} if v in said else {}) for v in range(10, -1, -1)]
    assert [commit.version for commit in effective(log)] == [10, 9, 2, 1, 0]
    assert [commit.version for commit in effective(log[2:])] == [8, 7, 5, 4, 3, 2, 1, 0]


def test_a_null_in_a_required_column_is_refused_by_the_table(lake: Lake, frame: Frame) -> None:
    with pytest.raises(Exception, match="NOT NULL"):
        lake.append(EVENTS, frame(EVENTS, EVENT, {"event_id": None}), stamp("run1"))


def test_another_schema_is_refused_on_write_and_on_read(lake: Lake, frame: Frame) -> None:
    good = frame(EVENTS, EVENT, {"event_id": "a"})
    with pytest.raises(ContractError, match="table events: column value: expected double, found string"):
        lake.append(EVENTS, good.withColumn("value", F.lit("x")), stamp("run1"))
    with pytest.raises(EmptyTableError, match="table events: expected below"):
        lake.read(EVENTS)


def test_a_catalog_needs_a_staging_path(spark: SparkSession) -> None:
    with pytest.raises(ConfigError, match=r"lake\.staging: expected a path"):
        Lake(spark, "spark_catalog.somewhere")


class HalfMadeError(AnalysisException):
    """What Delta says, now and then, where a rival's first commit comes between its two looks at the place."""

    def getCondition(self) -> str:  # noqa: N802 - Spark's name
        return "DELTA_CREATE_TABLE_WITH_NON_EMPTY_LOCATION"


def test_a_table_that_a_rival_is_making_is_waited_for(
    spark: SparkSession, root: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    lake, rival = Lake(spark, root), Lake(spark, root)
    assert not lake.exists(USERS)

    def refused(statement: str) -> DataFrame:
        raise HalfMadeError("not empty and not a table")

    monkeypatch.setattr(lake, "spark", SimpleNamespace(sql=refused))
    monkeypatch.setattr("jobs.commits.sleep", lambda seconds: None)
    with pytest.raises(RetryableError, match=r"users: expected no other writer, .* not empty and not a table"):
        commit_again(USERS, lambda: lake.create(USERS))
    monkeypatch.setattr("jobs.commits.sleep", lambda seconds: rival.create(USERS))
    commit_again(USERS, lambda: lake.create(USERS))
    assert lake.exists(USERS)
