"""`link_embeddings`, `candidate_weights`, `user_seen` -> `recommendations`. Grain: one user valid on the date.

Users flow through once, in a fixed number of partitions; every task maps the night's candidates and keeps the
best K of each user, filters inside the loop, ties by item id. No user-by-item row ever exists in Spark. A user whose
inputs are as they were when the last list was made meets only the candidates that changed (`jobs.last_lists`).
"""

import argparse
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from tempfile import mkdtemp

import pyarrow as pa
import torch
from pyspark import SparkFiles
from pyspark.sql import Column, DataFrame, Observation
from pyspark.sql import functions as F

from jobs.bucket_groups import FOLDER, group_count, inputs_digest, staged_groups
from jobs.candidates import ShippedCandidates, item_names, ship_candidates
from jobs.filters import FilterTables, ship_filters, with_filters
from jobs.gpu import Device, resource_profile
from jobs.intervals import as_of
from jobs.lake import Stamp
from jobs.last_lists import LastLists, changed_items, last_lists, settings_digest
from jobs.lists import FULL, MERGED, SCORED, positions_of
from jobs.packages import require_package
from jobs.rewrite import in_buckets, replace_users
from jobs.score_batches import MOST_RESCORED, Shipped, scored_batches
from jobs.score_users import USER, users_to_score
from jobs.stage import Night, StageReport, job_parser, run_alone
from lime_model.loaded import ModelPackage
from lime_model.package import load_package
from schemas.candidate_weights import CANDIDATE_WEIGHTS
from schemas.events import EVENTS
from schemas.items import ITEMS
from schemas.recommendations import POPULARITY, RECOMMENDATIONS
from schemas.users import USERS

STAGE = "score_candidates"


@dataclass(frozen=True)
class NightLists:
    """Tonight's lists, not computed yet."""

    chosen: DataFrame  # rows of `users_to_score` whose lists are made
    users: DataFrame  # everybody who gets one
    work: Shipped
    merged: bool  # unchanged users meet `rescored` candidates; else everybody meets all
    rescored: int
    touched_only: bool  # rows of users who are not chosen stay as they are


def run(night: Night, in_full: bool = False) -> StageReport:
    """Make the list of every user who is valid on the logical date; `in_full`: from all candidates."""
    package = load_package(require_package(night))
    made = night_lists(night, package, in_full)
    stamp = night.stamp(STAGE, model_digest=package.digest, settings=settings_digest(night.config.score))
    staged = f"{STAGE}-{inputs_digest(night, package.digest)}"
    stamps = {"model_digest": F.lit(package.digest), "run_id": F.lit(night.run_id)}
    counts = Observation("lists")  # counted as they are written: reading them again costs as much as scoring them
    observed = _lists(night, made, staged).observe(counts, *_counts())
    rows = observed.drop("how").withColumns(stamps)
    if made.touched_only:
        _replace_touched(night, rows, made.users, stamp)
    else:
        night.lake.overwrite(RECOMMENDATIONS, rows, stamp)
    night.lake.clear_staging(f"{FOLDER}/{staged}")
    return _report(night, made, {name: float(value) for name, value in counts.get.items()}, package.digest)


def night_lists(night: Night, package: ModelPackage, in_full: bool = False) -> NightLists:
    """What tonight's lists are made from, found and shipped; nothing is scored yet."""
    lake, config, model = night.lake, night.config.score, package.digest
    last = None if in_full else last_lists(night, STAGE, model)
    items, users = as_of(lake.read(ITEMS), night.cutoff), as_of(lake.read(USERS), night.cutoff)
    candidates = lake.read(CANDIDATE_WEIGHTS).where(F.col("model_digest") == model)
    shipped = ship_candidates(night, package)
    tables = FilterTables(candidates, items, users, lake.read(EVENTS))
    # a folder that Spark removes when the session ends: executors that start later fetch from it
    folder = Path(mkdtemp(prefix="lime-filters-", dir=SparkFiles.getRootDirectory()))
    filters = ship_filters(night, tables, shipped.items, folder)
    changed = _positions_to_rescore(night, last, shipped, model) if last else None
    chosen = users_to_score(night, with_filters(users, filters), model, None if changed is None else last)
    rescored = torch.empty(0, dtype=torch.int64) if changed is None else changed
    touched_only = changed is not None and not len(changed)
    if touched_only:
        chosen = chosen.where(F.col("kept").isNull() | (F.size("lifted") > 0) | F.col("audited"))
    again = _ship_positions(night, rescored, folder)
    work = Shipped(shipped, filters, again, config.k, config.k + config.reserve)
    merged = changed is not None
    return NightLists(chosen, users, work, merged, len(rescored) if merged else shipped.count, touched_only)


