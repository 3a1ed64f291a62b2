"""Sixty nights of small writes to real Delta tables, kept up by `lime maintain` every week and left alone.

A night appends events, rewrites a bucket of histories, serves every list anew and records itself; then all clocks
are set back by a day, so that windows pass and logs end as they would. Both lakes take their nights in turn; each
has one night before the first that is counted, because making tables takes time of its own.
"""

import argparse
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from benchmarks.aging import age_table
from benchmarks.harness import Figure, parser, present, say, table
from benchmarks.pictures import Lines, add_picture, draw
from jobs.config import Config, EventSource, ItemSource, LakeConfig
from jobs.lake import Lake
from jobs.maintain import run as maintain
from jobs.session import spark_session
from jobs.stage import Night, StageReport, new_run_id, record_stages, run_stage
from jobs.upkeep import on_disk
from schemas.events import EVENTS
from schemas.runs import RUNS
from schemas.serving_recommendations import SERVING_RECOMMENDATIONS
from schemas.types import USER_BUCKETS, user_bucket
from schemas.user_history import USER_HISTORY

TABLES = (EVENTS, USER_HISTORY, SERVING_RECOMMENDATIONS, RUNS)
START, A_DAY = date(2026, 1, 1), timedelta(days=1)
NIGHTS, EVERY, USERS, K = 60, 7, 2_000, 20
ARRAYS = ("item_ids", "features", "event_types", "event_ts")  # of a history
KEPT_UP, LEFT_ALONE = "kept up", "left alone"


@dataclass(frozen=True)
class Cost:
    """What a lake took after a night, its log included, and how long the night and its maintenance took."""

    files: int
    megabytes: float
    night_seconds: float
    upkeep_seconds: float


def night_of(root: str, day: date) -> Night:
    """A night in a lake without sources."""
    events = EventSource("csv", "none", {"user_id": "u", "item_id": "i", "event_ts": "t"})
    config = Config(LakeConfig(root), events, ItemSource("csv", "none", {"item_id": "i"}))
    return Night(Lake(spark_session("benchmark"), root), config, day, new_run_id(day))


