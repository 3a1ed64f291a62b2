"""`link_embeddings`, `candidate_weights`, `user_seen` -> `recommendations`. Grain: one user valid on the date.

Users flow through once, in a fixed number of partitions; every task maps the night's candidates and keeps the
best K of each user, filters inside the loop, ties by item id. No user-by-item row ever exists in Spark.
"""

from collections.abc import Callable, Iterable, Iterator
from datetime import timedelta
from functools import lru_cache
from pathlib import Path
from tempfile import mkdtemp

import numpy as np
import pyarrow as pa
import torch
from pyspark.sql import Column
from pyspark.sql import functions as F

from jobs.arrow import float_matrix
from jobs.candidates import ShippedCandidates, item_names, ship_candidates, shipped_candidates
from jobs.config import ScoreConfig
from jobs.filters import FilterTables, NightFilters, ship_filters, shipped_masks, shipped_popularity, with_filters
from jobs.intervals import as_of
from jobs.lists import SCORED, SCORED_COLUMNS, Filtered, filtered_rows, list_arrays, short_reasons
from jobs.packages import require_package
from jobs.popularity import NUMERICS
from jobs.stage import Night, StageReport, job_parser, run_alone, timestamp
from lime_model.package import load_package
from lime_model.scoring import Excluded, Scorer, ScoreShapes, TopK
from schemas.candidate_weights import CANDIDATE_WEIGHTS
from schemas.events import EVENTS
from schemas.items import ITEMS
from schemas.link_embeddings import LINK_EMBEDDINGS
from schemas.recommendations import RECOMMENDATIONS
from schemas.user_seen import USER_SEEN
from schemas.users import USERS

STAGE = "score_candidates"
MODEL, POPULARITY = "model", "popularity"


def run(night: Night) -> StageReport:
    """Score every user who is valid on the logical date against every item that he may get."""
    lake, config = night.lake, night.config.score
    package = load_package(require_package(night))
    model = package.digest
    items, users = as_of(lake.read(ITEMS), night.cutoff), as_of(lake.read(USERS), night.cutoff)
    shipped = ship_candidates(night, package, items.where("available").select("item_id"))
    candidates = lake.read(CANDIDATE_WEIGHTS).where(F.col("model_digest") == model)
    tables = FilterTables(candidates, items, users, lake.read(EVENTS))
    filters = ship_filters(night, tables, shipped.digest, Path(mkdtemp(prefix="lime-filters-")))
    links = lake.read(LINK_EMBEDDINGS).where(F.col("model_digest") == model).select("user_id", "links")
    seen = lake.read(USER_SEEN).select("user_id", seen_items(night).alias("seen"))
    everybody = with_filters(users, filters).select("user_id", "user_bucket", "rule_class", "denied")
    # `links` and `seen` are unique by user_id
    everybody = everybody.join(links, on=["user_id"], how="left").join(seen, on=["user_id"], how="left")
    # An explicit count: adaptive execution would collapse a small input to one Python task.
    parts = everybody.repartition(config.partitions)
    stamps = {"model_digest": model, "run_id": night.run_id}
    lists = parts.mapInArrow(_score_batches(shipped, filters, config), SCORED).withColumns(
        {name: F.lit(value) for name, value in stamps.items()}
    )
    lake.overwrite(RECOMMENDATIONS, lists, night.stamp(STAGE, model_digest=model))
    return _report(night, model, filters)


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
    shipped: ShippedCandidates, filters: NightFilters, config: ScoreConfig
) -> Callable[[Iterable[pa.RecordBatch]], Iterator[pa.RecordBatch]]:
    """The function that runs in tasks; it captures names and numbers, never candidates."""

    def score_batches(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        scorer, item_ids = load_scorer(shipped.weights, config), item_names(shipped.weights)
        masks = shipped_masks(filters.masks, len(filters.classes))
        popular = shipped_popularity(filters, config.k + config.reserve)
        for batch in batches:
            for rows in (batch.filter(batch["links"].is_valid()), batch.filter(batch["links"].is_null())):
                if not len(rows):
                    continue
                filtered = filtered_rows(rows, item_ids, masks)
                if rows["links"].null_count:
                    top, source = popular.top_k(filtered.class_of, filtered.excluded), (POPULARITY, NUMERICS)
                else:
                    top, source = _best(scorer, rows, filtered), (MODEL, scorer.numerics_id)
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


def _best(scorer: Scorer, rows: pa.RecordBatch, filtered: Filtered) -> TopK:
    """Class by class, as long as the scorer takes one mask: frozen shapes give the same bits in any company."""
    shape = (scorer.candidates.weights.A.shape[2], scorer.candidates.fold.shape[1])  # L, d
    links = float_matrix(rows["links"], shape[0] * shape[1]).reshape(-1, *shape)
    count = torch.zeros(len(rows), dtype=torch.int64)
    top = TopK(torch.full((len(rows), scorer.k), -1), torch.zeros(len(rows), scorer.k), count)
    for class_ in np.unique(filtered.class_of).tolist():
        at = torch.from_numpy(np.flatnonzero(filtered.class_of == class_))
        bits = np.unpackbits(filtered.masks[class_], bitorder="little")[: len(scorer.candidates)]
        found = scorer.top_k(links[at], _rows_of(filtered.excluded, at), torch.from_numpy(bits.astype(bool)))
        top.positions[at], top.scores[at], top.count[at] = found.positions, found.scores, found.count
    return top


def _rows_of(pairs: Excluded, rows: torch.Tensor) -> Excluded:
    """The exclusions of some users, in the order of `rows`."""
    parts = [pairs.positions[pairs.offsets[row] : pairs.offsets[row + 1]] for row in rows.tolist()]
    lengths = torch.tensor([0, *map(len, parts)])
    return Excluded(lengths.cumsum(0), torch.cat([pairs.positions[:0], *parts]))


@lru_cache(maxsize=2)
def load_scorer(weights: str, config: ScoreConfig) -> Scorer:
    """Once per Python worker."""
    shapes = ScoreShapes(config.users_per_block, config.candidates_per_block)
    return Scorer(shipped_candidates(weights), config.k + config.reserve, shapes)


def _report(night: Night, model: str, filters: NightFilters) -> StageReport:
    """Counts of the lists just written, by source; collects one row."""
    lists = night.lake.read(RECOMMENDATIONS)
    row = lists.agg(
        F.count("*").alias("lists"),
        F.count_if(F.col("source") == POPULARITY).alias("popularity_lists"),
        F.count_if(F.col("shortfall").isNotNull()).alias("short_lists"),
    ).first()
    counts = row.asDict() if row else {}
    metrics = {**{name: float(value) for name, value in counts.items()}, **filters.metrics}
    return StageReport(counts["lists"], counts["lists"], metrics=metrics, model_digest=model)


def main(argv: list[str] | None = None) -> int:
    """`lime score-candidates`."""
    args = job_parser(STAGE, "Make every user's list of the best K available, unseen items.").parse_args(argv)
    return run_alone(args, STAGE, run)
