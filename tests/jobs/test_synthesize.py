"""The generator's files: what `lime nightly` would read of them."""

import json
from datetime import date
from pathlib import Path

import pytest
from pyspark.sql import SparkSession
from pyspark.sql import functions as F

from jobs.clean import as_events
from jobs.config import load_config
from jobs.planted import Plan
from jobs.raw_files import list_files
from jobs.sources import read_records
from jobs.synthesize import arg_parser, checked_plan, synthesize
from schemas.errors import ConfigError, InputError

PLAN = Plan(users=20, items=60, events=500, days=10, start=date(2026, 1, 28), seed=5)


@pytest.fixture(scope="module")
def folder(spark: SparkSession, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One small data set."""
    into = tmp_path_factory.mktemp("synthetic") / "data"
    synthesize(spark, PLAN, str(into))
    return into


def test_a_night_reads_the_files_up_to_its_date_and_rejects_nothing(spark: SparkSession, folder: Path) -> None:
    source = load_config(str(folder / "night.toml")).events
    every = list_files(spark, "events", source, date(2026, 2, 6))
    early = list_files(spark, "events", source, date(2026, 1, 30))
    assert [file.name.rsplit("/", 1)[-1] for file in early] == [f"2026-01-{day}.parquet" for day in (28, 29, 30)]
    events = as_events(read_records(spark, "events", source, every), source)
    assert events.where(F.col("reason").isNotNull()).count() == 0
    assert events.select("event_id").distinct().count() == PLAN.events
    # a file holds its own day only, in the order of time
    day = F.to_date(F.regexp_extract("source_file", r"(\d{4}-\d{2}-\d{2})", 1))
    assert events.where(F.to_date("event_ts") != day).isEmpty()
    lines = events.orderBy("source_file", "line").select("event_ts").collect()
    assert [row["event_ts"] for row in lines] == sorted(row["event_ts"] for row in lines)


def test_catalogue_and_users_are_whole(spark: SparkSession, folder: Path) -> None:
    config = load_config(str(folder / "night.toml"))
    assert config.users is not None
    assert spark.read.parquet(config.items.path).count() == PLAN.items
    assert spark.read.parquet(config.users.path).count() == PLAN.users
    assert (config.night.first_date, config.night.last_date) == (date(2026, 1, 28), date(2026, 2, 6))


def test_the_truth_beside_the_data_says_what_a_good_model_can_reach(folder: Path) -> None:
    truth = json.loads((folder / "truth.json").read_text())
    assert truth["asked"]["seed"] == PLAN.seed
    assert truth["expected"]["oracle_hit_rate@10"] >= truth["expected"]["popularity_hit_rate@10"]


def test_a_folder_with_files_is_refused(spark: SparkSession, folder: Path) -> None:
    with pytest.raises(InputError, match="expected a new or empty folder"):
        synthesize(spark, PLAN, str(folder))


def arguments(**changed: str) -> list[str]:
    """A valid command line with changes."""
    values = {"users": "9", "items": "9", "events": "9", "days": "9", "start": "2026-01-01", "into": "x", **changed}
    return [word for name, value in values.items() for word in (f"--{name}", value)]


def test_arguments_become_a_plan() -> None:
    plan = checked_plan(arg_parser().parse_args(arguments(seed="4", items="30")))
    assert plan == Plan(9, 30, 9, 9, date(2026, 1, 1), 4)


@pytest.mark.parametrize(("name", "value"), [("users", "0"), ("items", "7"), ("events", "0"), ("days", "1")])
def test_sizes_that_cannot_be_drawn_are_refused_by_name(name: str, value: str) -> None:
    with pytest.raises(ConfigError, match=f"--{name}: expected at least"):
        checked_plan(arg_parser().parse_args(arguments(**{name: value})))


def test_help_ends_with_an_example() -> None:
    assert "example: lime synthesize --users 10000" in arg_parser().format_help()
