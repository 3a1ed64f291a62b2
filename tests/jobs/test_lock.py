"""One writer per root: who holds it, what a second one is told."""

import json
import os
import signal
import subprocess
import sys
import time
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import pytest
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql.types import StructField, StructType

from benchmarks.standalone import ROOT
from benchmarks.tiny import write_platform
from jobs.cli import main
from jobs.config import LakeConfig
from jobs.file_lock import take_file
from jobs.lake import Lake, Stamp
from jobs.lock import only_writer
from schemas.errors import EXIT_RETRY, ConfigError, RetryableError
from schemas.users import USERS

USER: dict[str, Any] = {
    "valid_from": datetime(1970, 1, 1, tzinfo=UTC), "attributes": "{}", "run_id": "r", "user_bucket": 1
}  # fmt: skip
HOLD = """
import sys, time
from jobs.file_lock import take_file
lock = take_file(sys.argv[1], "lime hold")
print(lock.tenure.token, flush=True)
time.sleep(600)
"""
RACE = """
import os, sys
from jobs.file_lock import take_file
from schemas.errors import RetryableError
held, took = sys.argv[1] + "/held", 0
while took < 40:
    try:
        lock = take_file(sys.argv[1], "lime race")
    except RetryableError:
        continue
    os.close(os.open(held, os.O_CREAT | os.O_EXCL))  # fails where the other process holds it too
    os.unlink(held)
    lock.release()
    took += 1
"""


def stamp(run: str, stage: str = "stage") -> Stamp:
    return Stamp(run, stage, date(2026, 1, 1))


def frame_of(spark: SparkSession, user: str) -> DataFrame:
    values = [{**USER, "user_id": user}.get(name) for name in USERS.columns]
    return spark.createDataFrame([values], StructType([StructField(f.name, f.type) for f in USERS.fields]))


def text_of(root: str) -> Any:
    return json.loads(Path(root, "_lock").read_text())


def python(program: str, *words: str) -> "subprocess.Popen[str]":
    return subprocess.Popen([sys.executable, "-c", program, *words], cwd=ROOT, stdout=subprocess.PIPE, text=True)


def test_a_second_writer_is_told_who_holds_the_root(root: str) -> None:
    lock = take_file(root, "lime nightly")
    with pytest.raises(RetryableError) as refused:
        take_file(root, "lime publish")
    said = str(refused.value)
    assert said.startswith(f"lake {root}: expected no other writer, found `lime nightly`, process {os.getpid()} on ")
    assert said.endswith("under token 1")
    lock.release()
    again = take_file(root, "lime publish")
    assert again.tenure.token == 2
    again.release()


def test_two_roots_do_not_exclude_each_other(root: str, tmp_path: Path) -> None:
    locks = [take_file(folder, "lime backfill") for folder in (root, f"{tmp_path}/asof/2026-01-01")]
    assert [lock.tenure.token for lock in locks] == [1, 1]
    for lock in locks:
        lock.check()
        lock.release()


def test_a_killed_holders_lock_is_free_at_once(root: str) -> None:
    holder = python(HOLD, root)
    assert holder.stdout is not None
    assert holder.stdout.readline() == "1\n"
    with pytest.raises(RetryableError, match=rf"`lime hold`, process {holder.pid} on .* under token 1"):
        take_file(root, "lime nightly")
    holder.kill()
    holder.wait()
    holder.stdout.close()
    lock = take_file(root, "lime nightly")
    assert lock.tenure.token == 2
    lock.release()


def test_two_processes_that_race_never_both_hold(root: str) -> None:
    Path(root).mkdir()
    racers = [python(RACE, root) for _ in range(2)]
    assert [racer.wait(60) for racer in racers] == [0, 0]
    assert text_of(root)["token"] == 80, "a token was given twice or left out"


@pytest.mark.parametrize("text", ["", "{", '{"token": 1, "ho'], ids=["empty", "brace", "torn"])
def test_a_text_that_a_crash_left_torn_begins_a_new_line_of_tokens(text: str, root: str) -> None:
    first = take_file(root, "lime nightly")
    first.release()
    Path(root, "_lock").write_text(text)
    second = take_file(root, "lime nightly")
    assert second.tenure.token == 1
    assert second.tenure.line != first.tenure.line
    second.release()


