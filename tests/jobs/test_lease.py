"""The lease: who takes it and when, what is a sign of life, what a holder that was paused past its term is told."""

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest
from py4j.protocol import Py4JError
from pyspark.sql import SparkSession

from benchmarks.standalone import ROOT
from jobs import lease as module
from jobs.config import LakeConfig
from jobs.delta_log import DeltaLog
from jobs.lake import Lake
from jobs.lease import Lease, State, newest_state, require_put_if_absent, take_lease
from jobs.lock import only_writer
from schemas.errors import EXIT_RETRY, ConfigError, RetryableError
from schemas.events import EVENTS
from schemas.lease import LEASE

TERM = 4.0
START_SECONDS = 120
PAUSED = """
import sys
from datetime import date
from jobs.cli import exit_code
from jobs.config import LakeConfig
from jobs.lake import Lake, Stamp
from jobs.lock import only_writer
from jobs.session import spark_session
from schemas.events import EVENTS

def run():
    lake = Lake(spark_session("paused"), sys.argv[1])
    with only_writer(lake, LakeConfig(lake.root, lock="lease", lease_seconds=int(sys.argv[2])), "lime paused"):
        rows = lake.spark.createDataFrame([], EVENTS.struct)
        for stage in ("before", "after"):
            lake.append(EVENTS, rows, Stamp("paused", stage, date(2026, 1, 1)))
            print(stage, flush=True)
            sys.stdin.readline()
    return 0

sys.exit(exit_code(run))
"""


