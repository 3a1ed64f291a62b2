"""A plan's row comes back as the plan, and `runs` says how its night ended."""

from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import pytest
from pyspark.sql import SparkSession

from jobs.ingest_events import NewFiles
from jobs.lake import Commit
from jobs.night_runs import NightRun, named_run, newest_runs
from jobs.plan import stage_lines
from jobs.plan_row import Plan, as_record, make_plan
from jobs.run_night import refused
from jobs.stage import RawFile, StageRecord, StageReport, record_stages
from jobs.status import exit_code
from schemas.errors import EXIT_GATE, EXIT_OK, EXIT_RETRY, GateError, InputError
from tests.jobs.test_report_data import make_night

DAY = date(2026, 3, 10)
AT = datetime(2026, 3, 11, 2, 30, 0, 123000, tzinfo=UTC)
FILES = NewFiles(
    events=(RawFile("events", "file:/e/2026-03-10.tsv", 12, AT, "e" * 64),),
    items=(RawFile("items", "/i@7", 0, AT, "version:7"),),
)


def record(stage: str, seconds: float = 1.0) -> StageRecord:
    return StageRecord(stage, StageReport(), {}, {}, AT, seconds)


def test_plans_and_ends_of_nights_come_back_newest_first(spark: SparkSession, tmp_path: Path) -> None:
    night = make_night(spark, tmp_path, DAY)
    assert newest_runs(night.lake, 9) == []
    plans = [make_plan(n, FILES, retrain=False) for n in (night, night.of(DAY), night.of(DAY + timedelta(days=1)))]
    assert plans[0].trains
    assert plans[0].model_digest is None
    plans[1] = replace(plans[1], versions={"events": 4}, model_digest="m", trains=True)  # a night that trains again
    plans[2] = replace(plans[2], versions={"events": 4}, model_digest="m", trains=False, made_at=AT)  # clock set back
    gate = refused("publish", GateError("publish refused: lists: expected at least one, found 0", {"lists": 0.0}))
    for plan, ended in zip(plans, ([record("embed_users"), record("publish")], [gate], []), strict=True):
        record_stages(plan.of(night), [as_record(plan)], "plan")
        if ended:
            record_stages(plan.of(night), ended, "stages")
    record_stages(night.of(DAY), [record("embed_users")], "embed_users")  # a stage by itself is no night
    interrupted, stopped, finished = newest_runs(night.lake, 9)
    assert [run.plan for run in (finished, stopped, interrupted)] == plans
    assert [exit_code(run) for run in (finished, stopped, interrupted)] == [EXIT_OK, EXIT_GATE, EXIT_RETRY]
    assert stopped.why_over(None) == f"run {plans[1].run_id} was refused at publish"
    assert stopped.refusal is not None
    assert list(stopped.refusal.report.dropped) == ["publish refused: lists: expected at least one, found 0"]
    assert newest_runs(night.lake, 1) == [interrupted]
    assert named_run(night.lake, finished.plan.run_id) == finished
    with pytest.raises(InputError, match="runs: expected the plan of run nobody, found none"):
        named_run(night.lake, "nobody")


@pytest.mark.parametrize(
    ("version", "day", "run", "over"),
    [
        (2, DAY, "b", "the night of 2026-03-10 or a later one was published by run b instead"),
        (2, DAY + timedelta(days=1), "b", "the night of 2026-03-10 or a later one was published by run b instead"),
        (2, DAY - timedelta(days=1), "b", ""),
        (1, DAY, "b", ""),  # the night was made again: what it was to replace was served when it planned
        (2, DAY, "run", ""),  # its own publication, and no rows in `runs`
    ],
)
def test_a_night_that_another_run_published_since_is_over(version: int, day: date, run: str, over: str) -> None:
    plan = Plan("run", DAY, FILES, {"serving_recommendations": 1}, "m", False, "hash", AT)
    served = Commit(version, {"run_id": run, "logical_date": day.isoformat()})
    assert NightRun(plan, ()).why_over(served) == over


def test_time_is_the_median_of_what_each_stage_took() -> None:
    plan = Plan("run", DAY, FILES, {}, "m", False, "hash", AT)
    lines = stage_lines(plan, [])
    assert lines[1] == "stage build_histories: writes user_seen, user_history; time unknown"
    assert lines[-1] == "time: unknown"
    past = [NightRun(plan, (record("ingest_events", seconds), record("embed_users", 0.0))) for seconds in (2, 90, 4)]
    lines = stage_lines(plan, [*past, NightRun(plan, (refused("publish", GateError("no")),))])
    assert lines[0] == "stage ingest_events: writes events_quarantine, events, items, users; about 4 s"
    others = "build_histories, evaluate_lists, embed_users, weigh_candidates, score_candidates, publish"
    assert lines[-1] == f"time: about 4 s, without {others}"
    assert not any("train_model" in line for line in lines)
