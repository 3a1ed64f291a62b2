"""Catalogues and user lists through several nights: in parts, with bad records, with dates, with corrected mappings."""

from datetime import UTC, date
from pathlib import Path

import pytest
from pyspark.sql import SparkSession

from jobs import ingest_events
from jobs.cli import main
from jobs.config import Config, EventSource, Feature, ItemSource, LakeConfig, UserSource
from jobs.lake import Lake
from jobs.stage import Night, StageReport, new_run_id, record_stages, run_stage
from schemas.contract import TableContract
from schemas.errors import EXIT_OK, InputError
from schemas.events import EVENTS
from schemas.events_quarantine import EVENTS_QUARANTINE
from schemas.items import ITEMS
from schemas.users import USERS

EVENT_COLUMNS = {"user_id": "user", "item_id": "item", "event_ts": "at", "event_type": "kind"}


def write(file: Path, *lines: str) -> None:
    file.parent.mkdir(exist_ok=True)
    file.write_text("\n".join(lines) + "\n")


def ingest(night: Night, day: int) -> StageReport:
    """One more run, on a day of January 2026."""
    again = night.of(date(2026, 1, day))
    record = run_stage(again, ingest_events.STAGE, ingest_events.run)
    record_stages(again, [record], ingest_events.STAGE)
    return record.report


def intervals(night: Night, table: TableContract, content: str) -> set[tuple[object, ...]]:
    """(key, day of January that the interval opened, that it closed, content); None: beginning of time, or open."""
    rows = night.lake.read(table).collect()
    return {(r[table.key[0]], _day(r["valid_from"]), _day(r["valid_to"]), r[content]) for r in rows}


def _day(moment: object) -> int | None:
    at = moment.astimezone(UTC) if moment else None  # type: ignore[attr-defined]
    return at.day if at and at.year > 1970 else None


def test_what_a_snapshot_says_of_each_item_and_user(spark: SparkSession, tmp_path: Path) -> None:
    config = Config(
        LakeConfig(f"{tmp_path}/lake"),
        EventSource("csv", f"{tmp_path}/events.csv", EVENT_COLUMNS),
        ItemSource(
            "csv", f"{tmp_path}/items/*.csv", {"item_id": "item"}, {"price": Feature("price", "numeric")}
        ),
        UserSource("csv", f"{tmp_path}/users/{{date}}.csv", {"user_id": "user"}, {"age": "age"}),
    )
    night = Night(Lake(spark, config.lake.root), config, date(2026, 1, 5), new_run_id(date(2026, 1, 5)))
    write(tmp_path / "events.csv", "user,item,at,kind", "u1,i1,2026-01-02,view")
    write(tmp_path / "items" / "a.csv", "item,price", "i1,1", "i2,2", "i2,2")  # i2 twice: counted, one stands
    write(tmp_path / "items" / "b.csv", "item,price", "i3,3", "i4,4", "i5,5", "i6,6")
    # three dates: the newest up to the night is the list, so u1's ages are no conflict and u3 is gone
    write(tmp_path / "users" / "2026-01-04.csv", "user,age", "u1,30", "u3,50")
    write(tmp_path / "users" / "2026-01-05.csv", "user,age", "u1,31", "u2,40")
    write(tmp_path / "users" / "2026-01-06.csv", "user,age", "u1,31", "u1,32", "u2,40")
    report = ingest(night, 5)
    assert (report.rows_in, report.rows_out, report.dropped) == (1 + 7 + 2, 1 + 6 + 2, {"items: duplicate": 1})
    users = {("u1", None, None, '{"age":"31"}'), ("u2", None, None, '{"age":"40"}')}
    assert intervals(night, USERS, "attributes") == users
    assert ingest(night, 5).files == (), "nothing changed, and something was read"

    write(
        tmp_path / "items" / "b.csv", "item,price",
        "i3,33", "i3,dear",  # changed; a bad record does not drag the good one out
        "i4,cheap",  # refused, so as it was: it is in the catalogue
        "i5,5", "i5,55",  # nobody can say which: as it was
        # i6 is gone
        "i7,dear",  # refused and never known: does not enter
    )  # fmt: skip
    report = ingest(night, 6)
    assert {Path(f.name).name for f in report.files} == {"a.csv", "b.csv", "2026-01-06.csv"}
    # 3 + 6 items and 3 users read; i3 written; i1, i2 and u2 as before; i6 gone
    assert (report.rows_in, report.rows_out) == (12, 1)
    assert report.dropped == {
        "items: duplicate": 1, "items: unchanged": 2, "items: price: not of its type": 3,
        "items: item_id: conflicting duplicate": 2, "users: unchanged": 1, "users: user_id: conflicting duplicate": 2,
    }  # fmt: skip
    assert report.metrics == {"items: gone": 1, "users: gone": 0}
    assert intervals(night, ITEMS, "features") == {
        ("i1", None, None, '{"price":1.0}'),  # in the file that did not change
        ("i2", None, None, '{"price":2.0}'),
        ("i3", None, 6, '{"price":3.0}'),
        ("i3", 6, None, '{"price":33.0}'),
        ("i4", None, None, '{"price":4.0}'),
        ("i5", None, None, '{"price":5.0}'),
        ("i6", None, 6, '{"price":6.0}'),
    }
    assert intervals(night, USERS, "attributes") == users
    assert night.lake.read(EVENTS_QUARANTINE).count() == 7

    # a part that is removed is no new file, and its items are gone all the same
    (tmp_path / "items" / "a.csv").unlink()
    with pytest.raises(InputError, match="table items: expected a night from 2026-01-06 on, .* as of 2026-01-05"):
        ingest(night, 5)  # an interval that closes before the newest one opened
    assert ingest(night, 7).metrics["items: gone"] == 2
    assert {key for key, _, end, _ in intervals(night, ITEMS, "features") if end is None} == {"i3", "i4", "i5"}