class Clock:
    """A monotonic clock that only pauses move."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now

    def pause(self, seconds: float) -> None:
        self.now += seconds


@pytest.fixture
def lake(spark: SparkSession, root: str) -> Lake:
    return Lake(spark, root)


@pytest.fixture
def holder(lake: Lake) -> Iterator[Lease]:
    """A living one; it may have been succeeded when the test ends."""
    held = take_lease(lake, "lime nightly", TERM)
    yield held
    held.release()


def die(lease: Lease) -> None:
    """What remains of a holder whose process was killed: a lease that nobody renews."""
    lease._ended.set()
    lease._thread.join()


def rewritten(lake: Lake, state: State) -> None:
    table = lake.log(LEASE)
    assert table.put(table.versions()[0] + 1, state.to_json())


def test_a_second_writer_is_told_who_holds_the_root_at_the_first_sign_of_life(lake: Lake, holder: Lease) -> None:
    before = lake.head(LEASE)
    with pytest.raises(RetryableError, match=rf"no other writer, found `lime nightly`, process {os.getpid()} on"):
        take_lease(lake, "lime publish", TERM)
    assert lake.head(LEASE) > before
    holder.check()


def test_a_released_lease_is_taken_at_once_under_the_next_token(lake: Lake) -> None:
    def waited(seconds: float) -> None:
        pytest.fail("it waited")

    for token in (1, 2, 3):
        lease = take_lease(lake, "lime nightly", TERM, pause=waited)
        assert lease.tenure.token == token
        lease.note({"users": token})
        lease.check()
        lease.release()
    _, state = newest_state(lake.log(LEASE))
    assert state is not None
    assert (state.released, state.tenure.heads) == (True, {"users": 3})


@pytest.mark.parametrize("since", ["1970-01-01T00:00:00+00:00", "2099-01-01T00:00:00+00:00"])
def test_a_dead_holder_is_succeeded_after_its_own_term_by_the_successors_clock(since: str, lake: Lake) -> None:
    """What day the two machines think it is, and what term the successor has, does not matter."""
    dead, clock = take_lease(lake, "lime nightly", TERM), Clock()
    die(dead)
    rewritten(lake, State(replace(dead.tenure, since=since), term_seconds=7200.0))
    successor = take_lease(lake, "lime nightly", TERM, clock, clock.pause)
    assert 7200 < clock.now - 1000 < 2 * 7200
    assert successor.tenure.token == 2
    with pytest.raises(RetryableError, match="expected token 1 of this writer .*, found .* under token 2"):
        dead.check()
    with pytest.raises(RetryableError, match="token 1 .* token 2"):
        dead.renew()
    dead.release()
    successor.check()
    successor.release()


def test_a_beat_in_the_last_moment_keeps_the_successor_out(lake: Lake) -> None:
    holder, clock = take_lease(lake, "lime nightly", TERM), Clock()
    die(holder)

    def beats_late(seconds: float) -> None:
        clock.pause(seconds)
        if clock.now - 1000 > TERM:
            holder.renew()

    with pytest.raises(RetryableError, match="found `lime nightly`"):
        take_lease(lake, "lime publish", TERM, clock, beats_late)
    assert clock.now - 1000 > TERM
    holder.check()


def test_a_beat_between_the_last_look_and_the_taking_is_a_lost_race(
    lake: Lake, monkeypatch: pytest.MonkeyPatch
) -> None:
    holder, clock, put = take_lease(lake, "lime nightly", TERM), Clock(), DeltaLog.put
    die(holder)

    def beaten(table: DeltaLog, version: int, said: str) -> bool:
        monkeypatch.setattr(DeltaLog, "put", put)
        holder.renew()
        return put(table, version, said)

    monkeypatch.setattr(DeltaLog, "put", beaten)
    with pytest.raises(RetryableError, match="expected no other writer, found `lime nightly`"):
        take_lease(lake, "lime publish", TERM, clock, clock.pause)
    holder.check()


def test_a_holder_that_lets_go_is_succeeded_before_its_term_is_over(lake: Lake, holder: Lease) -> None:
    clock = Clock()

    def let_go(seconds: float) -> None:
        clock.pause(seconds)
        holder.release()

    successor = take_lease(lake, "lime publish", TERM, clock, let_go)
    assert successor.tenure.token == 2
    assert clock.now - 1000 < TERM
    successor.release()


def test_of_writers_that_race_for_a_free_lease_one_wins(lake: Lake) -> None:
    gate = threading.Barrier(3)

    def lives(seconds: float) -> None:
        raise RetryableError("it saw the winner hold the lease and would have watched it")

    def race(_: int) -> Lease | None:
        gate.wait(60)
        try:
            return take_lease(lake, "lime nightly", 3600.0, pause=lives)
        except RetryableError:
            return None

    with ThreadPoolExecutor(3) as pool:
        for token in range(1, 6):
            (winner,) = [lease for lease in pool.map(race, range(3)) if lease]
            assert winner.tenure.token == token
            winner.release()


def test_old_beats_do_not_pile_up(lake: Lake, monkeypatch: pytest.MonkeyPatch) -> None:
    first = take_lease(lake, "lime nightly", TERM)
    for _ in range(8):
        first.renew()
    first.release()
    week_ago = time.time() - 7 * 86400
    for file in Path(lake.root, "lease", "_delta_log").iterdir():
        os.utime(file, (week_ago, week_ago))
    monkeypatch.setattr(module, "KEPT_COMMITS", 5)
    second = take_lease(lake, "lime nightly", TERM)
    assert len(lake.log(LEASE).versions()) < 5
    second.check()
    second.release()
    assert lake.read(LEASE).count() == 0, "the table is no Delta table any more"


def test_a_store_that_is_away_for_a_moment_costs_a_beat(
    lake: Lake, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    put, away = DeltaLog.put, threading.Event()

    def unreachable(table: DeltaLog, version: int, said: str) -> bool:
        monkeypatch.setattr(DeltaLog, "put", put)
        away.set()
        raise Py4JError("no route to the store")

    holder = take_lease(lake, "lime nightly", 1.0)
    monkeypatch.setattr(DeltaLog, "put", unreachable)
    assert away.wait(60)
    version, end = lake.head(LEASE), time.monotonic() + 60
    while lake.head(LEASE) < version + 2:
        assert time.monotonic() < end
        time.sleep(0.1)
    holder.check()
    holder.release()
    assert "a beat of its lease was not written: no route to the store" in caplog.text


def test_a_tools_commit_on_the_table_is_stepped_over(lake: Lake, holder: Lease) -> None:
    lake.spark.sql(f"ALTER TABLE {lake.name(LEASE)} SET TBLPROPERTIES ('delta.checkpointInterval' = '100')")
    holder.renew()
    holder.check()


def test_a_holder_that_was_stopped_past_its_term_writes_no_more(lake: Lake, tmp_path: Path) -> None:
    said = tmp_path / "said"
    with said.open("w") as log:
        command = [sys.executable, "-c", PAUSED, lake.root, "3"]
        pipe = subprocess.PIPE
        process = subprocess.Popen(
            command, cwd=ROOT, stdin=pipe, stdout=pipe, stderr=log, text=True, start_new_session=True
        )
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        while (line := process.stdout.readline()) != "before\n":
            assert line, said.read_text()[-2000:]
        os.killpg(process.pid, signal.SIGSTOP)
        with only_writer(lake, LakeConfig(lake.root, lock="lease", lease_seconds=60), "lime successor"):
            os.killpg(process.pid, signal.SIGCONT)
            rest, _ = process.communicate("\n", START_SECONDS)
    finally:
        os.killpg(process.pid, signal.SIGKILL) if process.poll() is None else None
    assert process.returncode == EXIT_RETRY, said.read_text()[-2000:]
    assert "after" not in rest
    last = said.read_text().strip().splitlines()[-1]
    stopped = f"lime: lake {lake.root}: expected token 1 of this writer to be the newest, found `lime successor`"
    assert last.startswith(stopped)
    assert last.endswith("under token 2; it writes no more, what is served stays")
    assert [commit.stamp.get("stage") for commit in lake.commits(EVENTS)] == ["before", None]


@pytest.mark.parametrize("scheme", ["s3", "s3a"])
def test_an_object_store_whose_log_store_knows_one_driver_only_is_refused(scheme: str) -> None:
    location, key = f"{scheme}://bucket/lake/lease", f"spark.delta.logStore.{scheme}.impl"
    with pytest.raises(ConfigError, match=f"{key}: expected a log store that lets one driver only add a file"):
        require_put_if_absent(location, {}.get)
    require_put_if_absent(location, {key: "io.delta.storage.S3DynamoDBLogStore"}.get)
    for other in ("hdfs://name/lake/lease", "abfss://lake@account/lease", "/lake/lease", "gs://bucket/lease"):
        require_put_if_absent(other, {}.get)
