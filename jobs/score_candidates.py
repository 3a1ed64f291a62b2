"""`link_embeddings`, `candidate_weights`, `user_seen` -> `recommendations`. Grain: one user valid on the date.

Users flow through once, in a fixed number of partitions; every task maps the night's candidates and keeps the
best K of each user, filters inside the loop, ties by item id. No user-by-item row ever exists in Spark.
"""

import re
from collections.abc import Callable, Iterable, Iterator
from datetime import timedelta
from functools import lru_cache
from hashlib import sha256
from pathlib import Path
from tempfile import mkdtemp

import pyarrow as pa
import torch
from pyspark import SparkFiles
from pyspark.sql import Column, DataFrame, Observation
from pyspark.sql import functions as F

from jobs.arrow import float_matrix
from jobs.candidates import ShippedCandidates, item_names, ship_candidates, shipped_candidates
from jobs.config import ScoreConfig
from jobs.filters import FilterTables, NightFilters, ship_filters, shipped_masks, shipped_popularity, with_filters
from jobs.gpu import Device, resource_profile, task_device
from jobs.intervals import as_of
from jobs.lists import SCORED, SCORED_COLUMNS, Filtered, filtered_rows, list_arrays, short_reasons
from jobs.packages import require_package
from jobs.popularity import NUMERICS
from jobs.stage import Night, StageReport, job_parser, run_alone, timestamp
from lime_model.loaded import ModelPackage
from lime_model.package import load_package
from lime_model.scoring import open_scorer
from lime_model.scoring.lists import Eligible, Scorer, TopK
from schemas.candidate_weights import CANDIDATE_WEIGHTS
from schemas.errors import BadNumberError, InputError
from schemas.events import EVENTS
from schemas.items import ITEMS
from schemas.link_embeddings import LINK_EMBEDDINGS
from schemas.recommendations import MODEL, POPULARITY, RECOMMENDATIONS
from schemas.user_history import USER_HISTORY
from schemas.user_seen import USER_SEEN
from schemas.users import USERS

STAGE = "score_candidates"


def run(night: Night) -> StageReport:
    """Score every user who is valid on the logical date against every item that he may get."""
    package = load_package(require_package(night))
    lists, filters = night_lists(night, package)
    counts = Observation("lists")  # counted as they are written: reading them again costs as much as scoring them
    observed = lists.observe(counts, *_counts())
    night.lake.overwrite(RECOMMENDATIONS, observed, night.stamp(STAGE, model_digest=package.digest))
    metrics = {**{name: float(value) for name, value in counts.get.items()}, **filters.metrics}
    return StageReport(counts.get["lists"], counts.get["lists"], metrics=metrics, model_digest=package.digest)


def night_lists(night: Night, package: ModelPackage) -> tuple[DataFrame, NightFilters]:
    """The rows of `recommendations`, not computed yet, and what they are filtered by."""
    lake, config = night.lake, night.config.score
    items, users = as_of(lake.read(ITEMS), night.cutoff), as_of(lake.read(USERS), night.cutoff)
    candidates = lake.read(CANDIDATE_WEIGHTS).where(F.col("model_digest") == package.digest)
    shipped = ship_candidates(night, package)
    tables = FilterTables(candidates, items, users, lake.read(EVENTS))
    # a folder that Spark removes when the session ends: executors that start later fetch from it
    folder = Path(mkdtemp(prefix="lime-filters-", dir=SparkFiles.getRootDirectory()))
    filters = ship_filters(night, tables, shipped.items, folder)
    device = Device.of(lake.spark, config.device)
    profile = resource_profile(lake.spark, config.device, config.gpu_amount)
    # An explicit count: adaptive execution would collapse a small input to one Python task. By key: a round robin
    # sorts every row first, so that a task done again gets the same ones.
    everybody = users_to_score(night, with_filters(users, filters), package.digest)
    parts = everybody.repartition(config.partitions, "user_id")
    scored = parts.mapInArrow(_score_batches(shipped, filters, config, device), SCORED, profile=profile)
    stamps = {"model_digest": package.digest, "run_id": night.run_id}
    return scored.withColumns({name: F.lit(value) for name, value in stamps.items()}), filters


def users_to_score(night: Night, users: DataFrame, model: str) -> DataFrame:
    """Users (rule_class, denied) beside their links, null without history, what they have seen, and `stale`.

    `stale`: the user has a history that the links, if any, were not made from.
    """
    lake = night.lake
    links = lake.read(LINK_EMBEDDINGS).where(F.col("model_digest") == model)
    links = links.select("user_id", "links", F.col("history_digest").alias("made_from"))
    histories = lake.read(USER_HISTORY).select("user_id", "history_digest")
    seen = lake.read(USER_SEEN).select("user_id", seen_items(night).alias("seen"))
    everybody = users.select("user_id", "user_bucket", "rule_class", "denied")
    for table in (links, histories, seen):  # each unique by user_id
        everybody = everybody.join(table, on=["user_id"], how="left")
    stale = F.col("history_digest").isNotNull() & ~F.col("history_digest").eqNullSafe(F.col("made_from"))
    return everybody.withColumn("stale", stale).drop("history_digest", "made_from")


