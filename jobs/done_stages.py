"""What a run committed before it was interrupted, and so which of its stages a resume need not repeat.

A stage is done when the table that it writes last holds its commit, or when that is true of a stage after it: then
it had nothing more to write. Training is done when there is its package. Judging the lists writes no table: it is
repeated. `runs` itself is left out: what other runs wrote there is nothing that a stage reads for its rows.
"""

from collections.abc import Mapping
from datetime import UTC, datetime

from pyspark.sql import functions as F

from jobs import (
    build_histories,
    embed_users,
    ingest_events,
    publish,
    score_candidates,
    train_model,
    weigh_candidates,
)
from jobs.commits import MAINTAIN
from jobs.lake import Commit, Lake
from jobs.packages import package_folders, read_manifest
from jobs.plan_row import Plan
from jobs.stage import Night, StageRecord, StageReport
from schemas.all_tables import TABLES
from schemas.candidate_weights import CANDIDATE_WEIGHTS
from schemas.contract import TableContract
from schemas.errors import InputError
from schemas.events import EVENTS
from schemas.events_quarantine import EVENTS_QUARANTINE
from schemas.items import ITEMS
from schemas.link_embeddings import LINK_EMBEDDINGS
from schemas.recommendations import RECOMMENDATIONS
from schemas.runs import RUNS
from schemas.serving_recommendations import SERVING_RECOMMENDATIONS
from schemas.training_sequences import TRAINING_SEQUENCES
from schemas.user_history import USER_HISTORY
from schemas.user_seen import USER_SEEN
from schemas.users import USERS

Commits = Mapping[str, list[Commit]]

WRITES: Mapping[str, tuple[TableContract, ...]] = {  # stages and each one's tables in the order of a night
    ingest_events.STAGE: (EVENTS_QUARANTINE, EVENTS, ITEMS, USERS),
    build_histories.STAGE: (USER_SEEN, USER_HISTORY),
    train_model.STAGE: (TRAINING_SEQUENCES,),
    embed_users.STAGE: (LINK_EMBEDDINGS,),
    weigh_candidates.STAGE: (CANDIDATE_WEIGHTS,),
    score_candidates.STAGE: (RECOMMENDATIONS,),
    publish.STAGE: (SERVING_RECOMMENDATIONS,),
}
GO_ON = (ingest_events.STAGE, train_model.STAGE)  # a commit is not the last thing they do, or need not be made
NOT_COUNTED = (EVENTS_QUARANTINE.name, USER_SEEN.name)  # rows that their stages do not report as written
MODEL_STAGES = (embed_users.STAGE, weigh_candidates.STAGE, score_candidates.STAGE, publish.STAGE)


def commits_since(lake: Lake, plan: Plan) -> dict[str, list[Commit]]:
    """The commits above the planned versions, newest first, by table."""
    found: dict[str, list[Commit]] = {}
    for name, table in TABLES.items():
        if table is RUNS:
            continue
        found[name] = []
        for commit in lake.commits(table):
            if commit.version <= plan.versions.get(name, -1):
                break
            found[name].append(commit)
    return found


def require_as_planned(lake: Lake, plan: Plan, since: Commits) -> None:
    """Raise InputError naming table, version and run where a table is not as the plan and the run left it."""
    for name, commits in since.items():
        planned = plan.versions.get(name)
        head = None if commits or planned is None else lake.last_commit(TABLES[name])
        if not commits and planned is not None and (head is None or head.version < planned):
            raise InputError(
                f"table {name}: expected version {planned} or later, as run {plan.run_id} planned, "
                f"found {head.version if head else 'none'}"
            )
        for commit in commits:
            other, of_rows = commit.stamp.get("run_id"), commit.stamp.get("stage") != MAINTAIN
            if other != plan.run_id and of_rows and not commit.is_creation:
                raise InputError(
                    f"table {name}: expected only commits of run {plan.run_id} above its planned version "
                    f"{'(none)' if planned is None else planned}, found version {commit.version} by run "
                    f"{other or '(unknown)'}; start the night anew with `lime nightly`"
                )


def done_names(night: Night, plan: Plan, since: Commits) -> list[str]:
    """The stages that are done, in the night's order."""
    order = [stage for stage in WRITES if stage != train_model.STAGE or plan.trains]
    ends = [s for s in order if s not in GO_ON and WRITES[s][-1].name in _commits(plan, since, s)]
    ends += [train_model.STAGE] if trained_package(night, plan, since) else []
    return order[: max((order.index(stage) + 1 for stage in ends), default=0)]


def done_stages(night: Night, plan: Plan, since: Commits) -> dict[str, StageRecord]:
    """The stages that are done as the rows of `runs` that the run did not come to write.

    Rows written are those that carry the run's id. What else a stage counted is lost, but for what a publication's
    commit and a package's manifest keep.
    """
    return {stage: _record(night, plan, since, stage) for stage in done_names(night, plan, since)}


def trained_package(night: Night, plan: Plan, since: Commits) -> str:
    """The digest of the package that the run trained; empty where it has not yet, or was not to.

    By the commits that the run made with it, else by the package's own manifest.
    """
    if not plan.trains:
        return ""
    commits = [commit for stage in MODEL_STAGES for commit in _commits(plan, since, stage).values()]
    used = [str(commit.inputs["model_digest"]) for commit in commits]
    packages = (f for f in package_folders(night.packages) if read_manifest(f).get("run_id") == plan.run_id)
    return next(iter(used), "") or next((folder.name for folder in packages), "")


def _commits(plan: Plan, since: Commits, stage: str) -> dict[str, Commit]:
    """The run's newest commit of a stage on each table that the stage wrote."""
    found = {}
    for table in WRITES[stage]:
        for commit in since[table.name]:
            by = str(commit.stamp.get("stage")).split("/")[0]
            if (commit.stamp.get("run_id"), by) == (plan.run_id, stage):
                found[table.name] = commit
                break
    return found


def _record(night: Night, plan: Plan, since: Commits, stage: str) -> StageRecord:
    """A done stage; how long it took is not known."""
    commits = _commits(plan, since, stage)
    if stage == publish.STAGE:
        return publish.as_record(commits[SERVING_RECOMMENDATIONS.name])
    model = next((str(c.inputs["model_digest"]) for c in commits.values() if "model_digest" in c.inputs), None)
    metrics = {}
    if stage == train_model.STAGE:
        model = trained_package(night, plan, since)
        metrics = read_manifest(night.packages / model)["metrics"]
    written = {name: commit.version for name, commit in commits.items()}
    report = StageReport(
        rows_out=sum(_rows_of_run(night, name, v) for name, v in written.items() if name not in NOT_COUNTED),
        metrics=metrics,
        files=plan.files.all if stage == ingest_events.STAGE else (),
        model_digest=model,
    )
    reads = {name: version for commit in commits.values() for name, version in commit.reads.items()}
    return StageRecord(stage, report, reads, written, datetime.now(UTC), 0.0)


def _rows_of_run(night: Night, name: str, version: int) -> int:
    return night.lake.read(TABLES[name], version).where(F.col("run_id") == F.lit(night.run_id)).count()
