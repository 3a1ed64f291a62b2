"""`runs` and the served lists -> one HTML file that needs nothing else: styles, pictures and text are in it.

The accuracy section pools every night that `runs` holds up to the report's; everything else is the one run. User
ids stay out of it: sample users are called by a letter.
"""

import argparse
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from jobs import charts, list_facts, report_data
from jobs.accuracy import (
    ENOUGH_USERS,
    MEASURES,
    WHO,
    Estimate,
    Evaluation,
    one_per_list,
    pooled,
    running,
)
from jobs.evaluate_lists import STAGE as EVALUATE
from jobs.evaluate_lists import publications, served_before, served_until
from jobs.lake import Commit
from jobs.report_data import PUBLISH
from jobs.samples import SampleList, samples_of
from jobs.stage import Night, StageRecord, job_parser, open_night
from schemas.errors import EXIT_OK, ConfigError
from schemas.recommendations import POPULARITY
from schemas.serving_recommendations import SERVING_RECOMMENDATIONS

__all__ = ["SampleList", "main", "write_report"]

STAGE = "report"
SAMPLES = 3
log = logging.getLogger("lime")

OUTCOMES = {
    "published": "New lists are served.",
    "unchanged": "Every list is as it was; what is served stays and now counts for this night.",
    "refused": "A gate refused the night; what was served before stays.",
    "unfinished": "The run did not reach publication; what was served before stays.",
}


@dataclass(frozen=True)
class StageLine:
    """One row of the stage table; `start` and `width` place its bar, in percent of the run."""

    name: str
    rows_in: int
    rows_out: int
    dropped: Mapping[str, int]
    seconds: float
    start: float
    width: float


@dataclass(frozen=True)
class Lists:
    """What the report says of the lists that are served, with its pictures."""

    total: int
    sampled: int  # lists that the pictures are made of
    by_popularity: int  # of the sampled ones
    full: int  # of the sampled ones
    shown_items: int
    available_items: int
    overlap: float | None  # mean share of a list that was there the night before
    pictures: Mapping[str, Markup]


@dataclass(frozen=True)
class Accuracy:
    """All judged lists so far. `estimates[measure][who]`."""

    nights: int
    estimates: Mapping[str, Mapping[str, Estimate]]
    pictures: Mapping[str, Markup]

    @property
    def ndcg(self) -> Estimate:
        """The figure of the headline."""
        return self.estimates["ndcg"]["model"]

    @property
    def verdict(self) -> str:
        """What the paired difference allows to say, in words."""
        found = self.estimates["ndcg"]["difference"]
        if abs(found.mean) <= found.margin:
            return "By NDCG@10 model and popularity cannot be told apart yet: the interval of their difference holds 0."
        better = "better" if found.mean > 0 else "worse"
        return f"By NDCG@10 the model's lists are {better} than the popularity list: the interval excludes 0."


def write_report(night: Night, records: Sequence[StageRecord], path: str) -> list[SampleList]:
    """Write the report of a run on the driver's disk; returns the sample lists that it shows."""
    commits = publications(night.lake, night.logical_date)
    served = served_until(commits, night.logical_date)
    stages = [record for record in records if record.stage != "plan"]
    samples = samples_of(night, served.version, SAMPLES) if served else []
    facts: dict[str, object] = {
        "night": night,
        "outcome": outcome(stages),
        "why": OUTCOMES[outcome(stages)],
        "stages": stage_lines(stages),
        "seconds": sum(record.seconds for record in stages),
        "figures": [(r.stage, sorted(r.report.metrics.items())) for r in stages if r.report.metrics],
        "gates": next((dict(r.report.metrics) for r in stages if r.stage == PUBLISH), {}),
        "model": next((r.report.model_digest for r in reversed(stages) if r.report.model_digest), None),
        "served_date": served.stamp["logical_date"] if served else None,
        "lists": _lists(night, served, served_before(commits, night.logical_date)) if served else None,
        "accuracy": accuracy(_evaluations(night, stages)),
        "samples": samples,
        "measures": MEASURES,
        "enough": ENOUGH_USERS,
    }
    file = Path(path)
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(render(facts), "utf-8")
    return samples


