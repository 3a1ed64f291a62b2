"""What a writer that was paused and succeeded can still commit, and how its successor finds and undoes it."""

import fcntl
import time
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from datetime import date
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from pyspark.sql import DataFrame, SparkSession

from benchmarks.tiny import write_platform
from jobs import publish
from jobs.config import LakeConfig, load_config
from jobs.file_lock import FileLock
from jobs.lake import Lake
from jobs.lock import OnlyWriter, only_writer
from jobs.stage import Night
from schemas.errors import RetryableError
from schemas.events import EVENTS
from schemas.items import ITEMS
from schemas.recommendations import RECOMMENDATIONS
from schemas.serving_recommendations import SERVING_RECOMMENDATIONS
from schemas.types import LONG
from schemas.users import USERS
from tests.conftest import Frame
from tests.jobs.test_lock import USER, frame_of, stamp

LATE_SECONDS = 120


def users(lake: Lake) -> list[str]:
    return sorted(row["user_id"] for row in lake.read(USERS).collect())


class LateWriter:
    """A writer that is paused between its check and its commit, while the system forgets its lock."""

    def __init__(self, lake: Lake, pool: ThreadPoolExecutor, folder: Path) -> None:
        self.lake, self._pool, self._started, self._go = lake, pool, folder / "started", folder / "go"

    def append(self, rows: DataFrame) -> "Future[int]":
        """Begin to append; returns once the check has passed and the lock is gone."""
        started, go = self._started, self._go

        def held_back(batches: Iterator[Any]) -> Iterator[Any]:
            started.touch()
            end = time.monotonic() + LATE_SECONDS
            while not go.exists() and time.monotonic() < end:
                time.sleep(0.05)
            yield from batches

        slow = rows.coalesce(1).mapInArrow(held_back, rows.schema)  # one task: the successor needs a core too
        done = self._pool.submit(self.lake.append, USERS, slow, stamp("late"))
        while not (started.exists() or done.done()):
            time.sleep(0.05)
        assert isinstance(self.lake.writer, OnlyWriter)
        assert isinstance(self.lake.writer.lock, FileLock)
        fcntl.flock(self.lake.writer.lock.descriptor, fcntl.LOCK_UN)
        return done

    def wake(self, done: "Future[int]") -> None:
        """Let it commit."""
        self._go.touch()
        done.result()


@pytest.fixture
def lake(spark: SparkSession, root: str) -> Lake:
    """A lake with one user, written under token 1."""
    made = Lake(spark, root)
    with only_writer(made, LakeConfig(root), "lime nightly"):
        made.append(USERS, frame_of(spark, "u1"), stamp("run1"))
    return made


@pytest.fixture
def late(lake: Lake, tmp_path: Path) -> Iterator[LateWriter]:
    """Holds token 2."""
    other = Lake(lake.spark, lake.root)
    with ThreadPoolExecutor(1) as pool, only_writer(other, LakeConfig(lake.root), "lime nightly"):
        yield LateWriter(other, pool, tmp_path)


def test_a_late_commit_is_undone_before_the_successor_goes_on_and_it_starts_again(lake: Lake, late: LateWriter) -> None:
    spark, config = lake.spark, LakeConfig(lake.root)
    done = late.append(frame_of(spark, "late"))
    with only_writer(lake, config, "lime nightly"):
        late.wake(done)
        assert users(lake) == ["late", "u1"]
        with pytest.raises(RetryableError) as stopped:
            lake.append(USERS, frame_of(spark, "u2"), stamp("run3"))
        assert str(stopped.value) == (
            f"lake {lake.root}: table users: version 2 of run late was committed after another writer took over, under "
            "the older token 2: undone, back to version 1; start again"
        )
        assert users(lake) == ["u1"]
        with pytest.raises(RetryableError, match="expected token 2 .* found .* under token 3"):
            late.lake.append(USERS, frame_of(spark, "later"), stamp("late", "next"))
    undo = lake.last_commit(USERS)
    assert undo is not None
    assert (undo.stamp["stage"], undo.stamp["restored_to"], undo.inputs) == ("undo", 1, {"late": [2]})
    assert [commit.stamp.get("run_id") for commit in lake.commits(USERS)][1:] == ["run1", None]
    for _ in range(2):  # a run that goes on: its id was used, its rows were undone
        with only_writer(lake, config, "lime resume"):
            lake.append(USERS, frame_of(spark, "late"), stamp("late"))
    assert users(lake) == ["late", "u1"]


