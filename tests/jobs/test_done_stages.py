"""Which stages of an interrupted run are done, by its commits and its package, and which tables refuse a resume."""

import json
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any, cast

import pytest

from jobs.done_stages import commits_since, done_names, require_as_planned, trained_package
from jobs.ingest_events import NewFiles
from jobs.lake import Commit, Lake
from jobs.plan_row import Plan
from schemas.contract import TableContract
from schemas.errors import InputError
from tests.jobs.test_packages import night as night_of

DAY = date(2026, 1, 6)
PLANNED = {"events": 3, "items": 0, "runs": 5, "serving_recommendations": 1}
HISTORIES = ["ingest_events", "build_histories"]


class FakeLake:
    """Tables as logs: stamps (run, stage) by table, oldest first."""

    def __init__(self, **logs: list[Commit]) -> None:
        self.logs = logs

    def commits(self, table: TableContract) -> list[Commit]:
        return self.logs.get(table.name, [])[::-1]

    def last_commit(self, table: TableContract) -> Commit | None:
        return next(iter(self.commits(table)), None)


def commit(version: int, stage: str, run: str = "run", **inputs: object) -> Commit:
    return Commit(version, {"run_id": run, "stage": stage, "inputs": inputs})


def plan(trains: bool = False) -> Plan:
    return Plan("run", DAY, NewFiles(), PLANNED, None if trains else "m", trains, "hash", datetime.now(UTC))


def done(root: Path, trains: bool = False, **logs: list[Commit]) -> list[str]:
    lake = cast(Lake, FakeLake(**logs))
    return done_names(night_of(str(root)), plan(trains), commits_since(lake, plan(trains)))


@pytest.mark.parametrize(
    ("logs", "expected"),
    [
        ({}, []),
        # a stage that commits several times, or that goes on after its commit, is not done by one
        ({"events": [commit(4, "ingest_events")], "items": [commit(1, "ingest_events/items-0")]}, []),
        ({"user_seen": [commit(4, "build_histories")]}, []),
        ({"user_history": [commit(4, "build_histories")]}, HISTORIES),
        ({"user_history": [commit(4, "build_histories", run="other")]}, []),
        # an older publication is no part of the run, and a stage that wrote nothing is done if a later one is
        ({"serving_recommendations": [commit(1, "publish")]}, []),
        ({"candidate_weights": [commit(4, "weigh_candidates")]}, [*HISTORIES, "embed_users", "weigh_candidates"]),
        ({"recommendations": [commit(2, "score_candidates"), commit(3, "OPTIMIZE", run="other")]},
         [*HISTORIES, "embed_users", "weigh_candidates", "score_candidates"]),
    ],
)  # fmt: skip
def test_a_stage_is_done_once_its_last_table_or_that_of_a_later_stage_holds_its_commit(
    tmp_path: Path, logs: dict[str, list[Commit]], expected: list[str]
) -> None:
    assert done(tmp_path, **logs) == expected


def test_training_is_done_when_there_is_its_package(tmp_path: Path) -> None:
    windows: dict[str, Any] = {"training_sequences": [commit(0, "train_model")]}
    assert done(tmp_path, trains=True, **windows) == []
    for name, run in (("a" * 64, "other"), ("b" * 64, "run"), ("c" * 64, "another")):
        (tmp_path / "models" / name).mkdir(parents=True)
        (tmp_path / "models" / name / "manifest.json").write_text(json.dumps({"run_id": run}))
    assert done(tmp_path, trains=True, **windows) == [*HISTORIES, "train_model"]
    assert done(tmp_path, trains=False, **windows) == []


def test_the_package_is_the_one_that_the_run_went_on_with(tmp_path: Path) -> None:
    """Two trainings that come to the same weights leave one package, with the first one's manifest."""
    links = {"link_embeddings": [commit(0, "embed_users", model_digest="d" * 64)]}
    since = commits_since(cast(Lake, FakeLake(**links)), plan(trains=True))
    assert trained_package(night_of(str(tmp_path)), plan(trains=True), since) == "d" * 64
    assert trained_package(night_of(str(tmp_path)), plan(trains=False), since) == ""


CREATION = Commit(0, {}, {"operation": "CREATE TABLE"})


@pytest.mark.parametrize(
    ("log", "expected"),
    [
        ([commit(3, "x", run="before"), commit(4, "ingest_events"), commit(5, "x", run="b")],
         "above its planned version 3, found version 5 by run b; start the night anew"),
        ([commit(3, "x", run="before"), Commit(4, {}, {"operation": "WRITE"})], "found version 4 by run (unknown)"),
        ([commit(2, "x", run="before")], "expected version 3 or later, as run run planned, found 2"),
        ([], "expected version 3 or later, as run run planned, found none"),
    ],
)  # fmt: skip
def test_a_table_that_is_not_as_planned_is_named(log: list[Commit], expected: str) -> None:
    fine = [CREATION, *[commit(version, "x", run="before") for version in range(1, 4)], commit(4, "ingest_events")]
    fine.append(commit(5, "maintain", run="b"))  # changes no row
    others = {name: [commit(version, "x", run="before")] for name, version in PLANNED.items()}
    others["runs"] = [commit(9, "runs/stages", run="b")]  # what others recorded is no input
    others["user_history"] = [CREATION, commit(1, "build_histories")]
    for lake in (FakeLake(**{**others, "events": fine}), FakeLake(**{**others, "events": log})):
        since = commits_since(cast(Lake, lake), plan())
        if lake.logs["events"] is fine:
            require_as_planned(cast(Lake, lake), plan(), since)
        else:
            with pytest.raises(InputError) as refused:
                require_as_planned(cast(Lake, lake), plan(), since)
            assert str(refused.value).startswith("table events: ")
            assert expected in str(refused.value)