def test_a_shorter_text_over_a_longer_one_is_read(root: str) -> None:
    lock = take_file(root, "lime nightly")
    lock.release()
    with Path(root, "_lock").open("a") as file:
        file.write('s": 3}, "token": 99}')  # the end of a longer text, its holder killed before it was cut off
    again = take_file(root, "lime nightly")
    assert again.tenure.token == 2
    assert text_of(root)["token"] == 2
    again.release()


def test_a_writer_whose_file_was_removed_or_taken_over_is_stopped(root: str) -> None:
    lock = take_file(root, "lime nightly")
    lock.check()
    Path(root, "_lock").unlink()
    with pytest.raises(RetryableError, match="expected token 1 of this writer to be the newest, found no _lock of it"):
        lock.check()
    second = take_file(root, "lime nightly")
    with pytest.raises(RetryableError, match="found no _lock of it"):
        lock.check()
    lock.release()
    # a mount that forgot the lock: another holder's text in the same file
    Path(root, "_lock").write_text(Path(root, "_lock").read_text().replace('"token": 1', '"token": 2'))
    with pytest.raises(RetryableError, match="expected token 1 of this .*, found .* under token 2; it writes no"):
        second.check()
    second.release()


def test_the_clock_plays_no_part(root: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever day the holder thinks it is, it holds; whatever day it was, the next token is one more."""
    for jump in (1e9, -1e9):
        now = time.time()
        monkeypatch.setattr(time, "time", lambda now=now, jump=jump: now + jump)
        lock = take_file(root, "lime nightly")
        with pytest.raises(RetryableError):
            take_file(root, "lime nightly")
        lock.check()
        lock.release()
    assert text_of(root)["token"] == 2


@pytest.mark.parametrize("kind", ["file", "lease"])
def test_every_commit_carries_the_token_and_the_next_writers_is_one_more(
    kind: str, spark: SparkSession, root: str
) -> None:
    lake, config = Lake(spark, root), LakeConfig(root, lock=kind)
    for expected in (1, 2):
        with only_writer(lake, config, "lime nightly"):
            lake.overwrite(USERS, frame_of(spark, f"u{expected}"), stamp(f"run{expected}"))
            commit = lake.last_commit(USERS)
            assert commit is not None
            assert commit.stamp["lock"]["token"] == expected  # type: ignore[index]
    assert lake.writer is None
    assert Path(root, "_lock").exists() == (kind == "file")


def test_file_is_refused_where_the_root_is_no_folder(spark: SparkSession) -> None:
    lake = Lake(spark, "viewfs://lime/lake")
    with (
        pytest.raises(ConfigError, match="lake.lock: expected auto or lease, the lake viewfs://lime/lake is no local"),
        only_writer(lake, LakeConfig(lake.root, lock="file"), "lime nightly"),
    ):
        pass


def test_a_writer_that_died_before_it_looked_leaves_its_predecessors_versions_to_compare_with(root: str) -> None:
    lock = take_file(root, "lime nightly")
    lock.note({"users": 4})
    lock.release()
    died = take_file(root, "lime nightly")
    died.release()
    third = take_file(root, "lime nightly")
    assert (third.tenure.token, third.tenure.good_from, third.tenure.heads) == (3, 1, {"users": 4})
    third.release()


def test_the_command_exits_4_while_another_process_holds_the_root(
    root: str, tmp_path: Path, spark: SparkSession, capsys: pytest.CaptureFixture[str]
) -> None:
    config, holder = write_platform(tmp_path / "platform"), python(HOLD, root)
    try:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "1\n"
        for command in (["nightly"], ["build-histories", "--date", "2026-01-06"]):
            assert main([*command, "--config", str(config), "--lake", root]) == EXIT_RETRY
            assert f"found `lime hold`, process {holder.pid} on " in capsys.readouterr().err
        assert sorted(path.name for path in Path(root).iterdir()) == ["_lock"]
    finally:
        holder.send_signal(signal.SIGKILL)
        holder.communicate()
