"""One whole night: ingest, histories, a model if there is none, links, weights, lists, publication, report.

`--date next` (the default) is the night after the one served; on an empty lake it is the configuration's first.
Before its first stage the night writes its plan to `runs`, after its last the rows of all stages: one commit each.
Every stage writes only what changed, so a night that was interrupted is simply started again. One that was killed
between its publication and its rows in `runs` is recorded first, by whichever night comes next.
"""

import argparse
import logging
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta

from jobs import (
    build_histories,
    embed_users,
    evaluate_lists,
    ingest_events,
    publish,
    score_candidates,
    train_model,
    weigh_candidates,
)
from jobs.config import NightConfig
from jobs.lake import Lake
from jobs.packages import current_package
from jobs.progress import Progress
from jobs.publish import is_published, served_commit, served_date
from jobs.report import default_path, sample_lists, write_report
from jobs.report_data import is_recorded
from jobs.stage import (
    Job,
    Night,
    StageRecord,
    StageReport,
    job_parser,
    open_night,
    record_stages,
    require_ended,
    run_stage,
    summary,
)
from schemas.all_tables import TABLES
from schemas.errors import EXIT_OK, GateError, InputError

STAGE = "nightly"
log = logging.getLogger("lime")


def main(argv: list[str] | None = None) -> int:
    """`lime nightly`."""
    args = arg_parser().parse_args(argv)
    night = open_night(args, date.max)
    record_lost_publication(night)
    logical_date, why_not = choose_date(night.lake, night.config.night, args.date)
    if logical_date is None:
        return _nothing_to_do(why_not, args.nothing_to_do_code)
    night = night.of(logical_date)
    files = ingest_events.new_files(night)
    if is_published(night) and not files.all and not args.retrain:
        return _nothing_to_do(f"{logical_date} is published from the same inputs", args.nothing_to_do_code)
    report = args.report or default_path(night, "--report")
    log.info("night of %s: events before %s UTC, run %s", logical_date, night.cutoff.date(), night.run_id)
    if files.read_before:
        log.info("raw files: %d new, %d skipped (read before)", len(files.all), files.read_before)
    records, refusal = run_night(night, files, args.retrain, Progress(log))
    write_report(night, records, report)
    if refusal:
        log.info("refused %s; report: %s", logical_date, report)
        raise refusal
    for sample in sample_lists(night, 3):
        log.info("%s", sample.as_text())
    log.info("published %s; report: %s", logical_date, report)
    return EXIT_OK


def run_night(
    night: Night, files: ingest_events.NewFiles, retrain: bool, progress: Progress
) -> tuple[list[StageRecord], GateError | None]:
    """Plan, stages, `runs`. A gate that refuses ends the night: it is recorded with what it saw and handed back."""
    stages: list[tuple[str, Job]] = [
        (ingest_events.STAGE, lambda n: ingest_events.run(n, files)),
        (build_histories.STAGE, build_histories.run),
    ]
    if retrain or current_package(night) is None:
        stages.append((train_model.STAGE, lambda n: train_model.run(n, progress.note)))
    else:
        progress.skip(train_model.STAGE, "there is a model; --retrain makes another")
    for job in (evaluate_lists, embed_users, weigh_candidates, score_candidates, publish):
        stages.append((job.STAGE, job.run))
    record_stages(night, [_plan(night, files)], "plan")
    records: list[StageRecord] = []
    for name, job_run in stages:
        with progress.stage(name, len(records) + 1, len(stages)):
            try:
                record = run_stage(night, name, job_run)
            except GateError as refusal:
                refused = StageReport(metrics={**refusal.figures, "refused": 1.0})
                records.append(StageRecord(name, refused, {}, {}, datetime.now(UTC), 0.0))
                record_stages(night, records, "stages")
                return records, refusal
        records.append(record)
        log.info("%s", summary(record))
    record_stages(night, records, "stages")
    return records, None


def _plan(night: Night, files: ingest_events.NewFiles) -> StageRecord:
    """What the night is about to read: raw files with sizes and digests, table versions, model, configuration."""
    commits = {name: night.lake.last_commit(table) for name, table in TABLES.items()}
    versions = {name: commit.version for name, commit in commits.items() if commit}
    package = current_package(night)
    report = StageReport(files=files.all, model_digest=package.name if package else None)
    return StageRecord("plan", report, versions, {}, datetime.now(UTC), 0.0)


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
        log.info("report: %s", write_report(lost, records, default_path(lost, "--report")))
    else:
        log.info("its report: lime report --date %s --into FILE", when)


def _nothing_to_do(why: str, code: int) -> int:
    log.info("nothing to do: %s", why)
    return code


def arg_parser() -> argparse.ArgumentParser:
    """The command's arguments."""
    parser = job_parser(STAGE, "Run one whole night and publish it.", next_night=True)
    parser.add_argument("--retrain", action="store_true", help="train a model even if there is one")
    parser.add_argument(
        "--report", metavar="FILE", help="where the report goes (default: reports/ in the lake)"
    )
    parser.add_argument(
        "--nothing-to-do-code",
        type=int,
        default=EXIT_OK,
        metavar="N",
        help="exit code of a night with nothing to do (default: 0)",
    )
    return parser
