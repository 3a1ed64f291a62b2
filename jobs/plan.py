"""What a night would read, write and compute, printed; nothing is written: no table, no folder, no package."""

import logging
from collections import defaultdict
from datetime import date
from statistics import median

from jobs import plan_row
from jobs.build_histories import touched_users
from jobs.done_stages import WRITES
from jobs.intervals import as_of
from jobs.night_runs import NightRun, newest_runs
from jobs.nightly import next_plan
from jobs.packages import read_manifest
from jobs.plan_row import Plan
from jobs.run_night import add_nothing_to_do_code, add_retrain, nothing_to_do, stages_of
from jobs.stage import Night, job_parser, open_night
from schemas.all_tables import TABLES
from schemas.errors import EXIT_OK
from schemas.events import EVENTS
from schemas.items import ITEMS
from schemas.users import USERS

PAST_RUNS = 5  # whose seconds the estimate is made of
UNKNOWN = "unknown"
log = logging.getLogger("lime")


def main(argv: list[str] | None = None) -> int:
    """`lime plan`."""
    parser = job_parser(plan_row.STAGE, "Print what a night would read, write and compute.", next_night=True)
    add_retrain(parser)
    add_nothing_to_do_code(parser)
    args = parser.parse_args(argv)
    night = open_night(args, date.max)
    plan = next_plan(night, args.date, args.retrain)
    if isinstance(plan, str):
        return nothing_to_do(plan, args.nothing_to_do_code)
    night = plan.of(night)
    log.info("night of %s: events before %s UTC; nothing is written now", night.logical_date, night.cutoff.date())
    for line in (raw_files_line(plan), tables_line(plan), model_line(night, plan), *size_lines(night, plan)):
        log.info("%s", line)
    for line in stage_lines(plan, newest_runs(night.lake, PAST_RUNS)):
        log.info("%s", line)
    return EXIT_OK


def raw_files_line(plan: Plan) -> str:
    """What would be read of each source."""
    sizes: dict[str, list[int]] = defaultdict(list)
    for file in plan.files.all:
        sizes[file.source].append(file.bytes)
    new = [f"{source} {len(found)} new ({sum(found):,} bytes)" for source, found in sizes.items()]
    return f"raw files: {', '.join(new) or 'none new'}; {plan.files.read_before} read before"


def tables_line(plan: Plan) -> str:
    """The versions that the night would start from."""
    there = [f"{name} {plan.versions[name]}" for name in TABLES if name in plan.versions]
    missing = [name for name in TABLES if name not in plan.versions]
    not_made = f"; not made yet: {', '.join(missing)}" if missing else ""
    return f"table versions: {', '.join(there) or 'none'}{not_made}"


def model_line(night: Night, plan: Plan) -> str:
    """The package that the night would go by."""
    if plan.trains:
        return "model: one would be trained" + (f", in place of {plan.model_digest}" if plan.model_digest else "")
    trained_until = read_manifest(night.packages / str(plan.model_digest))["trained_until"]
    return f"model: {plan.model_digest}, trained on events before {trained_until}"


def size_lines(night: Night, plan: Plan) -> list[str]:
    """Users, items and pairs, by what is in the tables before the new raw files are read."""
    lake = night.lake
    if not (lake.exists(USERS) and lake.exists(ITEMS)):
        return [f"users, items, pairs: {UNKNOWN} until the raw files are read"]
    users = as_of(lake.read(USERS), night.cutoff).count()
    items = as_of(lake.read(ITEMS), night.cutoff).where("available").count()
    found = f"users: {users:,}; items that may be shown: {items:,}; pairs: {users * items:,}"
    unread = " (the new raw files are not read yet)" if plan.files.all else ""
    return [found + unread, f"touched users: {touched_count(night, plan)}{unread}"]


def touched_count(night: Night, plan: Plan) -> str:
    """Users whose histories and links would be computed."""
    if plan.trains:
        return "everybody, for the links of a new model"
    touched = touched_users(night) if night.lake.exists(EVENTS) else None
    return "everybody" if touched is None else f"{touched.count():,}"


def stage_lines(plan: Plan, past: list[NightRun]) -> list[str]:
    """The stages that would run, the tables that each writes, and the median of the seconds it took before."""
    taken: dict[str, list[float]] = defaultdict(list)
    for record in (record for run in past for record in run.stages):
        if record.seconds and not record.report.metrics.get("refused"):  # 0: recorded by another than who did it
            taken[record.stage].append(record.seconds)
    names = [name for name, _ in stages_of(plan, log.info)]
    seconds = {name: median(taken[name]) for name in names if name in taken}
    lines = []
    for name in names:
        tables = ", ".join(table.name for table in WRITES.get(name, ()))
        about = f"about {seconds[name]:.0f} s" if name in seconds else f"time {UNKNOWN}"
        lines.append(f"stage {name}: {f'writes {tables}' if tables else 'writes no table'}; {about}")
    whole = f"about {sum(seconds.values()):.0f} s" if seconds else UNKNOWN
    lacking = [name for name in names if name not in seconds]
    return [*lines, f"time: {whole}" + (f", without {', '.join(lacking)}" if seconds and lacking else "")]
