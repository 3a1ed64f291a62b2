"""Raw records: what is accepted, what goes to quarantine and why, what two records of one id become."""

from datetime import UTC, date, datetime
from pathlib import Path

import pytest
from pyspark.sql import SparkSession
from pyspark.sql import functions as F

from jobs.catalogue import as_items
from jobs.clean import as_events, with_content
from jobs.config import EventSource, Feature, ItemSource
from jobs.deduplicate import as_conflicts, with_outcome
from jobs.raw_files import list_files
from jobs.sources import read_records
from schemas.errors import InputError
from schemas.events import EVENTS
from schemas.events_quarantine import EVENTS_QUARANTINE

COLUMNS = {
    "event_id": "id", "user_id": "user", "item_id": "item", "event_ts": "at", "event_type": "kind",
    "value": "value", "sequence": "seq", "source_updated_at": "updated",
}  # fmt: skip
HEADER = "id,user,item,at,kind,value,seq,updated"
GOOD = "e1,u1,i1,2026-01-01T10:00:00Z,view,1.5,1,"


def judged(spark: SparkSession, folder: Path, *lines: str) -> list[tuple[str, str | None]]:
    """(verbatim record, reason) of a CSV's lines, in file order."""
    (folder / "events.csv").write_text("\n".join([HEADER, *lines]) + "\n")
    source = EventSource("csv", f"{folder}/*.csv", COLUMNS, {"view": "viewed", "vi\x1few": "vi\x1fewed"})
    files = list_files(spark, "events", source, date(2026, 1, 1))
    rows = as_events(read_records(spark, "events", source, files), source).orderBy("line").collect()
    return [(row["record"], row["reason"]) for row in rows]


def test_broken_records_of_every_kind_are_refused_with_their_reason(spark: SparkSession, tmp_path: Path) -> None:
    broken = {
        GOOD: None,
        "e2,u1": "record: not a csv record",
        "e3,u1,i1,2026-01-01T10:00:00Z,view,1.5,1,,more": "record: not a csv record",
        "e4,,i1,2026-01-01T10:00:00Z,view,1.5,1,": "user_id: missing",
        "e5,u1, ,2026-01-01T10:00:00Z,view,1.5,1,": "item_id: missing",
        ",u1,i1,2026-01-01T10:00:00Z,view,1.5,1,": "event_id: missing",
        "e6,u1,i1,,view,1.5,1,": "event_ts: missing",
        "e7,u1,i1,yesterday,view,1.5,1,": "event_ts: not a timestamp (iso)",
        "e8,u1,i1,1807-01-01T10:00:00Z,view,1.5,1,": "event_ts: outside 1970-01-01 to 2100-01-01",
        "e9,u1,i1,2026-01-01T10:00:00Z,stare,1.5,1,": "event_type: missing or not in the mapping",
        "e10,u1,i1,2026-01-01T10:00:00Z,view,much,1,": "value: not of its type",
        "e11,u1,i1,2026-01-01T10:00:00Z,view,NaN,1,": "value: not finite",
        "e12,u1,i1,2026-01-01T10:00:00Z,view,1.5,first,": "sequence: not of its type",
        "e13,u1,i1,2026-01-01T10:00:00Z,view,1.5,,": "sequence: missing",
        "e14,u1,i1,2026-01-01T10:00:00Z,view,1.5,1,later": "source_updated_at: not of its type",
        f"e15,{'u' * 600},i1,2026-01-01T10:00:00Z,view,1.5,1,": "user_id: longer than 512 characters",
        "e16,u\x01,i1,2026-01-01T10:00:00Z,view,1.5,1,": "user_id: control character",
        # Spark would complete these: a time with today's date, a year with 1 January
        "e17,u1,i1,10:00,view,1.5,1,": "event_ts: not a timestamp (iso)",
        "e18,u1,i1,T9:30:00,view,1.5,1,": "event_ts: not a timestamp (iso)",
        "e19,u1,i1,2026,view,1.5,1,": "event_ts: not a timestamp (iso)",
        "e20,u1,i1,2026-01-01,view,1.5,1,": None,  # a date is midnight, UTC
        "e21,u1,i1,2026-01-01T10:00:00Z,vi\x1few,1.5,1,": "event_type: control character",
    }
    assert judged(spark, tmp_path, *broken) == list(broken.items())


@pytest.mark.parametrize(
    ("lines", "expected"),
    [
        # the same record twice: one stands, one is dropped and counted
        ([GOOD, GOOD], ["new", "duplicate"]),
        # the later source update wins, whatever the order of reading
        ([GOOD + "2026-01-03", GOOD.replace("1.5", "2.5") + "2026-01-02"], ["new", "superseded by a later version"]),
        ([GOOD + "2026-01-02", GOOD.replace("1.5", "2.5") + "2026-01-03"], ["superseded by a later version", "new"]),
        # nobody can say which is right: both are refused, never "the first one read"
        ([GOOD, GOOD.replace("1.5", "2.5")], ["event_id: conflicting duplicate"] * 2),
    ],
)
def test_records_of_one_id_are_resolved(
    spark: SparkSession, tmp_path: Path, lines: list[str], expected: list[str]
) -> None:
    (tmp_path / "events.csv").write_text("\n".join([HEADER, *lines]) + "\n")
    source = EventSource("csv", f"{tmp_path}/*.csv", COLUMNS)
    files = list_files(spark, "events", source, date(2026, 1, 1))
    cleaned = as_events(read_records(spark, "events", source, files), source)
    nothing = with_content(spark.createDataFrame([], EVENTS.struct), source)
    undisputed = as_conflicts(spark.createDataFrame([], EVENTS_QUARANTINE.struct))
    rows = with_outcome(cleaned, nothing, undisputed).orderBy("line").collect()
    assert [row["outcome"] for row in rows] == expected


