"""One whole night: ingest, histories, a model if there is none, links, weights, lists, publication, report.

`--date next` (the default) is the night after the one served; on an empty lake it is the configuration's first.
Before its first stage the night writes its plan to `runs`, after its last the rows of all stages: one commit each.
Every stage writes only what changed, so a night that was interrupted may be started again, with what is there now;
`lime resume` goes on with what was planned. One that was killed between its publication and its rows in `runs` is
recorded first, by whichever night comes next.
"""

import argparse
import logging
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta

from jobs import evaluate_lists, ingest_events, plan_row, publish
from jobs.config import NightConfig
from jobs.lake import Lake
from jobs.lock import only_writer
from jobs.plan_row import Plan, make_plan
from jobs.publish import is_published, served_commit, served_date
from jobs.report import default_path, write_report
from jobs.report_data import is_recorded
from jobs.run_night import add_nothing_to_do_code, add_report, add_retrain, nothing_to_do, run_night
from jobs.stage import Night, job_parser, open_night, record_stages, require_ended, run_stage
from schemas.errors import InputError

STAGE = "nightly"
log = logging.getLogger("lime")


def main(argv: list[str] | None = None) -> int:
    """`lime nightly`."""
    args = arg_parser().parse_args(argv)
    night = open_night(args, date.max)
    with only_writer(night.lake, night.config.lake, f"lime {STAGE}"):
        return _submit(args, night)


def _submit(args: argparse.Namespace, night: Night) -> int:
    """The night that is due, if there is one; `night` stands for the lake on any date."""
    record_lost_publication(night)
    plan = next_plan(night, args.date, args.retrain)
    if isinstance(plan, str):
        return nothing_to_do(plan, args.nothing_to_do_code)
    night = plan.of(night)
    report = args.report or default_path(night, "--report")
    log.info("night of %s: events before %s UTC, run %s", night.logical_date, night.cutoff.date(), night.run_id)
    if plan.files.read_before:
        log.info("raw files: %d new, %d skipped (read before)", len(plan.files.all), plan.files.read_before)
    record_stages(night, [plan_row.as_record(plan)], plan_row.STAGE)
    return run_night(night, plan, {}, report)


def next_plan(night: Night, asked: str, retrain: bool) -> Plan | str:
    """The plan of the night that is asked for, as a run of its own, or why there is nothing to do; writes nothing."""
    logical_date, why_not = choose_date(night.lake, night.config.night, asked)
    if logical_date is None:
        return why_not
    night = night.of(logical_date)
    files = ingest_events.new_files(night)
    if is_published(night) and not files.all and not retrain:
        return f"{logical_date} is published from the same inputs"
    return make_plan(night, files, retrain)


def choose_date(lake: Lake, config: NightConfig, asked: str) -> tuple[date | None, str]:
    """The night to work on, or None and why there is none. Raises InputError for a night older than served."""
    commit = served_commit(lake)
    served = served_date(commit) if commit else None
    if asked != "next":
        wanted = date.fromisoformat(asked)
        require_ended(wanted)
        if served and wanted < served:
            raise InputError(f"--date {wanted}: expected {served} (served) or later; past nights are not made again")
        if config.last_date and wanted > config.last_date:
            raise InputError(f"--date {wanted}: expected {config.last_date} (night.last_date) or earlier")
        return wanted, ""
    yesterday = datetime.now(UTC).date() - timedelta(days=1)
    following = served + timedelta(days=1) if served else config.first_date or yesterday
    if config.last_date and following > config.last_date:
        return None, f"{config.last_date} is the data's last day and it is served"
    if following > yesterday:
        return None, f"the night of {following} has not ended"
    return following, ""


def record_lost_publication(night: Night) -> None:
    """Complete `runs` and the report where the newest publication's run was killed before it did.

    A rollback judges no lists and has no report: only its row is written. The commit of a publication holds the
    gates' figures, and the lists before it can still be judged; what the other stages counted is lost. The run's
    raw files stay unrecorded, so they are read again, which changes nothing.
    """
    commit = served_commit(night.lake)
    when = served_date(commit) if commit else None
    if commit is None or when is None:
        return
    lost = replace(night, logical_date=when, run_id=str(commit.stamp["run_id"]))
    record = publish.as_record(commit)
    if is_recorded(lost, record.stage):
        return
    log.info("the night of %s was published by run %s, which did not record it: recorded now", when, lost.run_id)
    if record.stage == publish.ROLLBACK:
        record_stages(lost, [record], "recorded later")
        return
    records = [run_stage(lost, evaluate_lists.STAGE, evaluate_lists.run), record]
    record_stages(lost, records, "recorded later")
    if lost.lake.is_folder:
        path = default_path(lost, "--report")
        write_report(lost, records, path)
        log.info("report: %s", path)
    else:
        log.info("its report: lime report --date %s --into FILE", when)


def arg_parser() -> argparse.ArgumentParser:
    """The command's arguments."""
    parser = job_parser(STAGE, "Run one whole night and publish it.", next_night=True)
    add_retrain(parser)
    add_report(parser)
    add_nothing_to_do_code(parser)
    return parser