def render(facts: Mapping[str, object]) -> str:
    """The page; a fact that the template asks for and does not get is an error."""
    environment = Environment(
        loader=PackageLoader("jobs"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["count"] = lambda number: f"{number:,}"
    environment.filters["percent"] = charts.percent
    environment.filters["figure"] = lambda value: f"{value:,.0f}" if float(value).is_integer() else f"{value:,.4g}"
    return environment.get_template("report.html.j2").render(facts)


def outcome(stages: Sequence[StageRecord]) -> str:
    """What the run came to: a key of OUTCOMES."""
    publish = next((record.report.metrics for record in stages if record.stage == PUBLISH), None)
    if publish is None:
        return "unfinished"
    if publish.get("refused"):
        return "refused"
    return "published" if publish.get("changed", 1.0) else "unchanged"


def stage_lines(stages: Sequence[StageRecord]) -> list[StageLine]:
    """The stages in time, as shares of the whole run."""
    if not stages:
        return []
    first = min(record.started_at for record in stages)
    end = max(record.started_at + timedelta(seconds=record.seconds) for record in stages)
    whole = max((end - first).total_seconds(), 1e-9)
    return [
        StageLine(
            record.stage.replace("_", " "),
            record.report.rows_in,
            record.report.rows_out,
            {reason: n for reason, n in sorted(record.report.dropped.items()) if n},
            record.seconds,
            100 * (record.started_at - first).total_seconds() / whole,
            100 * record.seconds / whole,
        )
        for record in sorted(stages, key=lambda record: record.started_at)
    ]


def accuracy(evaluations: Sequence[Evaluation]) -> Accuracy | None:
    """Everything judged so far, or None while nothing is."""
    judged = one_per_list(evaluations)
    if not judged:
        return None
    estimates = {measure: {who: pooled(judged, who, measure) for who in WHO} for measure in MEASURES}
    pictures = {}
    if estimates["ndcg"]["model"].enough:
        lines = {who: running(judged, who, "ndcg") for who in ("model", "popularity")}
        pictures = {
            "intervals": Markup(charts.intervals(estimates)),
            "trend": Markup(charts.trend(judged, lines["model"], lines["popularity"])),
        }
    return Accuracy(len(judged), estimates, pictures)


def _evaluations(night: Night, stages: Sequence[StageRecord]) -> list[Evaluation]:
    """Those in `runs` and this run's own, which may not be there yet."""
    own = [Evaluation(night.logical_date, r.report.metrics) for r in stages if r.stage == EVALUATE]
    return [*report_data.evaluations(night.lake, night.logical_date), *own]


def _lists(night: Night, served: Commit, earlier: Commit | None) -> Lists:
    """The served lists, beside those of the night before."""
    table, k = night.lake.read(SERVING_RECOMMENDATIONS, served.version), night.config.score.k
    total = table.count()
    lists = list_facts.read_lists(table, total)
    items, places = report_data.catalogue(night), list_facts.places_by_item(lists)
    scores = list_facts.scores(lists)
    pictures = {"concentration": charts.concentration(list_facts.shares(items, places))}
    if scores.by_rank:
        pictures |= {"scores": charts.score_histogram(scores), "ranks": charts.score_by_rank(scores)}
    mean = None
    if earlier:
        before = list_facts.read_lists(night.lake.read(SERVING_RECOMMENDATIONS, earlier.version), total)
        kept = list_facts.overlap(lists, before)
        if kept:
            mean = sum(n * count for n, count in kept.items()) / (k * kept.total())
            pictures["overlap"] = charts.overlap(kept, k)
    return Lists(
        total=total,
        sampled=len(lists),
        by_popularity=lists["source"].to_pylist().count(POPULARITY),
        full=sum(length == k for length in map(len, lists["item_ids"].to_pylist())),
        shown_items=len(places),
        available_items=len(items),
        overlap=mean,
        pictures={name: Markup(svg) for name, svg in pictures.items()},
    )


def default_path(night: Night, option: str) -> str:
    """`reports/` in a lake that is a folder of this machine; else there is no place to guess: `option` names one."""
    if not night.lake.is_folder:
        raise ConfigError(f"{option}: expected a file, found none, and the lake {night.lake.root} is no local folder")
    return f"{night.lake.root}/reports/{night.logical_date}.html"


def arg_parser() -> argparse.ArgumentParser:
    """The command's arguments."""
    parser = job_parser(STAGE, "Write the report of the newest run of a night again.", "--into night.html")
    parser.add_argument("--into", metavar="FILE", help="where the report goes (default: reports/ in the lake)")
    return parser


def main(argv: list[str] | None = None) -> int:
    """`lime report`."""
    args = arg_parser().parse_args(argv)
    night = open_night(args, args.date)
    run_id, records = report_data.newest_run(night.lake, args.date)
    night = replace(night, run_id=run_id)
    path = args.into or default_path(night, "--into")
    write_report(night, records, path)
    log.info("report of run %s: %s", run_id, path)
    return EXIT_OK
