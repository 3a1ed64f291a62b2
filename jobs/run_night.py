"""The stages of a night one after the other, their rows in `runs`, the report; from the start or where it stopped."""

import argparse
import logging
from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import UTC, datetime

from jobs import (
    build_histories,
    embed_users,
    evaluate_lists,
    ingest_events,
    publish,
    score_candidates,
    train_model,
    weigh_candidates,
)
from jobs.plan_row import Plan
from jobs.progress import Progress
from jobs.report import write_report
from jobs.stage import Job, Night, StageRecord, StageReport, record_stages, run_stage, summary
from schemas.errors import EXIT_OK, GateError

log = logging.getLogger("lime")


def run_night(night: Night, plan: Plan, done: Mapping[str, StageRecord], report: str) -> int:
    """Stages but those that are done, `runs`, report; returns the exit code. Raises GateError where a gate refused."""
    records, refusal = _run_stages(night, plan, done, Progress(log))
    record_stages(night, records, "stages")
    samples = write_report(night, records, report)
    if refusal:
        log.info("refused %s; report: %s", night.logical_date, report)
        raise refusal
    for sample in samples:
        log.info("%s", sample.as_text())
    log.info("published %s; report: %s", night.logical_date, report)
    return EXIT_OK


def stages_of(plan: Plan, note: Callable[[str], None]) -> list[tuple[str, Job]]:
    """The night's stages in their order; `note` is told what the training is at."""
    training = [(train_model.STAGE, lambda n: train_model.run(n, note))] if plan.trains else []
    return [
        (ingest_events.STAGE, lambda n: ingest_events.run(n, plan.files)),
        (build_histories.STAGE, build_histories.run),
        *training,
        *((job.STAGE, job.run) for job in (evaluate_lists, embed_users, weigh_candidates, score_candidates, publish)),
    ]


def _run_stages(
    night: Night, plan: Plan, done: Mapping[str, StageRecord], progress: Progress
) -> tuple[list[StageRecord], GateError | None]:
    """The stages' records. A gate that refuses is the last one: recorded with what it saw, and handed back."""
    if not plan.trains:
        progress.skip(train_model.STAGE, "there is a model; --retrain makes another")
    stages = stages_of(plan, progress.note)
    records: list[StageRecord] = []
    for number, (name, job) in enumerate(stages, start=1):
        if name in done:
            records.append(done[name])
            versions = ", ".join(f"{table} version {version}" for table, version in done[name].writes.items())
            progress.skip(name, f"done before: {versions or 'nothing to write'}")
        else:
            with progress.stage(name, number, len(stages)):
                try:
                    records.append(run_stage(night, name, job))
                except GateError as refusal:
                    records.append(refused(name, refusal))
                    return records, refusal
            log.info("%s", summary(records[-1]))
        if name == train_model.STAGE:
            night = replace(night, model=records[-1].report.model_digest or "")
    return records, None


def refused(stage: str, refusal: GateError) -> StageRecord:
    lists = int(refusal.figures.get("lists", 0))
    report = StageReport(dropped={str(refusal): lists}, metrics={**refusal.figures, "refused": 1.0})
    return StageRecord(stage, report, {}, {}, datetime.now(UTC), 0.0)


def nothing_to_do(why: str, code: int) -> int:
    """Say so; returns the exit code that was asked for."""
    log.info("nothing to do: %s", why)
    return code


def add_retrain(parser: argparse.ArgumentParser) -> None:
    """Of the commands that plan a night."""
    parser.add_argument("--retrain", action="store_true", help="train a model even if there is one")


def add_report(parser: argparse.ArgumentParser) -> None:
    """Of every command that ends with a report."""
    parser.add_argument(
        "--report", metavar="FILE", help="where the report goes (default: reports/ in the lake)"
    )


def add_nothing_to_do_code(parser: argparse.ArgumentParser) -> None:
    """Of every command that may find nothing to do."""
    parser.add_argument(
        "--nothing-to-do-code",
        type=int,
        default=EXIT_OK,
        metavar="N",
        help="exit code of a night with nothing to do (default: 0)",
    )
