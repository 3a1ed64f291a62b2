"""Maintenance on small tables whose clocks are set back: what goes, what stays, who may still read it."""

import os
import time
from collections.abc import Sequence
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from deltalake import DeltaTable as OtherEngine
from pyspark.sql import DataFrame, SparkSession

from benchmarks.aging import age_table
from benchmarks.tiny import CONFIG
from jobs.cli import main
from jobs.config import MaintainConfig, load_config
from jobs.lake import Lake, Stamp
from jobs.maintain import kept_hours, remove_old_runs, sweep_staging
from jobs.past import read_past
from jobs.stage import Night
from schemas.contract import TableContract
from schemas.digest import table_digest
from schemas.errors import EXIT_OK, InputError
from schemas.events import EVENTS
from schemas.items import ITEMS
from schemas.runs import RUNS
from schemas.serving_recommendations import SERVING_RECOMMENDATIONS
from schemas.user_history import USER_HISTORY
from schemas.users import USERS
from tests.conftest import Frame

NOW = datetime(2026, 3, 1, tzinfo=UTC)
LONG_AGO = datetime(1970, 1, 1, tzinfo=UTC)
EVENT: dict[str, Any] = {
    "user_id": "u", "item_id": "i", "event_type": "view", "event_ts": LONG_AGO,
    "sequence": 1, "source_file": "f", "run_id": "r",
}  # fmt: skip
ITEM = {"item_id": "i", "valid_from": LONG_AGO, "features": "{}", "attributes": "{}", "available": True, "run_id": "r"}


@pytest.fixture
def config(tmp_path: Path) -> Path:
    file = tmp_path / "night.toml"
    file.write_text(CONFIG.replace("FOLDER", str(tmp_path)) + "\n[maintain]\nrollback_days = 3\n")
    return file


@pytest.fixture
def lake(spark: SparkSession, config: Path) -> Lake:
    return Lake(spark, load_config(str(config)).lake.root)


def stamp(run: str, stage: str = "stage") -> Stamp:
    return Stamp(run, stage, date(2026, 1, 6))


def maintain(config: Path) -> int:
    return main(["maintain", "--config", str(config)])


def age(lake: Lake, table: TableContract, days: int) -> None:
    age_table(lake.spark, Path(lake.root, table.name), timedelta(days=days))


def data_files(df: DataFrame) -> set[Path]:
    return {Path(file.removeprefix("file:")) for file in df.inputFiles()}


def lists(lake: Lake, item: str) -> DataFrame:
    row = ("u", 0, [(1, item, 0.5)], "model", "m", "r")
    return lake.spark.createDataFrame([row], SERVING_RECOMMENDATIONS.struct)


@pytest.mark.parametrize(
    ("rollback_days", "longest_read_hours", "pinned_days", "expected"),
    [
        (7, 24, (), 7 * 24),
        (1, 72, (), 72),  # the longer of the two
        (7, 24, (1,), 7 * 24),
        (7, 24, (1, 9.5), 10.5 * 24),  # the next night still asks what changed since, a day for the stage itself
    ],
)
def test_a_replaced_version_stays_as_long_as_anybody_may_need_it(
    rollback_days: int, longest_read_hours: int, pinned_days: Sequence[float], expected: float
) -> None:
    config = MaintainConfig(rollback_days, longest_read_hours)
    assert kept_hours(config, NOW, [NOW - timedelta(days=days) for days in pinned_days]) == expected


def test_small_files_are_joined_and_files_past_the_window_go(
    lake: Lake, config: Path, frame: Frame
) -> None:
    for n in range(4):
        appended = lake.append(EVENTS, frame(EVENTS, EVENT, {"event_id": f"e{n}"}), stamp(f"run{n}"))
    first, second = (
        lake.overwrite(SERVING_RECOMMENDATIONS, lists(lake, item), stamp(item, "publish")) for item in ("a", "b")
    )
    for table in (EVENTS, SERVING_RECOMMENDATIONS):
        age(lake, table, 4)
    lake.overwrite(SERVING_RECOMMENDATIONS, lists(lake, "c"), stamp("c", "publish"))
    events, digest = lake.read(EVENTS), table_digest(lake.read(EVENTS), EVENTS)
    reader = lake.read(SERVING_RECOMMENDATIONS, second)  # opened before, read after
    replaced = data_files(lake.read(SERVING_RECOMMENDATIONS, first))
    assert maintain(config) == EXIT_OK
    assert len(data_files(lake.read(EVENTS))) == 1
    assert table_digest(lake.read(EVENTS), EVENTS) == digest
    assert events.count() == 4, "what was joined just now went although somebody reads it"
    assert not any(file.exists() for file in replaced)
    with pytest.raises(InputError, match=r"1 of its 1 files gone \(VACUUM\)"):
        read_past(lake, SERVING_RECOMMENDATIONS, first)
    assert [row["items"][0]["item_id"] for row in reader.collect()] == ["b"]
    assert not lake.changed_since(EVENTS, appended), "a night would be made again because of its maintenance"
    versions = [lake.last_commit(table) for table in (EVENTS, SERVING_RECOMMENDATIONS)]
    assert maintain(config) == EXIT_OK
    assert [lake.last_commit(table) for table in (EVENTS, SERVING_RECOMMENDATIONS)] == versions
    lake.append(EVENTS, frame(EVENTS, EVENT, {"event_id": "new"}), stamp("later"))
    assert lake.changed_since(EVENTS, appended)
    figures = lake.read(RUNS).orderBy("started_at").collect()[0]["metrics"]
    assert figures["kept_hours"] == 72
    assert figures["files_before"] > 4


