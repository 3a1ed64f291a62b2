"""What every job is run through: the night it works for, what it reports, and its row in `runs`."""

import argparse
import logging
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from uuid import uuid4

from pyspark.sql import Column
from pyspark.sql import functions as F

from jobs.config import Config, load_config
from jobs.lake import Lake, Stamp
from jobs.lock import only_writer
from jobs.session import spark_session
from jobs.task_errors import task_errors
from schemas.errors import EXIT_OK, ConfigError, InputError
from schemas.runs import RUNS

log = logging.getLogger("lime")


@dataclass(frozen=True)
class Night:
    """One logical date in one lake under one configuration, worked on by one run."""

    lake: Lake
    config: Config
    logical_date: date
    run_id: str
    model: str = ""  # the digest of the package that the run goes by; empty: the newest that fits

    @property
    def cutoff(self) -> datetime:
        """The first instant that the night must not see: the day after the logical date, 00:00 UTC."""
        return datetime.combine(self.logical_date + timedelta(days=1), datetime.min.time(), UTC)

    @property
    def packages(self) -> Path:
        """The folder of model packages."""
        return packages_folder(self.lake, self.config)

    def of(self, logical_date: date) -> "Night":
        """The same lake and configuration on another date, as a run of its own."""
        return replace(self, logical_date=logical_date, run_id=new_run_id(logical_date))

    def stamp(self, stage: str, **inputs: object) -> Stamp:
        """What a commit of this run says of itself."""
        return Stamp(self.run_id, stage, self.logical_date, inputs)


@dataclass(frozen=True)
class RawFile:
    """One raw file as it stood when it was read; `source` is events, items or users."""

    source: str
    name: str
    bytes: int
    modified_at: datetime
    digest: str


@dataclass(frozen=True)
class StageReport:
    """What a job says of its work; counts are rows, `dropped` is by reason."""

    rows_in: int = 0
    rows_out: int = 0
    dropped: Mapping[str, int] = field(default_factory=dict)
    metrics: Mapping[str, float] = field(default_factory=dict)
    files: tuple[RawFile, ...] = ()
    model_digest: str | None = None


@dataclass(frozen=True)
class StageRecord:
    """A report with what the runner adds: tables touched and time taken."""

    stage: str
    report: StageReport
    reads: Mapping[str, int]
    writes: Mapping[str, int]
    started_at: datetime
    seconds: float


Job = Callable[[Night], StageReport]


def new_run_id(logical_date: date) -> str:
    """One per submit: the night, then something unique."""
    return f"{logical_date.isoformat()}-{uuid4().hex[:12]}"


def timestamp(moment: datetime) -> Column:
    """A UTC instant as a literal, whatever the driver's time zone."""
    return F.lit(moment.astimezone(UTC).isoformat()).cast("timestamp")


def packages_folder(lake: Lake, config: Config) -> Path:
    """Where model packages lie; raises ConfigError where neither the configuration nor the lake is a folder."""
    if config.lake.packages:
        return Path(config.lake.packages)
    if not lake.is_folder:
        raise ConfigError(f"lake.packages: expected a folder of the driver beside the lake {lake.root}, found none")
    return Path(lake.root) / "models"


def run_stage(night: Night, stage: str, job: Job) -> StageRecord:
    """Run one job, noting the table versions it read and wrote; what it staged goes, whether or not it failed."""
    night.lake.reads.clear()
    night.lake.writes.clear()
    started_at, start = datetime.now(UTC), time.monotonic()
    try:
        with task_errors():
            report = job(night)
    finally:
        night.lake.clear_staging(night.run_id)
    seconds = time.monotonic() - start
    reads, writes = dict(night.lake.reads), dict(night.lake.writes)
    return StageRecord(stage, report, reads, writes, started_at, seconds)


def record_stages(night: Night, records: Sequence[StageRecord], name: str) -> None:
    """Append the rows of `runs` in one commit; `name` tells this commit from the run's others."""
    rows = [_runs_row(night, record) for record in records]
    night.lake.append(RUNS, night.lake.spark.createDataFrame(rows, RUNS.struct), night.stamp(f"runs/{name}"))


