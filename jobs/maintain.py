"""Every table -> the same rows in fewer files. Grain: one table. Also old rows of `runs`, and what dead runs staged.

A replaced version stays for the longer of the declared rollback window and the longest read, and in any case for as
long as the next night may ask what changed since it. The window is a property of each table, so another engine's
VACUUM keeps it too and Delta's own check on short retention stays on. `candidate_cache/` keeps its own order: every
score stage leaves the two last used.
"""

import argparse
import re
from collections import Counter
from collections.abc import Sequence
from datetime import UTC, date, datetime, timedelta
from math import ceil

from jobs.commits import MAINTAIN as STAGE
from jobs.config import MaintainConfig
from jobs.ingest_events import STAGE as INGEST
from jobs.lake import Lake
from jobs.lock import only_writer
from jobs.stage import Night, StageReport, lake_parser, log, open_night, record_stages, run_stage, summary
from jobs.upkeep import compact, on_disk, set_properties, staged, upkeep_of, vacuum
from schemas.all_tables import TABLES
from schemas.contract import LOG_RETENTION
from schemas.errors import EXIT_OK
from schemas.recommendations import RECOMMENDATIONS
from schemas.runs import RUNS
from schemas.serving_recommendations import SERVING_RECOMMENDATIONS
from schemas.training_sequences import TRAINING_SEQUENCES
from schemas.user_history import USER_HISTORY

FILE_RETENTION = "delta.deletedFileRetentionDuration"
# Written whole by each commit, so nothing piles up; and training reads the rows in the order in which they lie.
AS_WRITTEN = (TRAINING_SEQUENCES, SERVING_RECOMMENDATIONS)
# The next night asks what has changed since the versions that these were made from.
PINNING = (USER_HISTORY, RECOMMENDATIONS)
A_DAY = timedelta(days=1)
RUN_ID = re.compile(r"\d{4}-\d{2}-\d{2}-[0-9a-f]{12}")


def run(night: Night) -> StageReport:
    """Keep up every table, then `runs` and the staging folder; rows in and out are those of `runs`."""
    lake, now = night.lake, datetime.now(UTC)
    rows, expired = remove_old_runs(night, now)
    hours = kept_hours(night.config.maintain, now, _pinned(lake))
    figures: Counter[str] = Counter(kept_hours=hours)
    with upkeep_of(lake, night.run_id):
        for table in TABLES.values():
            if not lake.exists(table):
                continue
            log_days = max(table.log_days, ceil(hours / 24))
            retention = {FILE_RETENTION: f"interval {hours} hours", LOG_RETENTION: f"interval {log_days} days"}
            set_properties(lake, table, {**table.table_properties, **retention})
            before = on_disk(lake, table)
            if table not in AS_WRITTEN:
                compact(lake, table)
            vacuum(lake, table)
            for what, then, left in zip(("files", "bytes"), before, on_disk(lake, table), strict=True):
                figures += Counter({f"{what}_before": then, f"{what}_after": left})
    figures["staging_folders"] = sweep_staging(lake, now)
    return StageReport(rows, rows - expired, {"older than maintain.runs_days": expired}, figures)


def kept_hours(config: MaintainConfig, now: datetime, pinned: Sequence[datetime]) -> int:
    """How long the files of a replaced version stay. `pinned`: when the commits were made that name past versions.

    A stage reads its versions before it commits: a day more covers the longest stage.
    """
    asked = [(now - at + A_DAY) / timedelta(hours=1) for at in pinned]
    return max(24 * config.rollback_days, config.longest_read_hours, *map(ceil, asked))


def _pinned(lake: Lake) -> list[datetime]:
    """When each PINNING table was last written by a stage of a night."""
    made = [next((c for c in lake.commits(table) if "logical_date" in c.stamp), None) for table in PINNING]
    return [commit.committed_at for commit in made if commit]


def remove_old_runs(night: Night, now: datetime) -> tuple[int, int]:
    """Rows of `runs`, and how many of them were past their time and went, in one commit.

    What was ingested stays: without the names of raw files that were read, a night would read them all again.
    """
    if not night.lake.exists(RUNS):
        return 0, 0
    rows = night.lake.read(RUNS)
    oldest = now - timedelta(days=night.config.maintain.runs_days)
    ingested = f"stage = '{INGEST}' AND exists(inputs, file -> file.digest IS NOT NULL)"
    old = f"started_at < TIMESTAMP '{oldest.astimezone(UTC).isoformat()}' AND NOT ({ingested})"
    count, expired = rows.count(), rows.where(old).count()
    if expired:
        night.lake.overwrite(RUNS, rows.limit(0), night.stamp(STAGE), old)
    return count, expired


def sweep_staging(lake: Lake, now: datetime) -> int:
    """Remove the staging folders of runs that added nothing for a day; returns how many."""
    dead = [name for name, touched in staged(lake).items() if RUN_ID.fullmatch(name) and now - touched > A_DAY]
    for name in dead:
        lake.clear_staging(name)
    return len(dead)


def arg_parser() -> argparse.ArgumentParser:
    """The command's arguments."""
    return lake_parser(STAGE, "Compact the tables, and remove files, runs and staging folders past their time.")


def main(argv: list[str] | None = None) -> int:
    """`lime maintain`."""
    night = open_night(arg_parser().parse_args(argv), date.max).of(datetime.now(UTC).date())
    with only_writer(night.lake, night.config.lake, f"lime {STAGE}"):
        record = run_stage(night, STAGE, run)
        record_stages(night, [record], STAGE)
    found = record.report.metrics
    log.info(summary(record))
    log.info(
        "files %d, now %d; bytes %d, now %d; replaced versions stay for %d hours; %d staging folders removed",
        *(found.get(name, 0) for name in ("files_before", "files_after", "bytes_before", "bytes_after")),
        found["kept_hours"],
        found["staging_folders"],
    )
    return EXIT_OK
