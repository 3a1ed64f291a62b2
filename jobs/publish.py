"""`recommendations` -> `serving_recommendations`. Grain: one user. One commit is the publication.

Gates look at what would be served; one that refuses leaves the last night served and ends the job with exit
code 3. A night whose lists are those already served publishes all the same, by a commit without rows: what is
served for which date is read from the table's history and nowhere else.
"""

from datetime import date

from pyspark.sql import functions as F

from jobs.gates import gate_figures, refused_gates
from jobs.intervals import as_of
from jobs.lake import Commit, Lake
from jobs.stage import Night, StageReport, job_parser, run_alone
from schemas.digest import table_digest
from schemas.errors import GateError
from schemas.items import ITEMS
from schemas.recommendations import RECOMMENDATIONS
from schemas.serving_recommendations import SERVING_RECOMMENDATIONS
from schemas.users import USERS

STAGE = "publish"


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
    stamp = night.stamp(
        STAGE,
        model_digest=model,
        version_before=last.version if last else None,
        config_hash=night.config.hash,
    )
    changed = table_digest(rows, SERVING_RECOMMENDATIONS) != table_digest(served, SERVING_RECOMMENDATIONS)
    if changed:
        lake.overwrite(SERVING_RECOMMENDATIONS, rows, stamp)
    else:
        lake.append(SERVING_RECOMMENDATIONS, rows.limit(0), stamp)
    written = int(figures["lists"]) if changed else 0
    metrics = {**figures, "changed": float(changed)}
    return StageReport(int(figures["lists"]), written, metrics=metrics, model_digest=model)


def served_commit(lake: Lake) -> Commit | None:
    """The newest publication; None before the first."""
    return lake.last_commit(SERVING_RECOMMENDATIONS, STAGE)


def served_date(commit: Commit) -> date | None:
    """The night that a publication is of."""
    found = commit.stamp.get("logical_date")
    return date.fromisoformat(str(found)) if found else None


def main(argv: list[str] | None = None) -> int:
    """`lime publish`."""
    args = job_parser(STAGE, "Serve the night's lists, if the gates let them pass.").parse_args(argv)
    return run_alone(args, STAGE, run)
