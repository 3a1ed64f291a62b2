"""Nights as `runs` knows them: a plan, the rows of its stages, and what the two say of how the run ended."""

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import islice

from pyspark.sql import Row
from pyspark.sql import functions as F

from jobs import plan_row
from jobs.lake import Commit, Lake
from jobs.plan_row import Plan, plan_of
from jobs.publish import served_date
from jobs.report_data import as_record
from jobs.stage import StageRecord
from schemas.errors import InputError
from schemas.runs import RUNS
from schemas.serving_recommendations import SERVING_RECOMMENDATIONS


@dataclass(frozen=True)
class NightRun:
    """A run that wrote its plan; `stages` are its other rows, written together when it ended."""

    plan: Plan
    stages: tuple[StageRecord, ...]

    @property
    def refusal(self) -> StageRecord | None:
        """The stage whose gate refused, if one did."""
        return next((record for record in self.stages if record.report.metrics.get("refused")), None)

    def why_over(self, served: Commit | None) -> str:
        """Why there is nothing to resume, given what is served; empty where there is."""
        if self.refusal:
            return f"run {self.plan.run_id} was refused at {self.refusal.stage}"
        if self.stages:
            return f"run {self.plan.run_id} is finished"
        if other := self._superseded_by(served):
            return f"the night of {self.plan.logical_date} or a later one was published by run {other} instead"
        return ""

    def _superseded_by(self, served: Commit | None) -> str:
        """The run that has published the night, or a later one, since the plan; empty where none has."""
        if served is None or served.version <= self.plan.versions.get(SERVING_RECOMMENDATIONS.name, -1):
            return ""
        day, other = served_date(served), str(served.stamp.get("run_id"))
        return other if day and day >= self.plan.logical_date and other != self.plan.run_id else ""


def newest_runs(lake: Lake, count: int) -> list[NightRun]:
    """The runs that planned last, newest first by the order of their commits, for clocks jump.

    Collects one row a stage of `count` runs.
    """
    plans = (commit for commit in lake.commits(RUNS) if commit.stamp.get("stage") == f"runs/{plan_row.STAGE}")
    newest = [str(commit.stamp["run_id"]) for commit in islice(plans, count)]
    if not newest:
        return []
    runs = _as_runs(lake.read(RUNS).where(F.col("run_id").isin(newest)).collect())
    return sorted(runs, key=lambda run: newest.index(run.plan.run_id))


def named_run(lake: Lake, run_id: str) -> NightRun:
    """The run of that name; raises InputError where it wrote no plan."""
    rows = lake.read(RUNS).where(F.col("run_id") == F.lit(run_id)).collect() if lake.exists(RUNS) else []
    found = _as_runs(rows)
    if not found:
        raise InputError(f"runs: expected the plan of run {run_id}, found none")
    return found[0]


def _as_runs(rows: Iterable[Row]) -> list[NightRun]:
    by_run: dict[str, list[Row]] = defaultdict(list)
    for row in rows:
        by_run[row["run_id"]].append(row)
    return [
        NightRun(plan_of(row), tuple(as_record(other) for other in of_run if other["stage"] != plan_row.STAGE))
        for of_run in by_run.values()
        for row in of_run
        if row["stage"] == plan_row.STAGE
    ]