def test_items_keep_what_rules_read_apart_from_what_the_model_reads(spark: SparkSession, tmp_path: Path) -> None:
    lines = ["item,genre,age,regions", "a,drama,18,y;x;y", "b,,,", "c,drama,adult,x"]
    (tmp_path / "items.csv").write_text("\n".join(lines) + "\n")
    attributes = {"regions": Feature("regions", separator=";"), "age": Feature("age", "numeric")}
    source = ItemSource("csv", f"{tmp_path}/items.csv", {"item_id": "item"}, {"genre": Feature("genre")}, attributes)
    files = list_files(spark, "items", source, date(2026, 1, 1))
    rows = as_items(read_records(spark, "items", source, files), source).orderBy("item_id").collect()
    assert [(row["features"], row["attributes"], row["reason"]) for row in rows] == [
        ('{"genre":"drama"}', '{"age":18.0,"regions":["x","y"]}', None),
        ("{}", "{}", None),
        ('{"genre":"drama"}', '{"regions":["x"]}', "items: age: not of its type"),
    ]


def test_what_is_accepted_or_disputed_decides_whatever_is_read_with_it(spark: SparkSession) -> None:
    old, new, newer = (datetime(2026, 1, day, tzinfo=UTC) for day in (1, 2, 3))
    cases = [
        # (id, content, updated) and what becomes of it
        ("known", "k", None, "duplicate"),  # in `events`; read again together with its rival, it stays
        ("known", "other", None, "event_id: conflicting duplicate"),
        ("split", "b", None, "event_id: conflicting duplicate"),  # its rival was in another file, of an earlier run
        ("open", "b", old, "event_id: conflicting duplicate"),  # an older version ends no conflict
        ("settled", "c", newer, "new"),  # a later one does
        ("dated", "x", new, "new"),  # the conflict had no update times, as within a batch: any is later than none
        ("moved", "a", old, "superseded by a later version"),  # disputed once, settled since by what `events` holds
        ("fresh", "f", None, "new"),
        ("fresh", "f", None, "duplicate"),
    ]
    rows = [(n, *case[:3], None, "file", n) for n, case in enumerate(cases)]
    columns = "n int, event_id string, content string, source_updated_at timestamp, reason string"
    cleaned = spark.createDataFrame(rows, f"{columns}, source_file string, line int")
    known = spark.createDataFrame(
        [("known", "k", None), ("moved", "m", new)], "event_id string, content string, source_updated_at timestamp"
    )
    refused = [("split", None), ("open", new), ("settled", old), ("settled", new), ("dated", None), ("moved", old)]
    quarantine = spark.createDataFrame(refused, "event_id string, source_updated_at timestamp").withColumn(
        "reason", F.lit("event_id: conflicting duplicate")
    )
    found = with_outcome(cleaned, known, as_conflicts(quarantine)).orderBy("n").collect()
    assert [row["outcome"] for row in found] == [case[3] for case in cases]


def test_line_numbers_are_exact_when_a_file_is_split(spark: SparkSession, tmp_path: Path) -> None:
    lines = [f"{n}\tx{n}" for n in range(2000)]
    (tmp_path / "big.tsv").write_text("\n".join(["number\tname", *lines]) + "\n")
    source = EventSource("tsv", f"{tmp_path}/*.tsv", {"user_id": "name", "item_id": "name", "event_ts": "number"})
    files = list_files(spark, "events", source, date(2026, 1, 1))
    key = "spark.sql.files.maxPartitionBytes"
    before = spark.conf.get(key)
    spark.conf.set(key, "4096")
    try:
        records = read_records(spark, "events", source, files)
        assert records.rdd.getNumPartitions() > 2
        rows = records.select("sequence", "fields").collect()
    finally:
        spark.conf.set(key, before)
    assert {row["sequence"]: int(row["fields"]["number"]) for row in rows} == {n + 2: n for n in range(2000)}


@pytest.mark.parametrize("format_", ["jsonl", "parquet", "delta"])
def test_other_formats_give_the_same_fields(spark: SparkSession, tmp_path: Path, format_: str) -> None:
    at = datetime(2026, 1, 1, 10, tzinfo=UTC)
    df = spark.createDataFrame([("u1", "i1", at), ("u2", "i2", at)], "user string, item string, at timestamp")
    path = str(tmp_path / "raw")
    df.coalesce(1).write.format("json" if format_ == "jsonl" else format_).save(path)
    source = EventSource(format_, path, {"user_id": "user", "item_id": "item", "event_ts": "at"})
    files = list_files(spark, "events", source, date(2026, 1, 1))
    rows = as_events(read_records(spark, "events", source, files), source).orderBy("line").collect()
    assert [(row["user_id"], row["item_id"], row["event_ts"].astimezone(UTC), row["reason"]) for row in rows] == [
        ("u1", "i1", at, None),
        ("u2", "i2", at, None),
    ]
    if format_ != "jsonl":  # JSON lines have no header, and a key may be rare
        wrong = EventSource(format_, path, {**source.columns, "value": "valeu"})
        with pytest.raises(InputError, match=r"^source events: .*: expected columns \['valeu'\], found only \['at',"):
            read_records(spark, "events", wrong, files)
