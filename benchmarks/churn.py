"""Nights that cost what changed: whole nights over a platform where a share of users and items changes each day.

The first night makes everything from nothing; it is the full night, and its score stage the full score stage. At the
end all lists are made in full once more and compared with those that were merged night after night.
"""

import argparse
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.churn_world import K, World
from benchmarks.harness import Figure, parser, present, say, table
from jobs import score_candidates
from jobs.cli import main as lime
from jobs.config import load_config
from jobs.lake import Lake
from jobs.session import spark_session
from jobs.stage import Night, new_run_id
from schemas.digest import table_digest
from schemas.recommendations import RECOMMENDATIONS
from schemas.runs import RUNS

USERS, ITEMS = 120_000, 640_000
SHARES = (0.0, 0.001, 0.01, 0.1)
TARGETS = {"1 % churn share of score stage": 0.06, "1 % churn share of night": 0.10, "identical lists": 1.0}
SCORE = score_candidates.STAGE


@dataclass(frozen=True)
class Timed:
    """One night: its wall time, its stages' own, and what the score stage said."""

    seconds: float
    stages: dict[str, float]
    made: dict[str, float]


def churn_figures(users: int, items: int, shares: Sequence[float], target: bool) -> list[Figure]:
    """The full night, one night a share, and the comparison; 100 % is the full night itself."""
    with tempfile.TemporaryDirectory(prefix="lime-churn-") as folder:
        world = World(Path(folder).absolute(), users, items)
        say(f"{users:,} users, {items:,} items, {users * items / 1e9:,.1f} billion pairs, MLP head, K = {K}")
        world.begin()
        start = time.perf_counter()
        spark = spark_session("benchmark")
        say(f"session start {time.perf_counter() - start:.1f} s, in no night's time")
        lake = Lake(spark, f"{folder}/lake")
        full = timed_night(world, lake)
        nights = {}
        for share in shares:
            world.move(share)
            nights[share] = timed_night(world, lake)
        say_nights({**nights, 1.0: full}, full)
        same, seconds = compare_with_full(world, lake)
        say(f"all {users:,} lists made in full again: {seconds:.1f} s, {'identical' if same else 'DIFFERENT'}")
    return [
        Figure("identical lists", float(same), "", TARGETS["identical lists"] if target else None),
        Figure("full score stage", full.stages[SCORE], "s"),
        Figure("full night", full.seconds, "s"),
        *[figure for share, night in nights.items() for figure in _shares(share, night, full, target)],
    ]


def _shares(share: float, night: Timed, full: Timed, target: bool) -> list[Figure]:
    """What a night cost of the full one."""
    costs = {"score stage": night.stages[SCORE] / full.stages[SCORE], "night": night.seconds / full.seconds}
    claims = {f"{100 * share:g} % churn share of {what}": value for what, value in costs.items()}
    return [Figure(claim, value, "", TARGETS.get(claim) if target else None) for claim, value in claims.items()]


def timed_night(world: World, lake: Lake) -> Timed:
    """`lime nightly` of the world's day, in this process's session."""
    start = time.perf_counter()
    code = lime(["nightly", "--config", str(world.config), "--date", str(world.date)])
    seconds = time.perf_counter() - start
    if code:
        raise RuntimeError(f"lime nightly --date {world.date}: expected exit code 0, found {code}")
    rows = lake.read(RUNS).where(f"logical_date = '{world.date}'").collect()  # one row a stage
    made = next(dict(row["metrics"]) for row in rows if row["stage"] == SCORE)
    return Timed(seconds, {row["stage"]: row["seconds"] for row in rows}, made)


def compare_with_full(world: World, lake: Lake) -> tuple[bool, float]:
    """Make the last night's lists in full, over the merged ones; whether they are the same, and the stage's seconds."""
    merged = table_digest(lake.read(RECOMMENDATIONS), RECOMMENDATIONS)
    night = Night(lake, load_config(str(world.config)), world.date, new_run_id(world.date))
    start = time.perf_counter()
    score_candidates.run(night, in_full=True)
    seconds = time.perf_counter() - start
    return table_digest(lake.read(RECOMMENDATIONS), RECOMMENDATIONS) == merged, seconds


def say_nights(nights: dict[float, Timed], full: Timed) -> None:
    """Seconds of every stage by share, and what the score stage did."""
    stages = list(full.stages)
    heads = ("changed", "night", *stages, "lists from all", "merged", "items again")
    rows = [heads]
    for share, night in sorted(nights.items()):
        counts = [f"{night.made[name]:,.0f}" for name in ("lists_from_all", "merged_lists", "rescored_items")]
        seconds = [f"{night.stages.get(stage, 0.0):.1f}" for stage in stages]
        rows.append((f"{100 * share:g} %", f"{night.seconds:.1f}", *seconds, *counts))
    say("\n".join(table(rows)))


def arg_parser() -> argparse.ArgumentParser:
    """The program's arguments."""
    arguments = parser("churn", "What a night costs by the share of users and items that changed since the last one.")
    arguments.add_argument("--users", type=int, default=USERS, metavar="N", help=f"users (default: {USERS:,})")
    arguments.add_argument("--items", type=int, default=ITEMS, metavar="N", help=f"items (default: {ITEMS:,})")
    return arguments


def main(argv: Sequence[str] | None = None) -> int:
    """Run, print, write."""
    args = arg_parser().parse_args(argv)
    size = (60, 200, (0.0, 0.1)) if args.quick else (args.users, args.items, SHARES)
    figures = churn_figures(*size, not args.quick)
    present("nights that cost what changed", figures, args.json)
    return 0


if __name__ == "__main__":
    sys.exit(main())
