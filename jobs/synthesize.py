"""Nothing -> raw event files, a catalogue, a user list and a configuration that `lime nightly` takes.

Any size, deterministic in the seed; `jobs/planted.py` says what is planted. For scale and tests, never as proof of
quality. Beside the data lies `truth.json`: what the best possible lists and the popularity list reach on it.
"""

import argparse
import json
import logging
import shutil
from datetime import date, timedelta
from pathlib import Path

from pyspark.sql import DataFrame, SparkSession

from jobs.oracle import expected_margin
from jobs.planted import DRIFT_DAYS, NOISE, WEIGHTS, Plan, planted_events, planted_items, planted_users
from jobs.session import spark_session
from schemas.errors import EXIT_OK, ConfigError, InputError

STAGE = "synthesize"
NIGHTS = 14
log = logging.getLogger("lime")

CONFIG = """# Written by `lime synthesize`: {events:,} invented events by {users:,} users on {items:,} items.
# Seed {seed}. For scale and tests, never as proof of quality.

[lake]
root = {lake}

[events]
format = "parquet"
path = {event_path}

[events.columns]
event_id = "event_id"
user_id = "user_id"
item_id = "item_id"
event_ts = "event_ts"
event_type = "event_type"

[items]
format = "parquet"
path = {item_path}

[items.columns]
item_id = "item_id"
title = "title"

[items.features]
category = {{ column = "category" }}
price = {{ column = "price", kind = "numeric" }}

[users]
format = "parquet"
path = {user_path}

[users.columns]
user_id = "user_id"

[night]
first_date = {first}
last_date = {last}
"""


def synthesize(spark: SparkSession, plan: Plan, into: str) -> dict[str, float]:
    """Write everything below the folder `into`, which must not hold data yet; returns the expected margin."""
    folder = Path(into)
    if folder.exists() and any(folder.iterdir()):
        raise InputError(f"--into {into}: expected a new or empty folder, found files")
    folder.mkdir(parents=True, exist_ok=True)
    events = planted_events(spark, plan)
    _write_days(plan, events, folder)
    planted_items(spark, plan).write.parquet(str(folder / "items"))
    planted_users(spark, plan).write.parquet(str(folder / "users"))
    (folder / "night.toml").write_text(config_text(plan, folder.absolute()), "utf-8")
    margin = expected_margin(plan, events)
    (folder / "truth.json").write_text(json.dumps(truth(plan, margin), indent=1) + "\n", "utf-8")
    return margin


def as_day_files(events: DataFrame) -> DataFrame:
    """The source's columns with the day that names the file; a day lies in one partition, in the order of time."""
    columns = ["event_id", "user_id", "item_id", "event_type", "event_ts"]
    ordered = events.repartition("day").sortWithinPartitions("day", "event_ts", "n")
    return ordered.select("day", *columns)


def _write_days(plan: Plan, events: DataFrame, folder: Path) -> None:
    """One Parquet file a day, named by its date: what a source's `{date}` stands for."""
    parts, days = folder / "_days", folder / "events"
    as_day_files(events).write.partitionBy("day").parquet(str(parts))
    days.mkdir()
    for day in range(plan.days):
        for file in sorted((parts / f"day={day}").glob("*.parquet")):  # one, or none on a day without events
            file.rename(days / f"{plan.start + timedelta(days=day)}.parquet")
    shutil.rmtree(parts)


def config_text(plan: Plan, folder: Path) -> str:
    """The configuration of nights over the last days of the data."""
    last = plan.start + timedelta(days=plan.days - 1)
    first = max(last - timedelta(days=NIGHTS - 1), plan.start)
    paths = {
        "lake": folder / "lake",
        "event_path": folder / "events" / "{date}.parquet",
        "item_path": folder / "items" / "*.parquet",
        "user_path": folder / "users" / "*.parquet",
    }
    quoted = {name: json.dumps(str(path)) for name, path in paths.items()}  # a JSON string is a TOML string
    return CONFIG.format(**vars(plan), **quoted, first=first, last=last)


def truth(plan: Plan, margin: dict[str, float]) -> dict[str, object]:
    """What was planted and what it allows."""
    planted = {
        "clusters": plan.clusters,
        "items_per_cluster": plan.per_cluster,
        "interest_weights": WEIGHTS,
        "noise": NOISE,
        "drift_days": DRIFT_DAYS,
        "judged_from": str(plan.start + timedelta(days=plan.judged_from)),
    }
    asked = {name: str(value) if isinstance(value, date) else value for name, value in vars(plan).items()}
    return {"use": "scale and tests; no proof of quality", "asked": asked, "planted": planted, "expected": margin}


def arg_parser() -> argparse.ArgumentParser:
    """The command's arguments."""
    parser = argparse.ArgumentParser(
        prog="lime synthesize",
        description="Generate an event log, catalogue and user list of any size, with a planted structure.",
        epilog="example: lime synthesize --users 10000 --items 2000 --events 1000000 --days 90 --start 2026-01-01 "
        "--seed 1 --into data/synthetic",
    )
    for name, what in (("users", "users"), ("items", "items"), ("events", "events"), ("days", "days of events")):
        parser.add_argument(f"--{name}", required=True, type=int, metavar="N", help=f"how many {what}")
    parser.add_argument("--start", required=True, type=date.fromisoformat, metavar="YYYY-MM-DD", help="the first day")
    parser.add_argument("--seed", type=int, default=1, metavar="N", help="another seed, other data (default: 1)")
    parser.add_argument("--into", required=True, metavar="DIR", help="a new folder on a disk that every worker sees")
    parser.add_argument(
        "--spark-conf", metavar="FILE", help="Spark properties where the job is not started by spark-submit"
    )
    return parser


def checked_plan(args: argparse.Namespace) -> Plan:
    """The plan; raises ConfigError where it could not be drawn."""
    plan = Plan(args.users, args.items, args.events, args.days, args.start, args.seed)
    for name, least in (("users", 1), ("items", 8), ("events", 1), ("days", 2)):
        if getattr(plan, name) < least:
            raise ConfigError(f"--{name}: expected at least {least}, found {getattr(plan, name)}")
    return plan


def main(argv: list[str] | None = None) -> int:
    """`lime synthesize`."""
    args = arg_parser().parse_args(argv)
    plan = checked_plan(args)
    margin = synthesize(spark_session("lime", args.spark_conf), plan, args.into)
    log.info(
        "%s: %d events; hit rate@10 of the best possible lists %.3f, of popularity %.3f, over %d judged events",
        args.into,
        plan.events,
        margin["oracle_hit_rate@10"],
        margin["popularity_hit_rate@10"],
        margin["judged_events"],
    )
    return EXIT_OK