def test_a_list_of_changes_is_taken_date_by_date(spark: SparkSession, tmp_path: Path) -> None:
    config = Config(
        LakeConfig(f"{tmp_path}/lake"),
        EventSource("csv", f"{tmp_path}/events.csv", EVENT_COLUMNS),
        ItemSource(
            "csv", f"{tmp_path}/items/{{date}}.csv", {"item_id": "item"}, {"price": Feature("price")}, complete=False
        ),
    )
    night = Night(Lake(spark, config.lake.root), config, date(2026, 1, 5), new_run_id(date(2026, 1, 5)))
    write(tmp_path / "events.csv", "user,item,at,kind", "u1,i1,2026-01-02,view")
    write(tmp_path / "items" / "2026-01-03.csv", "item,price", "i1,1", "i2,2")
    write(tmp_path / "items" / "2026-01-04.csv", "item,price", "i1,11")  # i2 is not mentioned and stays
    write(tmp_path / "items" / "2026-01-05.csv", "item,price", "i1,12")  # the last word, and no conflict
    assert ingest(night, 5).dropped == {}
    assert intervals(night, ITEMS, "features") == {
        ("i1", None, 5, '{"price":"1"}'),  # changes take effect with the night that reads them
        ("i1", 5, None, '{"price":"12"}'),
        ("i2", None, None, '{"price":"2"}'),
    }


TOML = """
lake = { root = "FOLDER/lake" }
[events]
format = "csv"
path = "FOLDER/events.csv"
columns = { user_id = "user", item_id = "item", event_ts = "at", event_type = "kind" }
types = { view = "viewed" }
[items]
format = "csv"
path = "FOLDER/items.csv"
columns = { item_id = "item" }
"""


def test_after_a_mapping_is_corrected_refused_records_come_in(spark: SparkSession, tmp_path: Path) -> None:
    write(tmp_path / "items.csv", "item", "i1")
    write(tmp_path / "events.csv", "user,item,at,kind", "u1,i1,2026-01-02,view", "u1,i1,2026-01-03,buy")
    config, lake = tmp_path / "night.toml", Lake(spark, f"{tmp_path}/lake")
    command = ["ingest-events", "--config", str(config), "--date", "2026-01-05"]
    config.write_text(TOML.replace("FOLDER", str(tmp_path)))
    assert main(command) == EXIT_OK
    assert [row["event_type"] for row in lake.read(EVENTS).collect()] == ["viewed"]
    config.write_text(config.read_text().replace('view = "viewed"', 'view = "viewed", buy = "bought"'))
    assert main([*command, "--again"]) == EXIT_OK
    assert sorted(row["event_type"] for row in lake.read(EVENTS).collect()) == ["bought", "viewed"]