def test_a_late_commit_that_nobody_noticed_is_undone_by_the_next_writer_with_what_lies_on_it(
    lake: Lake, late: LateWriter, caplog: pytest.LogCaptureFixture
) -> None:
    config = LakeConfig(lake.root)
    done = late.append(frame_of(lake.spark, "late"))
    with only_writer(lake, config, "lime nightly"):
        late.wake(done)
        lake.writer, writer = None, lake.writer  # appended between the successor's check and its commit
        lake.append(USERS, frame_of(lake.spark, "u2"), stamp("run3"))
        lake.writer = writer
    assert users(lake) == ["late", "u1", "u2"]
    for found in (True, False):
        with only_writer(lake, config, "lime nightly"):
            assert users(lake) == ["u1"]
        assert ("version 2 of run late was committed after another writer took over" in caplog.text) == found
        caplog.clear()


def test_lists_are_not_published_when_a_late_commit_lies_in_any_table(
    lake: Lake, frame: Frame, tmp_path: Path
) -> None:
    """What the lists were made from may hold its rows."""
    config, ids = load_config(str(write_platform(tmp_path / "platform"))), [f"i{n}" for n in range(5)]
    item = {"valid_from": USER["valid_from"], "features": "{}", "attributes": "{}", "available": True, "run_id": "r"}
    ranked = [(n + 1, item_id, 1.0) for n, item_id in enumerate(ids)]
    lists = {"user_id": "u1", "user_bucket": 1, "items": ranked, "source": "model", "model_digest": "m"}
    passed = SimpleNamespace(stamp={"lock": None}, check=lambda tables: None)  # a paused writer: its check is behind it
    paused = Lake(lake.spark, lake.root)
    paused.writer = passed
    with only_writer(lake, config.lake, "lime nightly"):
        assert lake.writer is not None
        passed.stamp = {"lock": {**lake.writer.stamp["lock"], "token": 1}}  # type: ignore[dict-item]
        night = Night(lake, config, date(2026, 1, 6), "run2")
        lake.overwrite(ITEMS, frame(ITEMS, item, *({"item_id": item_id} for item_id in ids)), night.stamp("items"))
        required = [f for f in RECOMMENDATIONS.fields if f.required and f.provenance]
        made = frame(RECOMMENDATIONS, {f.name: 0 if f.type == LONG else "p" for f in required}, lists)
        lake.overwrite(RECOMMENDATIONS, made, night.stamp("score_candidates"))
        paused.append(EVENTS, lake.spark.createDataFrame([], EVENTS.struct), stamp("late"))
        with pytest.raises(RetryableError, match="table events: version 1 of run late was committed after another"):
            publish.run(night)
        assert not lake.exists(SERVING_RECOMMENDATIONS)
        publish.run(night)
        assert lake.read(SERVING_RECOMMENDATIONS).count() == 1


def test_a_table_that_was_copied_from_another_lake_is_left_alone(spark: SparkSession, root: str) -> None:
    lake, other = Lake(spark, root), Lake(spark, f"{root}-other")
    for _ in range(2):
        with only_writer(lake, LakeConfig(root), "lime nightly"):
            pass
    with only_writer(other, LakeConfig(other.root), "lime nightly"):
        other.append(USERS, frame_of(spark, "u1"), stamp("run1"))
    Path(other.root, "users").rename(Path(root, "users"))
    with only_writer(lake, LakeConfig(root), "lime nightly"):
        assert users(lake) == ["u1"]
