"""Raw sources -> `events`, `events_quarantine`, `items`, `users`.

Grain: one row an accepted event, a rejected record, an interval of an item or user. Reads only event files that
no earlier run recorded in `runs`, and a complete catalogue or user list whole, once any of its files changed.
Reading one again changes nothing, because events are known by id, rejected records by a digest, and intervals by
their content.
"""

from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from pyspark.sql import DataFrame, Row
from pyspark.sql import functions as F

from jobs.catalogue import as_items, as_users, users_of_events
from jobs.clean import as_events, as_quarantine, with_content
from jobs.config import ItemSource, UserSource
from jobs.deduplicate import CONFLICT, DUPLICATE, NEW, UPDATE, as_conflicts, with_outcome
from jobs.intervals import GONE, UNCHANGED, compare_snapshot, merge_snapshot
from jobs.raw_files import Source, in_order, is_snapshot, list_files, scanning, with_digests
from jobs.sources import read_records
from jobs.stage import Night, RawFile, StageReport, job_parser, run_alone, timestamp
from schemas.contract import TableContract
from schemas.errors import InputError
from schemas.events import EVENTS
from schemas.events_quarantine import EVENTS_QUARANTINE
from schemas.items import ITEMS
from schemas.runs import RUNS
from schemas.users import USERS

STAGE = "ingest_events"


@dataclass(frozen=True)
class NewFiles:
    """Raw files to read now, by source, with digests."""

    events: tuple[RawFile, ...] = ()
    items: tuple[RawFile, ...] = ()
    users: tuple[RawFile, ...] = ()
    read_before: int = 0

    @property
    def all(self) -> tuple[RawFile, ...]:
        """The files of all three sources."""
        return (*self.events, *self.items, *self.users)


def new_files(night: Night, again: bool = False) -> NewFiles:
    """What a night would read (`again`: whatever was read before); raises InputError where a source has no file."""
    config, spark = night.config, night.lake.spark
    read = {} if again else _files_read(night)
    sources: dict[str, Source] = {"events": config.events, "items": config.items}
    if config.users:
        sources["users"] = config.users
    listed = {name: list_files(spark, name, source, night.logical_date) for name, source in sources.items()}
    new = {name: _unread(source, listed[name], read.get(name, ())) for name, source in sources.items()}
    digested = {name: tuple(with_digests(spark, name, files)) for name, files in new.items() if files}
    read_before = sum(len(listed[name]) - len(new[name]) for name in sources)
    return NewFiles(**digested, read_before=read_before)


def _unread(source: Source, listed: list[RawFile], read: Sequence[Row]) -> list[RawFile]:
    """The listed files that no run has read; of a snapshot all of them, unless they are just what was read last.

    A part of a snapshot alone would say that everything in the other parts is gone, and a part that was removed
    is no new file.
    """
    if is_snapshot(source):
        last = max((row["started_at"] for row in read), default=None)
        read = [row for row in read if row["started_at"] == last]
    known = {_identity(row["name"], row["bytes"], row["modified_at"]) for row in read}
    now = {f: _identity(f.name, f.bytes, f.modified_at) for f in listed}
    if is_snapshot(source):
        return [] if known == set(now.values()) else listed
    return [f for f in listed if now[f] not in known]


def _identity(name: str, size: int, modified_at: datetime) -> tuple[str, int, datetime]:
    """A file as it stands: changed bytes or times make it new."""
    return name, size, modified_at.astimezone(UTC)


def _files_read(night: Night) -> dict[str, list[Row]]:
    """Raw files that earlier runs read, by source. Collects one row a file and run."""
    found: dict[str, list[Row]] = defaultdict(list)
    if night.lake.exists(RUNS):
        runs = night.lake.read(RUNS).where(F.col("stage") == STAGE)
        rows = runs.select("started_at", F.explode("inputs").alias("file")).select("started_at", "file.*")
        for row in rows.where(F.col("digest").isNotNull()).collect():
            found[row["source"]].append(row)
    return found


