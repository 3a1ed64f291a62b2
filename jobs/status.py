"""What is served, how the last nights ended and whether one can be resumed; the exit code says the same of the newest.

0 finished, 3 refused by a gate, 4 interrupted, or no night of that date has planned anything. Where a cluster's
deploy mode swallows a night's own exit code, this is the truth.
"""

import argparse
import logging
from datetime import date

from jobs.done_stages import commits_since, done_names
from jobs.lake import Commit
from jobs.night_runs import NightRun, newest_runs
from jobs.publish import served_commit, served_date
from jobs.resume import LOOKED_AT, plan_to_resume, require_resumable
from jobs.stage import Night, lake_parser, open_night
from schemas.errors import EXIT_GATE, EXIT_OK, EXIT_RETRY, LimeError

STAGE = "status"
log = logging.getLogger("lime")


def main(argv: list[str] | None = None) -> int:
    """`lime status`."""
    args = arg_parser().parse_args(argv)
    night = open_night(args, date.max)
    runs = newest_runs(night.lake, LOOKED_AT)
    log.info("served: %s", served_line(served_commit(night.lake)))
    for run in runs:
        log.info("night of %s: %s; run %s", run.plan.logical_date, run_state(night, run), run.plan.run_id)
    log.info("resume: %s", resume_line(night))
    asked = [run for run in runs if args.date in (None, run.plan.logical_date)]
    if not asked:
        log.info("no night%s has written its plan", f" of {args.date}" if args.date else "")
    return exit_code(asked[0]) if asked else EXIT_RETRY


def exit_code(run: NightRun) -> int:
    """What a scheduler is told of a night."""
    if run.refusal:
        return EXIT_GATE
    return EXIT_OK if run.stages else EXIT_RETRY


def served_line(commit: Commit | None) -> str:
    """The newest publication, for people."""
    if commit is None:
        return "nothing yet"
    run_id, model = commit.stamp.get("run_id"), commit.inputs.get("model_digest")
    return (
        f"night of {served_date(commit)}, version {commit.version} since {commit.committed_at:%Y-%m-%d %H:%M:%S} UTC; "
        f"run {run_id}, model {model}"
    )


def run_state(night: Night, run: NightRun) -> str:
    """How a run ended."""
    if run.refusal:
        return f"refused at {run.refusal.stage}: {' '.join(run.refusal.report.dropped)}"
    if run.stages:
        return "finished"
    done = done_names(run.plan.of(night), run.plan, commits_since(night.lake, run.plan))
    return f"interrupted (or still at work) after {done[-1] if done else 'its plan'}"


def resume_line(night: Night) -> str:
    """Whether `lime resume` would go on, and what refuses it if not."""
    plan = plan_to_resume(night.lake, "")
    if isinstance(plan, str):
        return f"nothing to do: {plan}"
    try:
        require_resumable(plan.of(night), plan, commits_since(night.lake, plan))
    except LimeError as refusal:
        return f"refused for run {plan.run_id}: {refusal}"
    return f"goes on with run {plan.run_id}, if its raw files are as planned"


def arg_parser() -> argparse.ArgumentParser:
    """The command's arguments."""
    parser = lake_parser(STAGE, "Say what is served and how the last nights ended; exit with the newest one's code.")
    parser.add_argument(
        "--date", type=date.fromisoformat, metavar="YYYY-MM-DD", help="exit with the code of this night's newest run"
    )
    return parser