def _runs_row(night: Night, record: StageRecord) -> tuple[object, ...]:
    report = record.report
    inputs: list[tuple[object, ...]] = [
        (None, name, version, None, None, None) for name, version in record.reads.items()
    ]
    inputs += [(f.source, f.name, None, f.digest, f.bytes, f.modified_at) for f in report.files]
    return (
        night.run_id,
        record.stage,
        night.logical_date,
        inputs,
        list(record.writes.items()),
        report.rows_in,
        report.rows_out,
        dict(report.dropped),
        {name: float(value) for name, value in report.metrics.items()},
        record.seconds,
        record.started_at,
        night.config.hash,
        report.model_digest,
    )


def require_ended(logical_date: date) -> None:
    """Raise InputError for a date whose events are not all there yet: once it is served, no real night follows."""
    yesterday = datetime.now(UTC).date() - timedelta(days=1)
    if logical_date > yesterday:
        raise InputError(f"--date {logical_date}: expected {yesterday} (the last day that has ended) or earlier")


def night_or_next(value: str) -> str:
    """A date, or the word `next`."""
    return value if value == "next" else date.fromisoformat(value).isoformat()


def lake_parser(stage: str, description: str, example: str = "") -> argparse.ArgumentParser:
    """The arguments of every command that opens a lake."""
    command = stage.replace("_", "-")
    parser = argparse.ArgumentParser(
        prog=f"lime {command}",
        description=description,
        epilog=f"example: lime {command} --config night.toml {example}".rstrip(),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--config", required=True, metavar="FILE", help="the night's TOML file")
    parser.add_argument(
        "--lake", metavar="ROOT", help="a path or catalog.schema instead of the file's [lake] root"
    )
    parser.add_argument(
        "--spark-conf", metavar="FILE", help="Spark properties where the job is not started by spark-submit"
    )
    return parser


def job_parser(
    stage: str, description: str, example: str = "", next_night: bool = False
) -> argparse.ArgumentParser:
    """The arguments that every job takes; with `next_night` the date may be left out or be `next`."""
    parser = lake_parser(stage, description, f"--date 2026-11-22 {example}")
    day = "logical date: events before the next day, 00:00 UTC"
    if next_night:
        parser.add_argument(
            "--date",
            default="next",
            type=night_or_next,
            metavar="YYYY-MM-DD",
            help=f"{day}; or `next`, the night after the one served (default)",
        )
    else:
        parser.add_argument("--date", required=True, type=date.fromisoformat, metavar="YYYY-MM-DD", help=day)
    return parser


def open_night(args: argparse.Namespace, logical_date: date, run_id: str = "") -> Night:
    """Start the session and name the run; raises ConfigError before any work where a place is missing."""
    config = load_config(args.config)
    spark = spark_session("lime", args.spark_conf)
    lake = Lake(spark, args.lake or config.lake.root, config.lake.staging)
    packages_folder(lake, config)
    return Night(lake, config, logical_date, run_id or new_run_id(logical_date))


def run_alone(args: argparse.Namespace, stage: str, job: Job) -> int:
    """A job as a command of its own: run it, record it, say what it did."""
    require_ended(args.date)
    night = open_night(args, args.date)
    with only_writer(night.lake, night.config.lake, f"lime {stage.replace('_', '-')}"):
        record = run_stage(night, stage, job)
        record_stages(night, [record], stage)
    log.info(summary(record))
    return EXIT_OK


def summary(record: StageRecord) -> str:
    """One line a stage, for people."""
    report = record.report
    dropped = ", ".join(f"{count} {reason}" for reason, count in sorted(report.dropped.items()) if count)
    return (
        f"{record.stage}: {report.rows_in} rows in, {report.rows_out} written"
        + (f", dropped {dropped}" if dropped else "")
        + f", {record.seconds:.1f} s"
    )