def run(night: Night, files: NewFiles | None = None) -> StageReport:
    """Read the planned files (default: what is new); raises InputError where a source gives nothing usable.

    Rows in are raw records, rows out those of them that made a row of `events` or an interval; what closes an
    interval is the absence of a record, and a figure of its own.
    """
    config = night.config
    files = files or new_files(night)
    counts: Counter[str] = Counter()
    if files.events:
        counts += _ingest_events(night, files.events)
    for n, part in enumerate(in_order(config.items, files.items)):
        counts += _ingest_snapshot(night, ITEMS, config.items, part, f"items-{n}")
    if config.users:
        for n, part in enumerate(in_order(config.users, files.users)):
            counts += _ingest_snapshot(night, USERS, config.users, part, f"users-{n}")
    else:
        seen = users_of_events(night.lake.read(EVENTS).where(F.col("event_ts") < timestamp(night.cutoff)))
        _merge_intervals(night, USERS, compare_snapshot(_table(night, USERS), seen, "user_id", complete=False), "users")
    read, written = counts.pop("read", 0), counts.pop("written", 0)
    gone = {f"{table.name}: {GONE}": counts.pop(f"{table.name}: {GONE}", 0) for table in (ITEMS, USERS)}
    return StageReport(read, written, dict(counts), gone, files=files.all)


def _ingest_events(night: Night, files: Sequence[RawFile]) -> Counter[str]:
    """Raw event files into `events` and `events_quarantine`; counts rows by outcome."""
    source = night.config.events
    records = read_records(night.lake.spark, "events", source, files)
    known = with_content(_table(night, EVENTS), source)
    outcome = with_outcome(as_events(records, source), known, as_conflicts(_table(night, EVENTS_QUARANTINE)))
    # Used several times (counted, written, refused), read and judged once.
    with scanning("events", files):
        judged = night.lake.stage(outcome, f"{night.run_id}/events")
    counts = Counter({row["outcome"]: row["count"] for row in judged.groupBy("outcome").count().collect()})
    total = sum(counts.values())
    fresh, updates = counts.pop(NEW, 0), counts.pop(UPDATE, 0)
    rejected = total - fresh - updates - sum(n for reason, n in counts.items() if _is_quiet(reason))
    if rejected:
        conflict = F.when(F.col("outcome") == CONFLICT, F.col("outcome"))
        bad = judged.withColumn("reason", F.coalesce("reason", conflict)).where(F.col("reason").isNotNull())
        _quarantine(night, bad, "events", source)
    if total and rejected == total:
        raise InputError(
            f"source events: {source.path}: {total} records read, all quarantined: {_most_common(counts)}"
        )
    columns = [F.lit(night.run_id).alias("run_id") if c == "run_id" else F.col(c) for c in EVENTS.columns]
    if fresh or not night.lake.exists(EVENTS):
        night.lake.append(EVENTS, judged.where(F.col("outcome") == NEW).select(columns), night.stamp(STAGE))
    if updates:
        rows = judged.where(F.col("outcome") == UPDATE).select(columns)
        night.lake.update_by_key(EVENTS, rows, night.stamp(f"{STAGE}/updates"))
    return counts + Counter(read=total, written=fresh + updates)


def _is_quiet(outcome: str) -> bool:
    """Outcomes that are dropped and counted, not quarantined: their content is in `events`."""
    return ":" not in outcome


def _most_common(counts: Counter[str]) -> str:
    return ", ".join(f"{count} x {reason}" for reason, count in counts.most_common(3))


def _table(night: Night, table: TableContract) -> DataFrame:
    return night.lake.read_or_empty(table)


def _quarantine(night: Night, refused: DataFrame, what: str, source: Source) -> None:
    """Append rejected records that are not there yet."""
    there = _table(night, EVENTS_QUARANTINE).select("record_id")
    rows = as_quarantine(refused, numbered=source.format != "delta")
    rows = rows.join(there, on=["record_id"], how="left_anti")
    staged = night.lake.stage(
        rows.withColumn("run_id", F.lit(night.run_id)), f"{night.run_id}/quarantine-{what}"
    )
    if not staged.isEmpty():
        night.lake.append(EVENTS_QUARANTINE, staged, night.stamp(f"{STAGE}/{what}"))


