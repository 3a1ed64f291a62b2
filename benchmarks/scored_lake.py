"""A lake that is ready for its score stage, of any size and either head, untrained: random links and weights.

The tables are written through the product's own contracts, and the score job runs on them as it does in a night.
"""

from collections.abc import Callable, Iterable, Iterator
from datetime import UTC, date, datetime
from pathlib import Path

import numpy as np
import pyarrow as pa
import torch
from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from jobs.config import Config, EmbedConfig, EventSource, ItemSource, LakeConfig, ScoreConfig
from jobs.lake import Lake
from jobs.packages import require_package
from jobs.session import spark_session
from jobs.stage import Night, new_run_id
from lime_model.config import Head, ModelConfig
from lime_model.features import FeatureSpec
from lime_model.model import Lime
from lime_model.package import load_package, save_package
from lime_model.vocabulary import Vocabulary
from schemas.candidate_weights import CANDIDATE_WEIGHTS
from schemas.contract import TableContract
from schemas.events import EVENTS
from schemas.items import ITEMS
from schemas.link_embeddings import LINK_EMBEDDINGS
from schemas.types import user_bucket
from schemas.user_history import USER_HISTORY
from schemas.user_seen import USER_SEEN
from schemas.users import USERS

DAY = date(2026, 11, 1)
SEEN = 20  # items that each user has seen


def model_config(head: Head) -> ModelConfig:
    """Rank H * L = 32 for either head; the linear one has links of width 1, so that P is the user factor itself."""
    if head == "linear":
        return ModelConfig(head="linear", width=1, links=32, heads=1, layers=1, ffn_width=1)
    return ModelConfig(head="mlp", width=64, links=16, heads=2, mlp_width=64)


def night_of(root: str, head: Head, k: int) -> Night:
    """The night of DAY on such a lake, in this process's session; lists of K without a reserve."""
    events = EventSource("csv", "none", {"user_id": "u", "item_id": "i", "event_ts": "t"})
    items = ItemSource("csv", "none", {"item_id": "i"})
    model, score = model_config(head), ScoreConfig(k=k, reserve=0)
    config = Config(LakeConfig(root), events, items, model=model, embed=EmbedConfig(), score=score)
    return Night(Lake(spark_session("benchmark"), root), config, DAY, new_run_id(DAY))


def make_lake(root: str, head: Head, users: int, items: int) -> None:
    """Write every table that the score stage reads."""
    night, config = night_of(root, head, 1), model_config(head)
    package = _package(Path(night.packages), config)
    spark, none = night.lake.spark, F.lit(None)
    people = spark.range(users).select(F.format_string("u%08d", "id").alias("user_id"), F.lit("run").alias("run_id"))
    people = people.withColumn("user_bucket", user_bucket(F.col("user_id")))
    things = spark.range(items).select(F.format_string("i%08d", "id").alias("item_id"), F.lit("run").alias("run_id"))
    known = {"valid_from": _long_ago(), "valid_to": none.cast("timestamp"), "attributes": F.lit("{}")}
    _write(night, USERS, people.withColumns(known))
    facts = {"title": none.cast("string"), "features": F.lit("{}"), "available": F.lit(True)}
    _write(night, ITEMS, things.withColumns({**known, **facts}))
    _write(night, EVENTS, spark.createDataFrame([], EVENTS.struct))
    history = {name: F.array().cast(USER_HISTORY.struct[name].dataType) for name in _ARRAYS}
    _write(night, USER_HISTORY, people.withColumns({**history, "history_digest": F.lit("h")}))
    _write(night, USER_SEEN, people.withColumn("seen", _seen(items)))
    made = {"model_digest": F.lit(package), "numerics_id": F.lit("random")}
    links = _with_floats(people, "user_id", {"links": config.links * config.width})
    links = people.join(links, on=["user_id"], how="inner")  # unique on both sides
    _write(night, LINK_EMBEDDINGS, links.withColumns({**made, "history_digest": F.lit("h")}))
    widths = {"link_weights": config.heads * config.links, "b": 1, **({"g": 64} if head == "mlp" else {})}
    weights = _with_floats(things, "item_id", widths).withColumns({**made, "features": F.lit("{}")})
    empty = {name: none.cast("array<float>") for name in ("g", "w") if name not in widths}
    weights = weights.withColumns({**empty, "b": F.col("b")[0], "run_id": F.lit("run")})
    _write(night, CANDIDATE_WEIGHTS, weights)


_ARRAYS = ("item_ids", "features", "event_types", "event_ts")


def factors(night: Night) -> tuple[DataFrame, DataFrame]:
    """The linear head's users and items as ALS holds them: (id int, features array<float>), the same products."""
    fold = float(load_package(require_package(night)).model.fold().detach().flatten()[0])
    number = F.substring("user_id", 2, 8).cast("int").alias("id")
    scaled = F.transform("links", lambda x: (x * fold).cast("float")).alias("features")
    users = night.lake.read(LINK_EMBEDDINGS).select(number, scaled)
    number = F.substring("item_id", 2, 8).cast("int").alias("id")
    return users, night.lake.read(CANDIDATE_WEIGHTS).select(number, F.col("link_weights").alias("features"))


def _package(root: Path, config: ModelConfig) -> str:
    """A model as it is before training; returns its digest."""
    torch.manual_seed(0)
    vocabulary, spec = Vocabulary(("i",), config.buckets), FeatureSpec((), (), ("event",))
    trained_until = datetime(2026, 10, 1, tzinfo=UTC).isoformat()
    manifest = {"trained_until": trained_until, "created_at": trained_until}
    return save_package(root, Lime(config, vocabulary, spec), vocabulary, spec, manifest).name


def _write(night: Night, contract: TableContract, rows: DataFrame) -> None:
    night.lake.append(contract, rows.select(contract.columns), night.stamp("benchmark"))


def _long_ago() -> Column:
    return F.lit("1970-01-01T00:00:00Z").cast("timestamp")


def _seen(items: int) -> Column:
    """SEEN items of each user, sorted."""
    each = F.transform(
        F.sequence(F.lit(0), F.lit(SEEN - 1)),
        lambda n: F.format_string("i%08d", F.pmod(F.xxhash64("user_id", n), F.lit(items))),
    )
    return F.transform(
        F.array_sort(F.array_distinct(each)),
        lambda item: F.struct(item.alias("item_id"), F.lit("event").alias("event_type"), _long_ago().alias("last_ts")),
    )


def _with_floats(rows: DataFrame, key: str, widths: dict[str, int]) -> DataFrame:
    """(key, one list of random floats a name), the same for a key whatever the partitions."""
    schema = ", ".join([f"{key} string", *(f"{name} array<float>" for name in widths)])
    return rows.select(key).mapInArrow(_random_floats(key, widths), schema)


def _random_floats(key: str, widths: dict[str, int]) -> Callable[[Iterable[pa.RecordBatch]], Iterator[pa.RecordBatch]]:
    def fill(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        for batch in batches:
            first = int(batch.column(key)[0].as_py()[1:]) if len(batch) else 0
            generator = np.random.default_rng(first)
            columns = [batch.column(key)]
            for width in widths.values():
                values = generator.standard_normal(len(batch) * width, np.float32) / np.sqrt(np.float32(width))
                offsets = np.arange(0, (len(batch) + 1) * width, width, dtype=np.int32)
                columns.append(pa.ListArray.from_arrays(pa.array(offsets), pa.array(values)))
            yield pa.RecordBatch.from_arrays(columns, [key, *widths])

    return fill
