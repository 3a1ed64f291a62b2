"""Raw files: which are a source tonight, which columns they must have, and what is said when one cannot be read."""

import shutil
from dataclasses import replace
from datetime import date
from pathlib import Path

import pytest
from pyspark.sql import SparkSession
from pyspark.sql import functions as F

from jobs import raw_files
from jobs.catalogue import as_items
from jobs.clean import as_quarantine
from jobs.config import EventSource, Feature, ItemSource, UserSource
from jobs.raw_files import Source, in_order, list_files, reading, require_unchanged, scanning, with_digests
from jobs.sources import read_records
from schemas.errors import EXIT_INPUT, InputError

DAY = date(2026, 1, 5)
EVENT_COLUMNS = {"user_id": "user", "item_id": "item", "event_ts": "at"}


def touch(folder: Path, *names: str) -> None:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text("user\n")


def found(spark: SparkSession, folder: Path, source: Source) -> list[str]:
    """The files of a source on DAY, relative to the folder."""
    files = list_files(spark, "events", source, DAY)
    return [f.name.split(f"{folder}/")[1] for f in files]


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("{date}/events.tsv", ["2026-01-04/events.tsv", "2026-01-05/events.tsv"]),
        ("{date}/*.parquet", ["2026-01-05/p.parquet"]),
        ("{date}", ["2026-01-04/events.tsv", "2026-01-05/events.tsv", "2026-01-05/p.parquet"]),  # folders of parts
        ("{date}-*.tsv", ["2026-01-04-a.tsv", "2026-01-04-b.tsv"]),
        ("log-?/{date}.tsv", ["log-1/2026-01-04.tsv"]),
        ("{date}/{date}.tsv", ["2026-01-03/2026-01-03.tsv"]),  # the two must agree
    ],
)
def test_a_date_may_stand_anywhere_in_the_path(
    spark: SparkSession, tmp_path: Path, path: str, expected: list[str]
) -> None:
    touch(tmp_path, "2026-01-04/events.tsv", "2026-01-05/events.tsv", "2026-01-05/p.parquet")
    touch(tmp_path, "2026-01-06/events.tsv", "2026-01-06/p.parquet", "2026-01-06-a.tsv")  # after the night
    touch(tmp_path, "2026-01-04-a.tsv", "2026-01-04-b.tsv", "log-1/2026-01-04.tsv")
    touch(tmp_path, "x/2026-01-03.tsv", "2026-99-99/events.tsv", "latest/events.tsv")  # no such path, or no date
    if path == "{date}/{date}.tsv":
        touch(tmp_path, "2026-01-03/2026-01-03.tsv", "2026-01-03/2026-01-02.tsv")
    assert found(spark, tmp_path, EventSource("tsv", f"{tmp_path}/{path}", EVENT_COLUMNS)) == expected


def test_of_a_dated_snapshot_the_newest_date_is_the_source(spark: SparkSession, tmp_path: Path) -> None:
    touch(tmp_path, "2026-01-04-a.csv", "2026-01-05-a.csv", "2026-01-05-b.csv", "2026-01-06-a.csv")
    path = f"{tmp_path}/{{date}}-*.csv"
    whole = UserSource("csv", path, {"user_id": "user"})
    assert found(spark, tmp_path, whole) == ["2026-01-05-a.csv", "2026-01-05-b.csv"]
    # an incomplete one says what changed: every date counts, one after the other
    changes = UserSource("csv", path, {"user_id": "user"}, complete=False)
    parts = in_order(changes, list_files(spark, "users", changes, DAY))
    assert [[f.name[-16:] for f in part] for part in parts] == [
        ["2026-01-04-a.csv"], ["2026-01-05-a.csv", "2026-01-05-b.csv"]
    ]  # fmt: skip


def test_a_source_that_cannot_be_read_is_named_in_one_sentence(spark: SparkSession, tmp_path: Path) -> None:
    nowhere = EventSource("parquet", "nofs://node/events", EVENT_COLUMNS)
    with pytest.raises(InputError, match=r'^source events: nofs://node/events: .*FileSystem for scheme "nofs"$') as no:
        list_files(spark, "events", nowhere, DAY)
    assert no.value.exit_code == EXIT_INPUT
    with pytest.raises(InputError, match="^source events: nofs://node/events: .*No FileSystem"):
        list_files(spark, "events", EventSource("delta", nowhere.path, EVENT_COLUMNS), DAY)
    # no footer: Spark notices when it looks for the schema
    (tmp_path / "1.parquet").write_bytes(b"PAR1 nothing that Parquet would write PAR1")
    source = EventSource("parquet", f"{tmp_path}/1.parquet", EVENT_COLUMNS)
    with pytest.raises(InputError, match=r"^source events: \S+1.parquet: expected to read it, found: [^\n]+$"):
        read_records(spark, "events", source, list_files(spark, "events", source, DAY))
    # lines that no task can unzip, below a name that Spark writes in another way: noticed when they are read
    (tmp_path / "day 2.jsonl.gz").write_bytes(b"not zipped\n")
    source = EventSource("jsonl", f"{tmp_path}/day 2.jsonl.gz", EVENT_COLUMNS)
    files = with_digests(spark, "events", list_files(spark, "events", source, DAY))
    records = read_records(spark, "events", source, files)
    expected = r"^source events: \S+/day 2.jsonl.gz: .*not a gzip file$"
    with pytest.raises(InputError, match=expected), scanning("events", files):
        records.collect()
    # an error that is about no file of the source is not the source's
    with pytest.raises(Exception, match="DIVIDE_BY_ZERO") as other, scanning("events", files):
        spark.range(1).select(1 / F.col("id")).collect()
    assert not isinstance(other.value, InputError)
    with pytest.raises(Exception, match="FAILED_READ_FILE") as other, scanning("events", files[:0]):
        records.collect()
    assert not isinstance(other.value, InputError)
    # what cannot be opened at all
    with pytest.raises(InputError, match="^source events: gone.csv: .*PATH_NOT_FOUND"), reading("events", "gone.csv"):
        spark.read.text(f"{tmp_path}/gone.csv")