def _ingest_snapshot(
    night: Night, table: TableContract, source: ItemSource | UserSource, files: Sequence[RawFile], part: str
) -> Counter[str]:
    """A catalogue's or user list's records into intervals; rejected ones into quarantine.

    `part` tells the commits of one run from each other.
    """
    records = read_records(night.lake.spark, table.name, source, files)
    judged = as_items(records, source) if isinstance(source, ItemSource) else as_users(records, source)
    with scanning(table.name, files):
        staged = night.lake.stage(judged, f"{night.run_id}/{part}")
    found = {row["reason"]: row["count"] for row in staged.groupBy("reason").count().collect()}
    usable, doubled, counts = found.pop(None, 0), found.pop(DUPLICATE, 0), Counter[str](found)
    if not usable:
        raise InputError(
            f"source {table.name}: {source.path}: expected rows, found none usable ({_most_common(counts) or 'empty'})"
        )
    refused = staged.where(F.col("reason") != DUPLICATE)
    if counts:
        _quarantine(night, refused, part, source)
    key, content = table.key[0], [c for c in table.columns if c in staged.columns]
    snapshot = staged.where(F.col("reason").isNull()).select(content)
    # A record that cannot be used still says that its key is there.
    held = refused.where(F.col(key).isNotNull()).select(key).distinct()
    compared = compare_snapshot(_table(night, table), snapshot, key, source.complete, held)
    read = Counter({"read": sum(counts.values()) + usable + doubled, f"{table.name}: {DUPLICATE}": doubled})
    return read + counts + _merge_intervals(night, table, compared, part)


def _merge_intervals(night: Night, table: TableContract, compared: DataFrame, part: str) -> Counter[str]:
    """Fold a compared snapshot into the table's intervals; no commit where nothing changed.

    Raises InputError for a night before the newest change: what it opened would overlap what came later.
    """
    staged = night.lake.stage(compared, f"{night.run_id}/{part}-diff")
    statuses = staged.groupBy("status", F.col("now").isNotNull().alias("named")).count().collect()
    counts = Counter({(row["status"], row["named"]): row["count"] for row in statuses})
    unchanged, gone = counts.pop((UNCHANGED, True), 0), counts.pop((GONE, False), 0)
    counts.pop((UNCHANGED, False), None)
    written = sum(counts.values())
    if written or gone or not night.lake.exists(table):
        current = _table(night, table)
        start_of_day = datetime.combine(night.logical_date, datetime.min.time(), UTC)
        _refuse_older(current, table, start_of_day)
        merged = merge_snapshot(current, staged, table.key[0], start_of_day, night.run_id)
        night.lake.overwrite(table, merged, night.stamp(f"{STAGE}/{part}"))
    return Counter({"written": written, f"{table.name}: {UNCHANGED}": unchanged, f"{table.name}: {GONE}": gone})


def _refuse_older(current: DataFrame, table: TableContract, at: datetime) -> None:
    row = current.agg(F.max(F.greatest("valid_from", "valid_to")).alias("newest")).first()
    if row and row["newest"] and at < row["newest"].astimezone(UTC):
        raise InputError(
            f"table {table.name}: expected a night from {row['newest'].astimezone(UTC).date()} on, when it last "
            f"changed; found changes as of {at.date()}"
        )


def main(argv: list[str] | None = None) -> int:
    """`lime ingest-events`."""
    parser = job_parser(STAGE, "Read new raw files into events, items and users.")
    parser.add_argument(
        "--again",
        action="store_true",
        help="read files that earlier runs read, too: after a mapping was corrected, what it had refused comes in; "
        "events are known by id, so a source without ids must not change what it makes of accepted events",
    )
    args = parser.parse_args(argv)
    return run_alone(args, STAGE, lambda night: run(night, new_files(night, args.again)))
