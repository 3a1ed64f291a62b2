"""Shared `events`, `items`, `users` -> a past night's histories, links, weights and lists in a root of its own.

The three inputs are shallow clones there, pinned to one version of the shared tables: jobs read and version them as
any table, and no file is copied. The clones share their files with the lake: once `lime maintain` has removed a version
from it, the root that was made from that version cannot be read on. Nothing of the lake itself is written, so
backfills into different roots run side by side; lists are served from such a root once `lime publish` is run on it.
"""

import argparse
import shutil
from collections.abc import Mapping
from dataclasses import replace
from datetime import date
from pathlib import Path

from jobs import build_histories, embed_users, score_candidates, train_model, weigh_candidates
from jobs.commits import Commit
from jobs.lake import Lake
from jobs.lock import only_writer
from jobs.packages import require_package
from jobs.past import read_past
from jobs.publish import INPUTS, served_date
from jobs.publish import STAGE as PUBLISH
from jobs.stage import Job, Night, job_parser, log, open_night, record_stages, require_ended, run_stage, summary
from schemas.contract import TableContract
from schemas.errors import EXIT_OK, ConfigError, InputError
from schemas.serving_recommendations import SERVING_RECOMMENDATIONS

STAGE = "backfill"


def run(night: Night, root: str, known: Commit | None, retrain: bool) -> Lake:
    """Rebuild `night` into the lake at `root`, which is returned, under the present configuration.

    `known`: the publication whose versions and package are used, instead of what is known now.

    Raises InputError before any work where versions, the package or the root are not what they must be.
    """
    own = _own_night(night, root)
    package = None if retrain else require_package(_with_model(night, known))
    versions = known_versions(known) if known else present_versions(night.lake)
    for table in INPUTS:
        read_past(night.lake, table, versions[table.name])
    with only_writer(own.lake, own.config.lake, f"lime {STAGE}"):  # of that root: backfills into others run beside it
        _rebuild(night, own, package, versions)
    return own.lake


def _rebuild(night: Night, own: Night, package: Path | None, versions: Mapping[str, int]) -> None:
    for table in INPUTS:
        _require_own(own.lake, table, versions[table.name])
    for table in INPUTS:
        if not own.lake.exists(table):
            version = versions[table.name]
            own.lake.clone(table, night.lake, version, own.stamp(STAGE, version=version))
    stages: list[tuple[str, Job]] = [(build_histories.STAGE, build_histories.run)]
    if package:
        own = replace(own, model=_own_copy(package, own.packages).name)
    else:
        stages.append((train_model.STAGE, train_model.run))
    stages += [(job.STAGE, job.run) for job in (embed_users, weigh_candidates, score_candidates)]
    records = []
    for name, job_run in stages:
        records.append(run_stage(own, name, job_run))
        log.info(summary(records[-1]))
    record_stages(own, records, "stages")


def _own_night(night: Night, root: str) -> Night:
    """The night in a lake of its own, packages too: one that is trained here is not for the shared lake's nights."""
    lake = Lake(night.lake.spark, root)
    if not lake.by_path:
        raise ConfigError(f"--into {root}: expected a path, found a catalog")
    packages = Path(lake.root) / "models" if lake.is_folder else night.packages / f".asof-{night.logical_date}"
    config = replace(night.config, lake=replace(night.config.lake, root=lake.root, packages=str(packages)))
    return replace(night, lake=lake, config=config)


def _with_model(night: Night, known: Commit | None) -> Night:
    return replace(night, model=str(known.inputs["model_digest"])) if known else night


def _require_own(lake: Lake, table: TableContract, version: int) -> None:
    """Raise InputError where the root has a table that is no clone of this version, the shared lake's own above all."""
    if not lake.exists(table):
        return
    cloned = lake.last_commit(table, STAGE)
    found = cloned.inputs["version"] if cloned else None
    if found != version:
        made = "not made by a backfill" if found is None else f"of version {found}"
        raise InputError(
            f"--into {lake.root}: expected an empty root or a backfill from version {version} of {table.name}, "
            f"found {table.name} {made}; remove it or name another root"
        )


def _own_copy(package: Path, packages: Path) -> Path:
    """The package among the root's own, so that commands on the root find it. Whole or not there."""
    copy, partial = packages / package.name, packages / f".{package.name}"
    if not copy.is_dir():
        shutil.rmtree(partial, ignore_errors=True)
        shutil.copytree(package, partial)
        partial.rename(copy)
    return copy


def publication_of(lake: Lake, night: date) -> Commit:
    """The newest publication of a night; raises InputError where the log has none."""
    for commit in lake.commits(SERVING_RECOMMENDATIONS):
        if commit.stamp.get("stage") == PUBLISH and served_date(commit) == night:
            return commit
    raise InputError(f"--as-known: expected a publication of {night} in the log of {lake.root}, found none")


def known_versions(publication: Commit) -> dict[str, int]:
    """The versions that a night's lists were made from, as its publication recorded them."""
    return {table.name: int(str(publication.inputs[table.name])) for table in INPUTS}


def present_versions(lake: Lake) -> dict[str, int]:
    """The versions as of now; raises EmptyTableError where a table was never written."""
    for table in INPUTS:
        lake.read(table)
    return {table.name: lake.reads[table.name] for table in INPUTS}


def default_root(night: Night) -> str:
    """`asof/` in a lake that is a path."""
    if not night.lake.by_path:
        raise ConfigError(f"--into: expected a path, found none, and the lake {night.lake.root} is a catalog")
    return f"{night.lake.root}/asof/{night.logical_date}"


def arg_parser() -> argparse.ArgumentParser:
    """The command's arguments."""
    parser = job_parser(STAGE, "Rebuild a past night into a root of its own; nothing that is served changes.")
    parser.add_argument("--into", metavar="ROOT", help="a path (default: asof/ and the date, in the lake)")
    parser.add_argument(
        "--as-known",
        action="store_true",
        help="from the versions and the package that the night was published from (default: all that is known now)",
    )
    parser.add_argument(
        "--retrain", action="store_true", help="train a package on the events before the date, for this root alone"
    )
    return parser


def main(argv: list[str] | None = None) -> int:
    """`lime backfill`."""
    args = arg_parser().parse_args(argv)
    require_ended(args.date)
    night = open_night(args, args.date)
    known = publication_of(night.lake, args.date) if args.as_known else None
    own = run(night, args.into or default_root(night), known, args.retrain)
    log.info("rebuilt %s; to serve it from there: lime publish --lake %s --date %s", args.date, own.root, args.date)
    return EXIT_OK