def test_versions_that_the_next_night_asks_for_stay(lake: Lake, config: Path, frame: Frame) -> None:
    base = {"user_id": "u", "user_bucket": 0, "item_ids": [], "features": [], "event_types": [], "event_ts": []}
    history = frame(USER_HISTORY, base, {"history_digest": "h", "run_id": "r"})
    pinned = lake.overwrite(ITEMS, frame(ITEMS, ITEM, {}), stamp("items"))
    lake.overwrite(USER_HISTORY, history, stamp("histories"))
    lake.overwrite(ITEMS, frame(ITEMS, ITEM, {"title": "new"}), stamp("items-2"))
    for table in (ITEMS, USER_HISTORY):
        age(lake, table, 10)
    assert maintain(config) == EXIT_OK
    assert read_past(lake, ITEMS, pinned).count() == 1
    lake.overwrite(USER_HISTORY, history, stamp("histories-2"))  # which has seen the new items
    assert maintain(config) == EXIT_OK
    with pytest.raises(InputError, match=r"files gone \(VACUUM\)"):
        read_past(lake, ITEMS, pinned)


def test_older_tables_get_the_contracts_properties_and_the_served_one_its_low_protocol(
    lake: Lake, config: Path, frame: Frame
) -> None:
    user = {"user_id": "u", "user_bucket": 0, "valid_from": LONG_AGO, "attributes": "{}", "run_id": "r"}
    frame(USERS, user, {}).write.format("delta").save(f"{lake.root}/users")
    lake.overwrite(SERVING_RECOMMENDATIONS, lists(lake, "a"), stamp("a", "publish"))
    assert maintain(config) == EXIT_OK
    kept = {"delta.deletedFileRetentionDuration": "interval 72 hours"}
    for table, log in ((USERS, "interval 30 days"), (SERVING_RECOMMENDATIONS, "interval 730 days")):
        rows = lake.spark.sql(f"SHOW TBLPROPERTIES {lake.name(table)}").collect()
        found = {row["key"]: row["value"] for row in rows}
        expected = {**table.table_properties, **kept, "delta.logRetentionDuration": log}
        assert {name: found.get(name) for name in expected} == expected
    protocol = OtherEngine(f"{lake.root}/serving_recommendations").protocol()
    assert (protocol.min_reader_version, protocol.min_writer_version) == (1, 2)


def test_old_rows_of_runs_go_but_for_the_names_of_files_that_were_read(
    lake: Lake, config: Path, frame: Frame
) -> None:
    loaded = load_config(str(config))
    night = Night(lake, loaded, date(2026, 1, 6), "run")
    base = {
        "logical_date": date(2026, 1, 6), "inputs": [], "outputs": [], "rows_in": 0, "rows_out": 0, "dropped": {},
        "metrics": {}, "seconds": 1.0, "config_hash": "c", "started_at": NOW - timedelta(days=401),
    }  # fmt: skip
    file = ("events", "day.tsv", None, "digest", 1, NOW)
    table = (None, "events", 3, None, None, None)
    rows = (
        {"run_id": "old", "stage": "publish"},
        {"run_id": "kept", "stage": "publish", "started_at": NOW - timedelta(days=399)},
        {"run_id": "kept", "stage": "ingest_events", "inputs": [table, file]},
        {"run_id": "old", "stage": "ingest_events", "inputs": [table]},  # read no file
    )
    lake.append(RUNS, frame(RUNS, base, *rows), stamp("x"))
    assert remove_old_runs(night, NOW) == (4, 2)
    assert [row["run_id"] for row in lake.read(RUNS).collect()] == ["kept", "kept"]
    version = lake.last_commit(RUNS)
    assert remove_old_runs(night, NOW) == (2, 0)
    assert lake.last_commit(RUNS) == version


def test_what_dead_runs_staged_goes_and_nothing_else(lake: Lake) -> None:
    old, new, other = "2026-01-06-0123456789ab", "2026-01-07-0123456789ab", "candidate_cache"
    for name, days in ((old, 1.1), (new, 0.9), (other, 9.0)):
        folder = Path(lake.staging, name)
        (folder / "links").mkdir(parents=True)
        os.utime(folder, (time.time() - days * 86_400,) * 2)
    assert sweep_staging(lake, datetime.now(UTC)) == 1
    assert sorted(path.name for path in Path(lake.staging).iterdir()) == sorted([new, other])
    assert sweep_staging(Lake(lake.spark, f"{lake.root}/none"), datetime.now(UTC)) == 0