def write(night: Night, users: int) -> StageReport:
    """The commits of one small night, and one look at all events and lists, as a night and a reader take it."""
    lake, spark, n = night.lake, night.lake.spark, (night.logical_date - START).days
    people = spark.range(users).select(F.format_string("u%06d", "id").alias("user_id"))
    people = people.withColumns({"user_bucket": user_bucket(F.col("user_id")), "run_id": F.lit(night.run_id)})
    lake.append(EVENTS, _events(people.drop("user_bucket").limit(users // 10), n), night.stamp("ingest_events"))
    where = f"user_bucket = {n % USER_BUCKETS}" if lake.exists(USER_HISTORY) else ""
    nothing = {name: F.array().cast(USER_HISTORY.struct[name].dataType) for name in ARRAYS}
    histories = people.where(where or "true").withColumns({**nothing, "history_digest": F.lit(f"h{n}")})
    lake.overwrite(USER_HISTORY, histories, night.stamp("build_histories"), where)
    item = f"struct(int(r) AS rank, concat('i', r + {n}) AS item_id, float(r) AS score)"
    ranked = F.expr(f"transform(sequence(1, {K}), r -> {item})")
    lists = people.withColumns({"items": ranked, "source": F.lit("model"), "model_digest": F.lit("m")})
    lake.overwrite(SERVING_RECOMMENDATIONS, lists, night.stamp("publish"))
    rows = lake.read(EVENTS).agg(F.countDistinct("user_id")).count() + lake.read(SERVING_RECOMMENDATIONS).count()
    return StageReport(rows, rows)


def _events(people: DataFrame, n: int) -> DataFrame:
    """One event a user on day n."""
    at = datetime.combine(START + n * A_DAY, datetime.min.time(), UTC)
    columns = {
        "event_id": F.concat("user_id", F.lit(f"-{n}")),
        "item_id": F.lit(f"i{n}"),
        "event_type": F.lit("view"),
        "event_ts": F.lit(at),
        "sequence": F.lit(n).cast("long"),
        "value": F.lit(None).cast("double"),
        "source_updated_at": F.lit(None).cast("timestamp"),
        "source_file": F.lit(f"{n}.csv"),
    }
    return people.withColumns(columns)


def one_night(root: str, n: int, users: int, upkeep: bool, passing: timedelta) -> Cost:
    """Night n, its maintenance if it has one, and the time that passes until the next."""
    night = night_of(root, START + n * A_DAY)
    record = run_stage(night, "night", lambda each: write(each, users))
    record_stages(night, [record], "night")
    begun = time.monotonic()
    if upkeep:
        run_stage(replace(night, run_id=new_run_id(night.logical_date)), "maintain", maintain)
    upkeep_seconds = time.monotonic() - begun if upkeep else 0.0
    found = [on_disk(night.lake, each) for each in TABLES]
    for each in TABLES:
        age_table(night.lake.spark, Path(root, each.name), passing)
    return Cost(sum(f for f, _ in found), sum(b for _, b in found) / 1e6, record.seconds, upkeep_seconds)


def simulate(nights: int, every: int, users: int, passing: timedelta) -> dict[str, list[Cost]]:
    """What each night of both lakes took, once their tables are made."""
    costs: dict[str, list[Cost]] = {KEPT_UP: [], LEFT_ALONE: []}
    with tempfile.TemporaryDirectory(prefix="lime-maintenance-") as folder:
        for n in range(nights + 1):
            for name, found in costs.items():
                upkeep = name == KEPT_UP and n % every == every - 1
                found.append(one_night(f"{folder}/{name}", n, users, upkeep, passing))
    return {name: found[1:] for name, found in costs.items()}


def figures(costs: dict[str, list[Cost]]) -> list[Figure]:
    """The last night of each lake, the time of its last third, and what maintenance took."""
    made = []
    for name, found in costs.items():
        last = found[len(found) * 2 // 3 :]
        seconds = sum(cost.night_seconds for cost in last) / len(last)
        made += [
            Figure(f"files at the end, {name}", float(found[-1].files)),
            Figure(f"size at the end, {name}", found[-1].megabytes, "MB"),
            Figure(f"seconds a night at the end, {name}", seconds, "s"),
        ]
    upkeep = sum(cost.upkeep_seconds for cost in costs[KEPT_UP]) / len(costs[KEPT_UP])
    return [*made, Figure("seconds of maintenance a night", upkeep, "s")]


def lines(costs: dict[str, list[Cost]], every: int) -> list[str]:
    """A table of the two lakes, a row every few nights."""
    rows = [("night", *(f"{what}, {name}" for what in ("files", "MB", "s") for name in costs))]
    for n in range(every - 1, len(costs[KEPT_UP]), every):
        found = [costs[name][n] for name in costs]
        values = [f"{c.files:,}" for c in found] + [f"{c.megabytes:.1f}" for c in found]
        rows.append((str(n + 1), *values, *(f"{c.night_seconds + c.upkeep_seconds:.1f}" for c in found)))
    return table(rows)


def panels(costs: dict[str, list[Cost]]) -> list[Lines]:
    """Files, size and time over the nights, one panel each."""
    values: dict[str, Callable[[Cost], float]] = {
        "files": lambda cost: float(cost.files),
        "MB": lambda cost: cost.megabytes,
        "seconds a night": lambda cost: cost.night_seconds + cost.upkeep_seconds,
    }
    return [
        Lines(what, "night", what, {name: _by_night(found, value) for name, found in costs.items()}, False, False)
        for what, value in values.items()
    ]


def _by_night(costs: Sequence[Cost], value: Callable[[Cost], float]) -> list[tuple[float, float]]:
    return [(float(night), value(cost)) for night, cost in enumerate(costs, start=1)]


def arg_parser() -> argparse.ArgumentParser:
    """The program's arguments."""
    arguments = parser("maintenance", "Files, size and time of sixty small nights with and without maintenance.")
    add_picture(arguments)
    return arguments


def main(argv: Sequence[str] | None = None) -> int:
    """Run, print, draw, write."""
    args = arg_parser().parse_args(argv)
    # a quick night is a week, so that windows pass all the same
    nights, every, users, passing = (3, 2, 50, 7 * A_DAY) if args.quick else (NIGHTS, EVERY, USERS, A_DAY)
    costs = simulate(nights, every, users, passing)
    say("\n".join(lines(costs, every)))
    if args.picture:
        draw(panels(costs), args.picture)
    present(f"{nights} nights, maintenance every {every}", figures(costs), args.json)
    return 0


if __name__ == "__main__":
    sys.exit(main())