def _lists(night: Night, made: NightLists, staged: str) -> DataFrame:
    """Rows of SCORED: not computed yet or, where that takes long, in groups of buckets that a resume finds again."""
    pairs = 0 if made.merged else made.users.count() * made.rescored
    groups = group_count(pairs, night.config.score.pairs_per_group)
    if groups == 1:
        return scored(night, made.chosen, made.work)
    return staged_groups(night, staged, groups, lambda mine: scored(night, made.chosen.where(mine), made.work))


def scored(night: Night, users: DataFrame, work: Shipped) -> DataFrame:
    """Rows of `users_to_score` -> SCORED, in the configured number of partitions, on the configured device."""
    config, spark = night.config.score, night.lake.spark
    device = Device.of(spark, config.device)
    profile = resource_profile(spark, config.device, config.gpu_amount)
    # An explicit count: adaptive execution would collapse a small input to one Python task. By key: a round robin
    # sorts every row first, so that a task done again gets the same ones.
    parts = users.repartition(config.partitions, *USER)
    return parts.mapInArrow(scored_batches(work, device), SCORED, profile=profile)


def _positions_to_rescore(
    night: Night, last: LastLists, shipped: ShippedCandidates, model: str
) -> torch.Tensor | None:
    """Ascending positions of the candidates that changed since the last lists; None where they are too many."""
    most = int(MOST_RESCORED * shipped.count)
    changed = changed_items(night, last, model, most)
    if changed is None:
        return None
    positions = positions_of(pa.array(changed, pa.string()), item_names(shipped))
    return positions[positions >= 0].sort().values


def _ship_positions(night: Night, positions: torch.Tensor, folder: Path) -> str:
    """A plain file for tasks; Spark takes a name once, so the name holds a digest of the content."""
    content = positions.numpy().tobytes()
    file = folder / f"rescored-{sha256(content).hexdigest()[:16]}.positions"
    file.write_bytes(content)
    night.lake.spark.sparkContext.addFile(str(file))
    return file.name


def _replace_touched(night: Night, lists: DataFrame, users: DataFrame, stamp: Stamp) -> None:
    """Replace the rows of the users in `lists`, drop those of users who are gone, leave the others: whole buckets."""
    lake = night.lake
    fresh = lake.stage(lists, f"{night.run_id}/lists")
    before = lake.read(RECOMMENDATIONS)
    gone = before.join(users.select("user_id"), on=["user_id"], how="left_anti").select("user_id")
    touched = fresh.select("user_id").union(gone)
    if touched.isEmpty():
        lake.append(RECOMMENDATIONS, before.limit(0), stamp)  # that these are tonight's lists is said by a commit
        return
    where = in_buckets(touched)
    lake.overwrite(RECOMMENDATIONS, replace_users(before.where(where), touched, fresh), stamp, where)


def _counts() -> list[Column]:
    """Of the lists that are made: how many, and by what."""
    how = {"lists_from_all": FULL, "merged_lists": MERGED, "popularity_lists": POPULARITY}
    counted = {name: F.count_if(F.col("how") == value) for name, value in how.items()}
    short = F.count_if(F.col("shortfall").isNotNull()).alias("short_lists")
    return [F.count("*").alias("made"), short, *[value.alias(name) for name, value in counted.items()]]


def _report(night: Night, made: NightLists, counts: dict[str, float], model: str) -> StageReport:
    """What was made, and what was left; where only touched rows were written, collects one row on all."""
    written = int(counts.pop("made"))
    lists = written
    if made.touched_only:
        all_lists = night.lake.read(RECOMMENDATIONS)
        short = F.count_if(F.col("shortfall").isNotNull())
        ((lists, counts["short_lists"]),) = all_lists.agg(F.count("*"), short).collect()
    metrics = {"lists": lists, **counts, "rescored_items": made.rescored, **made.work.filters.metrics}
    unchanged = {"unchanged": lists - written}
    return StageReport(lists, written, unchanged, {k: float(v) for k, v in metrics.items()}, model_digest=model)


def arg_parser() -> argparse.ArgumentParser:
    """The job's arguments."""
    parser = job_parser(STAGE, "Make every user's list of the best K available, unseen items.")
    parser.add_argument("--full", action="store_true", help="make all lists from all candidates, whatever stands")
    return parser


def main(argv: list[str] | None = None) -> int:
    """`lime score-candidates`."""
    args = arg_parser().parse_args(argv)
    return run_alone(args, STAGE, lambda night: run(night, args.full))
