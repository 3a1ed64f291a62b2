"""`link_embeddings`, `candidate_weights`, `user_seen` -> `recommendations`. Grain: one user valid on the date.

Users flow through once, in a fixed number of partitions; every task maps the night's candidates and keeps the
best K of each user, filters inside the loop, ties by item id. No user-by-item row ever exists in Spark.
"""

from collections.abc import Callable, Iterable, Iterator
from datetime import timedelta
from functools import lru_cache

import pyarrow as pa
from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from jobs.arrow import float_matrix
from jobs.candidates import ShippedCandidates, eligible_mask, item_names, ship_candidates, shipped_candidates
from jobs.config import ScoreConfig
from jobs.intervals import as_of
from jobs.lists import LIST_COLUMNS, SCORED, SCORED_COLUMNS, list_arrays, seen_positions, shortfall
from jobs.packages import require_package
from jobs.popularity import popular_items
from jobs.stage import Night, StageReport, job_parser, run_alone, timestamp
from lime_model.package import load_package
from lime_model.scoring import Excluded, Scorer, ScoreShapes
from schemas.events import EVENTS
from schemas.items import ITEMS
from schemas.link_embeddings import LINK_EMBEDDINGS
from schemas.recommendations import RECOMMENDATIONS
from schemas.user_seen import USER_SEEN
from schemas.users import USERS

STAGE = "score_candidates"
MODEL, POPULARITY = "model", "popularity"


def run(night: Night) -> StageReport:
    """Score every user who is valid on the logical date against every available item."""
    lake, config = night.lake, night.config.score
    package = load_package(require_package(night))
    model = package.digest
    available = as_of(lake.read(ITEMS), night.cutoff).where("available").select("item_id")
    shipped = ship_candidates(night, package, available)
    users = as_of(lake.read(USERS), night.cutoff).select("user_id", "user_bucket")
    links = lake.read(LINK_EMBEDDINGS).where(F.col("model_digest") == model).select("user_id", "links")
    seen = lake.read(USER_SEEN).select("user_id", seen_items(night).alias("seen"))
    # `links` and `seen` are unique by user_id
    everybody = users.join(links, on=["user_id"], how="left").join(seen, on=["user_id"], how="left")
    known = everybody.where(F.col("links").isNotNull())
    # An explicit count: adaptive execution would collapse a small input to one Python task.
    scored = known.repartition(config.partitions).mapInArrow(_score_batches(shipped, config), SCORED)
    popular = popular_items(night, lake.read(EVENTS), available, config.k + config.reserve)
    unknown = with_popular_list(everybody.where(F.col("links").isNull()), popular, config, shipped)
    stamps = {"model_digest": model, "eligibility_digest": shipped.digest, "run_id": night.run_id}
    lists = scored.unionByName(unknown).withColumns({name: F.lit(value) for name, value in stamps.items()})
    lake.overwrite(RECOMMENDATIONS, lists, night.stamp(STAGE, model_digest=model))
    return _report(night, model, shipped)


def seen_items(night: Night) -> Column:
    """Distinct items that the seen filter holds back: by event type and by age."""
    config, kept = night.config.score, F.col("seen")
    if config.seen_types:
        kept = F.filter(kept, lambda entry: entry["event_type"].isin(*config.seen_types))
    if config.seen_days:
        since = timestamp(night.cutoff - timedelta(days=config.seen_days))
        kept = F.filter(kept, lambda entry: entry["last_ts"] >= since)
    return F.transform(kept, lambda entry: entry["item_id"])


def with_popular_list(
    users: DataFrame, popular: list[tuple[str, float]], config: ScoreConfig, shipped: ShippedCandidates
) -> DataFrame:
    """Users without history beside the popularity list, in the columns of SCORED."""
    ranked = [(rank, item, score) for rank, (item, score) in enumerate(popular[: config.k], start=1)]
    full = len(popular) == config.k + config.reserve
    row = (
        ranked,
        POPULARITY,
        None if len(ranked) == config.k else shortfall(shipped.eligible_items, 0, config.k),
        popular[config.k :],
        popular[-1] if full else None,
        "counts",
    )
    one = users.sparkSession.createDataFrame([row], LIST_COLUMNS)
    return users.select("user_id", "user_bucket").crossJoin(F.broadcast(one))


def _score_batches(
    shipped: ShippedCandidates, config: ScoreConfig
) -> Callable[[Iterable[pa.RecordBatch]], Iterator[pa.RecordBatch]]:
    """The function that runs in tasks; it captures names and numbers, never candidates."""

    def score_batches(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        scorer, item_ids = load_scorer(shipped.weights, config), item_names(shipped.weights)
        eligible = eligible_mask(shipped.eligible)
        shape = (scorer.candidates.weights.A.shape[2], scorer.candidates.fold.shape[1])  # L, d
        for batch in batches:
            links = float_matrix(batch.column("links"), shape[0] * shape[1]).reshape(-1, *shape)
            offsets, positions = seen_positions(batch.column("seen"), item_ids)
            top = scorer.top_k(links, Excluded(offsets, positions), eligible)
            short = [
                None if count >= config.k else shortfall(shipped.eligible_items, seen, config.k)
                for count, seen in zip(top.count.tolist(), offsets.diff().tolist(), strict=True)
            ]
            columns = {
                "user_id": batch.column("user_id"),
                "user_bucket": batch.column("user_bucket"),
                **list_arrays(top, item_ids, config.k),
                "source": pa.array([MODEL] * len(batch), pa.string()),
                "shortfall": pa.array(short, pa.string()),
                "numerics_id": pa.array([scorer.numerics_id] * len(batch), pa.string()),
            }
            yield pa.RecordBatch.from_pydict({name: columns[name] for name in SCORED_COLUMNS})

    return score_batches


@lru_cache(maxsize=2)
def load_scorer(weights: str, config: ScoreConfig) -> Scorer:
    """Once per Python worker."""
    shapes = ScoreShapes(config.users_per_block, config.candidates_per_block)
    return Scorer(shipped_candidates(weights), config.k + config.reserve, shapes)


def _report(night: Night, model: str, shipped: ShippedCandidates) -> StageReport:
    """Counts of the lists just written, by source; collects one row."""
    lists = night.lake.read(RECOMMENDATIONS)
    row = lists.agg(
        F.count("*").alias("lists"),
        F.count_if(F.col("source") == POPULARITY).alias("popularity_lists"),
        F.count_if(F.col("shortfall").isNotNull()).alias("short_lists"),
    ).first()
    counts = row.asDict() if row else {}
    metrics = {
        **{name: float(value) for name, value in counts.items()},
        "eligible_items": shipped.eligible_items,
    }
    return StageReport(counts["lists"], counts["lists"], metrics=metrics, model_digest=model)


def main(argv: list[str] | None = None) -> int:
    """`lime score-candidates`."""
    args = job_parser(STAGE, "Make every user's list of the best K available, unseen items.").parse_args(argv)
    return run_alone(args, STAGE, run)
