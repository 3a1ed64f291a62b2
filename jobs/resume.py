"""Go on with an interrupted night, by the plan that it wrote and under its run id, whatever has come since.

The raw files must have the digests that were planned, the configuration its hash, the package its digest, and no
other run may have written to a table: else it is refused, and what is served stays. A file that came later waits
for the next night. Stages that are done are skipped; the others find of what they wrote what is there.
"""

import argparse
import logging
from dataclasses import replace
from datetime import date
from itertools import groupby

from jobs.done_stages import Commits, commits_since, done_stages, require_as_planned, trained_package
from jobs.lake import Lake
from jobs.lock import only_writer
from jobs.night_runs import named_run, newest_runs
from jobs.packages import require_package
from jobs.plan_row import Plan
from jobs.publish import served_commit
from jobs.raw_files import require_unchanged
from jobs.report import default_path
from jobs.run_night import add_nothing_to_do_code, add_report, nothing_to_do, run_night
from jobs.stage import Night, lake_parser, open_night
from lime_model.package import load_package
from schemas.errors import ConfigError, ModelArtifactError

STAGE = "resume"
LOOKED_AT = 10  # of the newest runs: what is older has long been overtaken
log = logging.getLogger("lime")


def main(argv: list[str] | None = None) -> int:
    """`lime resume`."""
    args = arg_parser().parse_args(argv)
    night = open_night(args, date.max)
    with only_writer(night.lake, night.config.lake, f"lime {STAGE}"):
        return _go_on(args, night)


def _go_on(args: argparse.Namespace, night: Night) -> int:
    """The night that was interrupted, if there is one; `night` stands for the lake on any date."""
    plan = plan_to_resume(night.lake, args.run)
    if isinstance(plan, str):
        return nothing_to_do(plan, args.nothing_to_do_code)
    night = plan.of(night)
    report = args.report or default_path(night, "--report")
    since = commits_since(night.lake, plan)
    require_resumable(night, plan, since)
    for source, files in groupby(plan.files.all, key=lambda f: f.source):
        require_unchanged(night.lake.spark, source, list(files))
    log.info("night of %s goes on: events before %s UTC, run %s", night.logical_date, night.cutoff.date(), night.run_id)
    return run_night(night, plan, done_stages(night, plan, since), report)


def plan_to_resume(lake: Lake, run_id: str) -> Plan | str:
    """The plan of the run that is named, else of the newest interrupted one; or why there is nothing to resume.

    Raises InputError where the run that is named wrote no plan.
    """
    served = served_commit(lake)
    if run_id:
        run = named_run(lake, run_id)
        return run.why_over(served) or run.plan
    interrupted = (run.plan for run in newest_runs(lake, LOOKED_AT) if not run.why_over(served))
    return next(interrupted, "no night was interrupted")


def require_resumable(night: Night, plan: Plan, since: Commits) -> None:
    """Raise unless configuration, tables and package are those of the plan; raw files are not looked at."""
    if night.config.hash != plan.config_hash:
        raise ConfigError(
            f"configuration: expected {plan.config_hash} of run {plan.run_id}, found {night.config.hash}; set it back, "
            "or start the night anew with `lime nightly`"
        )
    require_as_planned(night.lake, plan, since)
    model = trained_package(night, plan, since) or plan.model_digest
    if model:
        folder = require_package(replace(night, model=model))
        found = load_package(folder).digest
        if found != folder.name:
            raise ModelArtifactError(f"package {folder}: expected the digest in its name, found {found}")


def arg_parser() -> argparse.ArgumentParser:
    """The command's arguments."""
    parser = lake_parser(STAGE, "Go on with the night that was interrupted last, by its own plan.")
    parser.add_argument("--run", default="", metavar="RUN_ID", help="this run instead of the newest interrupted one")
    add_report(parser)
    add_nothing_to_do_code(parser)
    return parser