def seen_items(night: Night) -> Column:
    """Distinct items that the seen filter holds back: by event type and by age."""
    config, kept = night.config.score, F.col("seen")
    if config.seen_types:
        kept = F.filter(kept, lambda entry: entry["event_type"].isin(*config.seen_types))
    if config.seen_days:
        since = timestamp(night.cutoff - timedelta(days=config.seen_days))
        kept = F.filter(kept, lambda entry: entry["last_ts"] >= since)
    return F.transform(kept, lambda entry: entry["item_id"])


def _score_batches(
    shipped: ShippedCandidates, filters: NightFilters, config: ScoreConfig, device: Device
) -> Callable[[Iterable[pa.RecordBatch]], Iterator[pa.RecordBatch]]:
    """The function that runs in tasks; it captures names and numbers, never candidates."""
    width = config.k + config.reserve

    def score_batches(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        scorer = load_scorer(shipped, width, task_device(device))
        item_ids, popular = item_names(shipped), shipped_popularity(filters, width)
        masks = shipped_masks(filters.masks, len(filters.classes))
        for batch in batches:
            _require_fresh(batch)
            for rows in (batch.filter(batch["links"].is_valid()), batch.filter(batch["links"].is_null())):
                if not len(rows):
                    continue
                filtered = filtered_rows(rows, item_ids, masks)
                if rows["links"].null_count:
                    top, source = popular.top_k(filtered.class_of, filtered.excluded), (POPULARITY, NUMERICS)
                else:
                    top, source = _best(shipped, scorer, rows, filtered), (MODEL, scorer.numerics_id)
                columns = {
                    "user_id": rows["user_id"],
                    "user_bucket": rows["user_bucket"],
                    **list_arrays(top, item_ids, config.k),
                    "source": pa.array([source[0]] * len(rows), pa.string()),
                    "shortfall": pa.array(short_reasons(config.k, top.count, filtered, filters.classes), pa.string()),
                    "numerics_id": pa.array([source[1]] * len(rows), pa.string()),
                    "eligibility_digest": pa.array([filters.classes[c].digest for c in filtered.class_of], pa.string()),
                }
                yield pa.RecordBatch.from_pydict({name: columns[name] for name in SCORED_COLUMNS})

    return score_batches


def _best(shipped: ShippedCandidates, scorer: Scorer, rows: pa.RecordBatch, filtered: Filtered) -> TopK:
    """The model's lists of the rows, all of which have links."""
    found = shipped_candidates(shipped)
    links = float_matrix(rows["links"], found.links * found.width).reshape(-1, found.links, found.width)
    eligible = Eligible(torch.from_numpy(filtered.masks), torch.from_numpy(filtered.class_of))
    try:
        return scorer.top_k(links, filtered.excluded, eligible)
    except BadNumberError as error:
        row = re.search(r"user row (\d+)", str(error))
        who = _hashed(rows["user_id"][int(row[1])].as_py()) if row else "unknown"
        raise BadNumberError(f"link_embeddings, row with sha2(user_id, 256) = '{who}': {error}") from error


def _require_fresh(rows: pa.RecordBatch) -> None:
    """Raise InputError where a user's links are missing or older than his history."""
    stale = rows["stale"].to_numpy(zero_copy_only=False).nonzero()[0]
    if len(stale):
        raise InputError(
            f"link_embeddings: expected links of every history under this model, found none of {len(stale)} users "
            f"of a batch, one with sha2(user_id, 256) = '{_hashed(rows['user_id'][int(stale[0])].as_py())}'; "
            "run `lime embed-users`"
        )


def _hashed(user_id: str) -> str:
    """What finds the row in SQL and is no user id in a log."""
    return sha256(user_id.encode()).hexdigest()


@lru_cache(maxsize=2)
def load_scorer(shipped: ShippedCandidates, width: int, device: str) -> Scorer:
    """Once per Python worker."""
    return open_scorer(shipped_candidates(shipped), width, device)


def _counts() -> list[Column]:
    """Of lists: how many, and by what they are made."""
    popular = F.count_if(F.col("source") == POPULARITY).alias("popularity_lists")
    return [F.count("*").alias("lists"), popular, F.count_if(F.col("shortfall").isNotNull()).alias("short_lists")]


def main(argv: list[str] | None = None) -> int:
    """`lime score-candidates`."""
    args = job_parser(STAGE, "Make every user's list of the best K available, unseen items.").parse_args(argv)
    return run_alone(args, STAGE, run)
