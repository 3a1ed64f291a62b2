"""Raw sources -> `events`, `events_quarantine`, `items`, `users`.

Grain: one row an accepted event, a rejected record, an interval of an item or user. Reads only raw files that
no earlier run recorded in `runs`; reading one again changes nothing, because events are known by id, rejected
records by a digest, and intervals by their content.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from jobs.catalogue import as_items, as_users, users_of_events
from jobs.clean import as_events, as_quarantine, with_content
from jobs.config import ItemSource, UserSource
from jobs.deduplicate import CONFLICT, DUPLICATE, NEW, UPDATE, as_conflicts, with_outcome
from jobs.intervals import UNCHANGED, compare_snapshot, merge_snapshot
from jobs.raw_files import Source, list_files, scanning, with_digests
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
    """Raw files that no run has read as they stand now, by source, with digests."""

    events: tuple[RawFile, ...] = ()
    items: tuple[RawFile, ...] = ()
    users: tuple[RawFile, ...] = ()
    read_before: int = 0

    @property
    def all(self) -> tuple[RawFile, ...]:
        """The files of all three sources."""
        return (*self.events, *self.items, *self.users)


def new_files(night: Night) -> NewFiles:
    """What a night would read; raises InputError where a source has no file at all."""
    config, known = night.config, _recorded_files(night)
    sources: dict[str, Source] = {"events": config.events, "items": config.items}
    if config.users:
        sources["users"] = config.users
    listed = {name: list_files(night.lake.spark, name, source, night.logical_date) for name, source in sources.items()}
    new = {name: [f for f in files if _identity(f) not in known] for name, files in listed.items()}
    digested = {name: tuple(with_digests(night.lake.spark, name, files)) for name, files in new.items() if files}
    read_before = sum(len(listed[name]) - len(new[name]) for name in sources)
    return NewFiles(**digested, read_before=read_before)


def _identity(file: RawFile) -> tuple[str, int, datetime]:
    """A file as it stands: changed bytes or times make it new."""
    return file.name, file.bytes, file.modified_at


def run(night: Night, files: NewFiles | None = None) -> StageReport:
    """Read the planned files (default: what is new); raises InputError where a source gives nothing usable."""
    spark, config = night.lake.spark, night.config
    files = files or new_files(night)
    counts: Counter[str] = Counter()
    if files.events:
        counts += _ingest_events(night, files.events)
    if files.items:
        records = read_records(spark, "items", config.items, files.items)
        counts += _ingest_snapshot(night, ITEMS, as_items(records, config.items), config.items, files.items)
    if files.users and config.users:
        records = read_records(spark, "users", config.users, files.users)
        counts += _ingest_snapshot(night, USERS, as_users(records, config.users), config.users, files.users)
    if config.users is None:
        seen = night.lake.read(EVENTS).where(F.col("event_ts") < timestamp(night.cutoff))
        counts += _merge_intervals(night, USERS, users_of_events(seen), complete=False)
    night.lake.clear_staging(night.run_id)
    read, written = counts.pop("read", 0), counts.pop("written", 0)
    return StageReport(read, written, dict(counts), files=files.all)


def _recorded_files(night: Night) -> set[tuple[str, int, datetime]]:
    """Raw files that earlier runs read: name, size, time. Collects one row a file."""
    if not night.lake.exists(RUNS):
        return set()
    rows = night.lake.read(RUNS).where(F.col("stage") == STAGE).select(F.explode("inputs").alias("file"))
    files = rows.where(F.col("file.digest").isNotNull()).select("file.*").collect()
    return {(f["name"], f["bytes"], f["modified_at"].astimezone(UTC)) for f in files}


def _ingest_events(night: Night, files: Sequence[RawFile]) -> Counter[str]:
    """Raw event files into `events` and `events_quarantine`; counts rows by outcome."""
    source = night.config.events
    records = read_records(night.lake.spark, "events", source, files)
    known = with_content(night.lake.read_or_empty(EVENTS), source)
    # Used several times (counted, written, refused), read and judged once.
    conflicts = as_conflicts(night.lake.read_or_empty(EVENTS_QUARANTINE))
    with scanning("events", files):
        judged = night.lake.stage(with_outcome(as_events(records, source), known, conflicts), f"{night.run_id}/events")
    counts = Counter({row["outcome"]: row["count"] for row in judged.groupBy("outcome").count().collect()})
    total = sum(counts.values())
    fresh, updates = counts.pop(NEW, 0), counts.pop(UPDATE, 0)
    rejected = total - fresh - updates - sum(n for reason, n in counts.items() if _is_quiet(reason))
    if rejected:
        conflict = F.when(F.col("outcome") == CONFLICT, F.col("outcome"))
        bad = judged.withColumn("reason", F.coalesce("reason", conflict)).where(F.col("reason").isNotNull())
        _quarantine(night, bad, "events", source.format)
    if total and rejected == total:
        raise InputError(
            f"source {source.path}: {total} records read, all quarantined: {_most_common(counts)}"
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


def _quarantine(night: Night, refused: DataFrame, what: str, format_: str) -> None:
    """Append rejected records that are not there yet."""
    there = night.lake.read_or_empty(EVENTS_QUARANTINE).select("record_id")
    rows = as_quarantine(refused, numbered=format_ != "delta").join(there, on=["record_id"], how="left_anti")
    staged = night.lake.stage(
        rows.withColumn("run_id", F.lit(night.run_id)), f"{night.run_id}/quarantine-{what}"
    )
    if not staged.isEmpty():
        night.lake.append(EVENTS_QUARANTINE, staged, night.stamp(f"{STAGE}/{what}"))


def _ingest_snapshot(
    night: Night,
    table: TableContract,
    judged: DataFrame,
    source: ItemSource | UserSource,
    files: Sequence[RawFile],
) -> Counter[str]:
    """A catalogue's or user list's records into intervals; rejected ones into quarantine."""
    with scanning(table.name, files):
        staged = night.lake.stage(judged, f"{night.run_id}/{table.name}")
    found = {row["reason"]: row["count"] for row in staged.groupBy("reason").count().collect()}
    usable, counts = found.pop(None, 0), Counter[str](found)
    if not usable:
        raise InputError(
            f"source of {table.name}: expected rows, found none usable ({_most_common(counts) or 'empty'})"
        )
    rejected = Counter({reason: n for reason, n in counts.items() if reason != DUPLICATE})
    if rejected:
        _quarantine(
            night,
            staged.where(F.col("reason").isNotNull() & (F.col("reason") != DUPLICATE)),
            table.name,
            source.format,
        )
    content = [c for c in table.columns if c in staged.columns]
    snapshot = staged.where(F.col("reason").isNull()).select(content)
    return rejected + _merge_intervals(night, table, snapshot, source.complete)


def _merge_intervals(night: Night, table: TableContract, snapshot: DataFrame, complete: bool) -> Counter[str]:
    """Fold a snapshot into the table's intervals; no commit where nothing changed."""
    current, key = night.lake.read_or_empty(table), table.key[0]
    compared = night.lake.stage(
        compare_snapshot(current, snapshot, key, complete), f"{night.run_id}/{table.name}-diff"
    )
    changed = compared.where(F.col("status") != UNCHANGED).count()
    if changed or not night.lake.exists(table):
        start_of_day = datetime.combine(night.logical_date, datetime.min.time(), UTC)
        merged = merge_snapshot(current, compared, key, start_of_day, night.run_id)
        night.lake.overwrite(table, merged, night.stamp(STAGE))
    return Counter(written=changed)


def main(argv: list[str] | None = None) -> int:
    """`lime ingest-events`."""
    args = job_parser(STAGE, "Read new raw files into events, items and users.").parse_args(argv)
    return run_alone(args, STAGE, run)
