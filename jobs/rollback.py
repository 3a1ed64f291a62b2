"""`serving_recommendations` as an earlier night left it -> the same table. Grain: one user. One commit.

What the night served again has its gates behind it, so there are none here. The night that was rolled back can be
published again: `lime nightly` makes the night after the one served, which it now is.
"""

import argparse
from datetime import date

from jobs.lake import Commit, Lake
from jobs.lock import only_writer
from jobs.past import read_past
from jobs.publish import ROLLBACK as STAGE
from jobs.publish import served_commit, served_date
from jobs.stage import Night, StageReport, lake_parser, log, open_night, record_stages, run_stage, summary
from schemas.errors import EXIT_OK, InputError
from schemas.serving_recommendations import SERVING_RECOMMENDATIONS


def run(night: Night, earlier: Commit) -> StageReport:
    """Serve the lists of an earlier publication of the night; raises InputError where its files are gone.

    The rows are written anew: Delta's RESTORE has no transaction id of ours, and a stage that then writes under an
    id which the table has seen is skipped without an error. An overwrite by a run of its own is a commit like every
    publication, and readers of the version before go on reading that.
    """
    lake, served = night.lake, served_commit(night.lake)
    rows = read_past(lake, SERVING_RECOMMENDATIONS, earlier.version)
    stamp = night.stamp(
        STAGE,
        **{
            **earlier.inputs,
            "version_before": served.version if served else None,
            "restored": earlier.inputs.get("restored", earlier.version),  # which publication the lists are of
        },
    )
    lake.overwrite(SERVING_RECOMMENDATIONS, rows, stamp)
    lists = rows.count()
    return StageReport(lists, lists, model_digest=str(earlier.inputs.get("model_digest")))


def earlier_publication(lake: Lake, wanted: date | None) -> Commit:
    """The newest commit that serves `wanted`, by default the newest of any night before the one served.

    Raises InputError where nothing is served, the night is not an earlier one, or the log has none.
    """
    served = served_commit(lake)
    now = served_date(served) if served else None
    if now is None:
        raise InputError(f"serving_recommendations below {lake.root}: expected a served night, found none")
    if wanted and wanted >= now:
        raise InputError(f"--to {wanted}: expected a night before {now} (served)")
    for commit in lake.commits(SERVING_RECOMMENDATIONS):
        night = served_date(commit)
        if night and (night == wanted if wanted else night < now):
            return commit
    night_of = f"the night of {wanted}" if wanted else f"a night before {now} (served)"
    raise InputError(f"serving_recommendations below {lake.root}: expected a publication of {night_of}, found none")


def arg_parser() -> argparse.ArgumentParser:
    """The command's arguments."""
    parser = lake_parser(STAGE, "Serve an earlier night's lists again, by one commit.", "--to 2026-11-20")
    parser.add_argument(
        "--to", type=date.fromisoformat, metavar="YYYY-MM-DD", help="default: the night before the one served"
    )
    return parser


def main(argv: list[str] | None = None) -> int:
    """`lime rollback`."""
    args = arg_parser().parse_args(argv)
    night = open_night(args, date.max)
    with only_writer(night.lake, night.config.lake, f"lime {STAGE}"):
        earlier = earlier_publication(night.lake, args.to)
        night = night.of(date.fromisoformat(str(earlier.stamp["logical_date"])))
        record = run_stage(night, STAGE, lambda n: run(n, earlier))
        record_stages(night, [record], STAGE)
    log.info(summary(record))
    log.info("the lists of %s are served again, those of version %d", night.logical_date, earlier.version)
    return EXIT_OK
