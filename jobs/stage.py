"""What every job is run through: the night it works for, what it reports, and its row in `runs`."""

import argparse
import logging
import re
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, date, datetime, timedelta
from uuid import uuid4

from py4j.protocol import Py4JJavaError
from pyspark.errors import PythonException
from pyspark.sql import Column
from pyspark.sql import functions as F

from jobs.config import Config, load_config
from jobs.lake import Lake, Stamp
from jobs.session import spark_session
from schemas import errors
from schemas.errors import EXIT_OK, LimeError
from schemas.runs import RUNS

log = logging.getLogger("lime")


@dataclass(frozen=True)
class Night:
    """One logical date in one lake under one configuration, worked on by one run."""

    lake: Lake
    config: Config
    logical_date: date
    run_id: str

    @property
    def cutoff(self) -> datetime:
        """The first instant that the night must not see: the day after the logical date, 00:00 UTC."""
        return datetime.combine(self.logical_date + timedelta(days=1), datetime.min.time(), UTC)

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


def run_stage(night: Night, stage: str, job: Job) -> StageRecord:
    """Run one job, noting the table versions it read and wrote."""
    night.lake.reads.clear()
    night.lake.writes.clear()
    started_at, start = datetime.now(UTC), time.monotonic()
    report = job(night)
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


def night_or_next(value: str) -> str:
    """A date, or the word `next`."""
    return value if value == "next" else date.fromisoformat(value).isoformat()


def job_parser(
    stage: str, description: str, example: str = "", next_night: bool = False
) -> argparse.ArgumentParser:
    """The arguments that every job takes; with `next_night` the date may be left out or be `next`."""
    command = stage.replace("_", "-")
    parser = argparse.ArgumentParser(
        prog=f"lime {command}",
        description=description,
        epilog=f"example: lime {command} --config night.toml --date 2026-11-22 {example}".rstrip(),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--config", required=True, metavar="FILE", help="the night's TOML file")
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
    parser.add_argument(
        "--lake", metavar="ROOT", help="a path or catalog.schema instead of the file's [lake] root"
    )
    parser.add_argument(
        "--spark-conf", metavar="FILE", help="Spark properties where the job is not started by spark-submit"
    )
    return parser


def open_night(args: argparse.Namespace, logical_date: date, run_id: str = "") -> Night:
    """Start the session and name the run."""
    config = load_config(args.config)
    spark = spark_session("lime", args.spark_conf)
    lake = Lake(spark, args.lake or config.lake.root, config.lake.staging)
    return Night(lake, config, logical_date, run_id or new_run_id(logical_date))


def run_alone(args: argparse.Namespace, stage: str, job: Job) -> int:
    """A job as a command of its own: run it, record it, say what it did."""
    night = open_night(args, args.date)
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


def _raised_in_task(text: str) -> LimeError | None:
    """The product's own error inside what Spark says of a failed task."""
    found = re.search(r"schemas\.errors\.(\w+): (.*)", text)
    kind = getattr(errors, found.group(1), None) if found else None
    return kind(found.group(2)) if found and kind else None


def exit_code(command: Callable[[], int]) -> int:
    """Run a command; an error raised on purpose becomes one line on stderr and its own exit code."""
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stdout)
    logging.getLogger("py4j").setLevel(logging.WARNING)
    try:
        return command()
    except LimeError as raised:
        return _say(raised)
    except (PythonException, Py4JJavaError) as failure:
        error = _raised_in_task(str(failure))
        if error is None:
            raise
        return _say(error)


def _say(error: LimeError) -> int:
    sys.stderr.write(f"lime: {error}\n")
    return error.exit_code
