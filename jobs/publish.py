"""`recommendations` -> `serving_recommendations`. Grain: one user. One commit is the publication.

Gates look at what would be served; one that refuses leaves the last night served and ends the job with exit
code 3. A night whose lists are those already served publishes all the same, by a commit without rows: what is
served for which date, and from which inputs, is read from the table's history and nowhere else.
"""

from collections.abc import Mapping
from datetime import UTC, date, datetime

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from jobs.gates import gate_figures, refused_gates
from jobs.intervals import as_of
from jobs.lake import Commit, Lake
from jobs.packages import current_package
from jobs.stage import Night, StageRecord, StageReport, job_parser, run_alone
from schemas.all_tables import TABLES
from schemas.contract import TableContract
from schemas.digest import table_digest
from schemas.errors import GateError
from schemas.events import EVENTS
from schemas.items import ITEMS
from schemas.recommendations import RECOMMENDATIONS
from schemas.serving_recommendations import SERVING_RECOMMENDATIONS
from schemas.users import USERS

STAGE = "publish"
ROLLBACK = "rollback"  # the other stage that decides what is served: jobs/rollback.py
INPUTS = (EVENTS, ITEMS, USERS)  # of the tables that a night reads, those that are not made by it


def run(night: Night) -> StageReport:
    """Gate and publish; raises GateError naming every gate that refused."""
    lake = night.lake
    lists, served = lake.read(RECOMMENDATIONS), lake.read_or_empty(SERVING_RECOMMENDATIONS)
    users, items = as_of(lake.read(USERS), night.cutoff), as_of(lake.read(ITEMS), night.cutoff)
    figures = gate_figures(lists, users, items.where("available"), served, night.config.score.k)
    refused = refused_gates(figures, night.config.publish)
    made = lake.last_commit(RECOMMENDATIONS, "score_candidates")
    lists_date = made.stamp.get("logical_date") if made else None
    if lists_date != night.logical_date.isoformat():
        refused.append(
            f"recommendations: expected lists of {night.logical_date}, found those of {lists_date}"
        )
    if refused:
        raise GateError("publish refused, what was served stays: " + "; ".join(refused), figures)
    last = served_commit(lake)
    if last and (when := served_date(last)) and when > night.logical_date:
        raise GateError(f"publish refused: {when} is served, {night.logical_date} is older", figures)
    rows = lists.select(*SERVING_RECOMMENDATIONS.columns[:-1], F.lit(night.run_id).alias("run_id"))
    model = str(made.inputs.get("model_digest")) if made else ""
    versions = {table.name: made.reads.get(table.name) if made else None for table in INPUTS}
    # the digests read both tables once more, so they are asked only where no list has other items
    changed = figures["lists_of_other_items"] > 0 or _digest(rows) != _digest(served)
    metrics = {**figures, "changed": float(changed)}
    stamp = night.stamp(
        STAGE,
        **versions,
        model_digest=model,
        config_hash=night.config.hash,
        version_before=last.version if last else None,
        figures=metrics,
    )
    lake.require_only_writer(*TABLES.values())  # of all that these lists were made from
    if changed:
        lake.overwrite(SERVING_RECOMMENDATIONS, rows, stamp)
    else:
        lake.append(SERVING_RECOMMENDATIONS, rows.limit(0), stamp)
    return _report(metrics, model)


def _digest(lists: DataFrame) -> str:
    return table_digest(lists, SERVING_RECOMMENDATIONS)


def _report(metrics: Mapping[str, float], model: str) -> StageReport:
    written = int(metrics["lists"]) if metrics["changed"] else 0
    return StageReport(int(metrics["lists"]), written, metrics=metrics, model_digest=model)


def is_published(night: Night) -> bool:
    """Whether the date is served, made from the present tables and package under this configuration."""
    commit = served_commit(night.lake)
    if commit is None or served_date(commit) != night.logical_date:
        return False
    package = current_package(night)
    now = {"model_digest": package.name if package else None, "config_hash": night.config.hash}
    if any(commit.inputs.get(name) != value for name, value in now.items()):
        return False
    return not any(night.lake.changed_since(table, _version(commit, table)) for table in INPUTS)


def _version(commit: Commit, table: TableContract) -> int:
    """The version of an input that a publication was made from; -1 where there was none."""
    found = commit.inputs.get(table.name)
    return -1 if found is None else int(str(found))


def as_record(commit: Commit) -> StageRecord:
    """A publication or rollback as the row of `runs` that its run did not write; how long it took is not known."""
    found = commit.inputs.get("figures")
    metrics = {name: float(value) for name, value in found.items()} if isinstance(found, Mapping) else {}
    report = _report({"lists": 0.0, "changed": 1.0, **metrics}, str(commit.inputs.get("model_digest")))
    writes = {SERVING_RECOMMENDATIONS.name: commit.version}
    stage = str(commit.stamp["stage"])
    return StageRecord(stage, report, commit.reads, writes, datetime.now(UTC), 0.0)


def served_commit(lake: Lake) -> Commit | None:
    """The newest publication or rollback; None before the first."""
    return lake.last_commit(SERVING_RECOMMENDATIONS, STAGE, ROLLBACK)


def served_date(commit: Commit) -> date | None:
    """The night that a publication is of."""
    found = commit.stamp.get("logical_date")
    return date.fromisoformat(str(found)) if found else None


def main(argv: list[str] | None = None) -> int:
    """`lime publish`."""
    args = job_parser(STAGE, "Serve the night's lists, if the gates let them pass.").parse_args(argv)
    return run_alone(args, STAGE, run)