def test_files_that_were_planned_must_be_there_with_their_bytes(
    spark: SparkSession, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    touch(tmp_path, "a 1.tsv", "b.tsv")
    source = EventSource("tsv", f"{tmp_path}/*.tsv", EVENT_COLUMNS)
    a, b = with_digests(spark, "events", list_files(spark, "events", source, DAY))
    (tmp_path / "b.tsv").touch()  # another time, the same bytes
    require_unchanged(spark, "events", [a, b])
    (tmp_path / "a 1.tsv").write_text("")
    expected = f"source events: {a.name}: expected the file with digest {a.digest}, found digest "
    with pytest.raises(InputError) as refused:
        require_unchanged(spark, "events", [b, a])
    assert str(refused.value).startswith(expected)
    (tmp_path / "a 1.tsv").unlink()
    with pytest.raises(InputError, match=f"expected the file with digest {a.digest}, found none$"):
        require_unchanged(spark, "events", [b, a])
    monkeypatch.setattr(raw_files, "DIGEST_LIMIT", 5)  # one too large for one value is known by size and time
    (large,) = with_digests(spark, "events", [replace(b, digest="")])
    with pytest.raises(InputError, match="b.tsv: expected the file with digest size-and-time:5:.*, found digest size-"):
        require_unchanged(spark, "events", [large])


def test_a_version_of_a_delta_source_is_gone_with_its_table(spark: SparkSession, tmp_path: Path) -> None:
    source, rows = EventSource("delta", f"{tmp_path}/source", EVENT_COLUMNS), spark.range(1)
    rows.write.format("delta").save(source.path)
    (planned,) = list_files(spark, "events", source, DAY)
    rows.write.format("delta").mode("append").save(source.path)  # a later version leaves the planned one readable
    require_unchanged(spark, "events", [planned])
    shutil.rmtree(source.path)
    with pytest.raises(InputError, match="^source events: "):
        require_unchanged(spark, "events", [planned])
    rows.write.format("delta").save(source.path)
    with pytest.raises(InputError, match=r"source@0: expected the file with digest version:0, found none$"):
        require_unchanged(spark, "events", [planned])


def test_headers_must_have_each_name_once_and_every_mapped_column(spark: SparkSession, tmp_path: Path) -> None:
    source = ItemSource(
        "csv", f"{tmp_path}/*.csv", {"item_id": "item", "available": "in_stok", "title": "name"},
        {"year": Feature("yaer", "numeric")},
    )  # fmt: skip
    (tmp_path / "items.csv").write_text("item,name,in_stock,year\ni1,A,false,1990\n")
    files = list_files(spark, "items", source, DAY)
    expected = r"^source items: .*: expected columns \['in_stok', 'yaer'\], found only \['in_stock', 'item', "
    with pytest.raises(InputError, match=expected):
        read_records(spark, "items", source, files)
    # a column that some files have is no misspelling: older files may lack it
    (tmp_path / "more.csv").write_text("item,name,in_stok,yaer\ni2,B,false,1991\n")
    records = read_records(spark, "items", source, list_files(spark, "items", source, DAY))
    rows = as_items(records, source).orderBy("item_id").collect()
    assert [(r["item_id"], r["available"], r["features"]) for r in rows] == [
        ("i1", True, "{}"), ("i2", False, '{"year":1991.0}')
    ]  # fmt: skip
    users = UserSource("csv", f"{tmp_path}/items.csv", {"user_id": "item"}, {"age": "aeg"})
    with pytest.raises(InputError, match=r"source users: .*: expected columns \['aeg'\]"):
        read_records(spark, "users", users, files)
    (tmp_path / "more.csv").write_text("item,name,name\ni2,B,C\n")
    with pytest.raises(InputError, match=r"^source items: \S+more.csv: .* found \['name'\] twice$"):
        read_records(spark, "items", source, list_files(spark, "items", source, DAY))


def test_rows_of_a_delta_source_are_quarantined_once_whatever_their_version(spark: SparkSession) -> None:
    """Each version deals line numbers anew and may lie in other files."""
    columns = "record string, reason string, source_file string, line long"
    old = [("a", "bad", "part-1", 1), ("b", "bad", "part-1", 2), ("b", "bad", "part-1", 3)]
    new = [("new", "bad", "part-2", 1), ("b", "bad", "part-3", 4), ("b", "bad", "part-2", 5), ("a", "bad", "part-2", 6)]
    before, after = spark.createDataFrame(old, columns), spark.createDataFrame(new, columns)
    ids = [{r["record_id"] for r in as_quarantine(df, numbered=False).collect()} for df in (before, after)]
    assert (len(ids[0]), len(ids[1]), len(ids[1] - ids[0])) == (3, 4, 1)  # only `new` is new
    # where file and line name a record for good, they are part of it
    ids = [{r["record_id"] for r in as_quarantine(df, numbered=True).collect()} for df in (before, after)]
    assert not ids[0] & ids[1]
