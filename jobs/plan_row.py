"""The plan row of `runs`: what a night is to read, written before its first stage, followed by whoever resumes it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime

from pyspark.sql import Row

from jobs.ingest_events import NewFiles
from jobs.packages import current_package
from jobs.stage import Night, RawFile, StageRecord, StageReport
from schemas.all_tables import TABLES

STAGE = "plan"


@dataclass(frozen=True)
class Plan:
    """Raw files with sizes and digests, table versions, package (None: there is none) and configuration of a run."""

    run_id: str
    logical_date: date
    files: NewFiles
    versions: Mapping[str, int]
    model_digest: str | None
    trains: bool
    config_hash: str
    made_at: datetime

    def of(self, night: Night) -> Night:
        """The same lake and configuration, worked on as the run planned it."""
        return replace(night, logical_date=self.logical_date, run_id=self.run_id, model=self.model_digest or "")


def make_plan(night: Night, files: NewFiles, retrain: bool) -> Plan:
    """The night's plan from what there is now; writes nothing."""
    commits = {name: night.lake.last_commit(table) for name, table in TABLES.items()}
    versions = {name: commit.version for name, commit in commits.items() if commit}
    package = current_package(night)
    return Plan(
        run_id=night.run_id,
        logical_date=night.logical_date,
        files=files,
        versions=versions,
        model_digest=package.name if package else None,
        trains=retrain or package is None,
        config_hash=night.config.hash,
        made_at=datetime.now(UTC),
    )


def as_record(plan: Plan) -> StageRecord:
    """The plan as the record that becomes its row."""
    trains = {"trains": float(plan.trains)}
    report = StageReport(metrics=trains, files=plan.files.all, model_digest=plan.model_digest)
    return StageRecord(STAGE, report, plan.versions, {}, plan.made_at, 0.0)


def plan_of(row: Row) -> Plan:
    """The plan that a row of `runs` was made from."""
    model: str | None = row["model_digest"]
    return Plan(
        run_id=row["run_id"],
        logical_date=row["logical_date"],
        files=_files(row["inputs"]),
        versions={entry["name"]: entry["version"] for entry in row["inputs"] if entry["digest"] is None},
        model_digest=model,
        trains=bool(row["metrics"].get("trains", model is None)),
        config_hash=row["config_hash"],
        made_at=row["started_at"].astimezone(UTC),
    )


def _files(inputs: Sequence[Row]) -> NewFiles:
    """The raw files among a row's inputs, by source."""
    files = [
        RawFile(f["source"], f["name"], f["bytes"], f["modified_at"].astimezone(UTC), f["digest"])
        for f in inputs
        if f["digest"] is not None
    ]
    events, items, users = (tuple(f for f in files if f.source == source) for source in ("events", "items", "users"))
    return NewFiles(events, items, users)
