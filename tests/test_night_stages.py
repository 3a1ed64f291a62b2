"""Single stages on a platform that is served: what they compute, again or for a part of it, and what they refuse.

Nothing here depends on how many nights the platform has had.
"""

import json
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path

import pytest
import torch
from pyspark.sql import Row, SparkSession
from pyspark.sql import functions as F

from jobs.cli import main
from jobs.config import EmbedConfig, load_config
from jobs.embed_sql import register_links
from jobs.lake import Lake
from jobs.packages import package_folders
from jobs.publish import served_commit, served_date
from jobs.stage import Night
from lime_model.batches import Events, HistoryBatch, ItemInputs
from lime_model.features import encode_items
from lime_model.loaded import ModelPackage
from lime_model.package import load_package
from schemas.candidate_weights import CANDIDATE_WEIGHTS
from schemas.digest import table_digest
from schemas.errors import EXIT_GATE, EXIT_INPUT, EXIT_OK
from schemas.events import EVENTS
from schemas.items import ITEMS
from schemas.link_embeddings import LINK_EMBEDDINGS
from schemas.runs import RUNS
from schemas.serving_recommendations import SERVING_RECOMMENDATIONS
from schemas.user_history import USER_HISTORY


@pytest.fixture(scope="module")
def night(spark: SparkSession, platform: Path) -> Night:
    """The night that is served."""
    config = load_config(str(platform))
    lake = Lake(spark, config.lake.root)
    commit = served_commit(lake)
    assert commit is not None
    served = served_date(commit)
    assert served is not None
    return Night(lake, config, served, "test")


def test_the_sql_function_gives_the_bits_of_the_table(night: Night) -> None:
    lake = night.lake
    register_links(night)
    lake.read(USER_HISTORY).createOrReplaceTempView("histories")
    query = "SELECT user_id, personalize_links(item_ids, features, event_types, event_ts) AS links FROM histories"
    ours = {row["user_id"]: row["links"] for row in lake.spark.sql(query).collect()}
    assert ours == {row["user_id"]: row["links"] for row in lake.read(LINK_EMBEDDINGS).collect()}


def test_links_are_the_bits_of_a_direct_forward_over_plain_rows(night: Night) -> None:
    """From `events` and `items` as they lie, a user alone: none of the jobs' frames, Arrow code or predictors."""
    lake, package = night.lake, load_package(package_folders(night.packages)[0])
    built = lake.last_commit(USER_HISTORY)
    assert built is not None
    cutoff = datetime.fromisoformat(str(built.inputs["cutoff"]))
    events = lake.read(EVENTS).where(F.col("event_ts") < F.lit(cutoff))
    rows = events.orderBy("event_ts", "sequence", "event_id").collect()
    intervals = lake.read(ITEMS).collect()
    links = {row["user_id"]: row["links"] for row in lake.read(LINK_EMBEDDINGS).collect()}
    for user in ("u0", "u1", "u2", "u5"):
        history = [row for row in rows if row["user_id"] == user][-package.config.max_history :]
        assert history
        features = [features_of(row["item_id"], row["event_ts"], intervals) for row in history]
        items = encode_items(package.vocabulary, package.spec, [row["item_id"] for row in history], features)
        types = package.spec.encode_event_types([row["event_type"] for row in history])
        times = torch.tensor([round(row["event_ts"].timestamp() * 1e6) for row in history])
        found = alone_in_frozen_shape(package, night.config.embed, items, Events(types, times, torch.tensor(0)))
        assert found == links[user], user


def features_of(item: str, moment: datetime, intervals: Sequence[Row]) -> str:
    """An item's features at a moment; nothing where the catalogue did not hold it."""
    of_item = (row for row in intervals if row["item_id"] == item and row["valid_from"] <= moment)
    return next((row["features"] for row in of_item if row["valid_to"] is None or moment < row["valid_to"]), "{}")


def alone_in_frozen_shape(
    package: ModelPackage, config: EmbedConfig, items: ItemInputs, events: Events
) -> Sequence[float]:
    """One history of n events in the first row of the configured shape; every other row is empty."""
    n, longest = len(events.event_ts), package.config.max_history
    width = next(bucket for bucket in (*config.length_buckets, longest) if n <= bucket)
    size = config.rows_per_call

    def padded(values: torch.Tensor) -> torch.Tensor:
        full = values.new_zeros(size, width, *values.shape[1:])
        full[0, :n] = values
        return full

    lengths = torch.zeros(size, dtype=torch.int64)
    lengths[0] = n
    shaped = ItemInputs(*(padded(values) for values in vars(items).values()))
    batch = HistoryBatch(shaped, Events(padded(events.event_type), padded(events.event_ts), lengths))
    with torch.inference_mode():
        return list(package.model.personalize_links(batch)[0].flatten().tolist())


def test_a_retrained_model_that_is_worse_is_refused_and_nothing_of_it_stays(
    night: Night, platform: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The package that is served said it was perfect, so the new one is worse."""
    lake, served, models = night.lake, night.lake.last_commit(SERVING_RECOMMENDATIONS), tmp_path / "models"
    for package in night.packages.iterdir():
        (models / package.name).mkdir(parents=True)
        manifest = json.loads((package / "manifest.json").read_text())
        manifest["metrics"]["validation_ndcg10"] = 1.0
        (models / package.name / "manifest.json").write_text(json.dumps(manifest))
    config = tmp_path / "retrained.toml"
    config.write_text(platform.read_text().replace("[lake]", f'[lake]\npackages = "{models}"'))
    before = sorted(models.iterdir())
    assert main(["nightly", "--config", str(config), "--date", str(night.logical_date), "--retrain"]) == EXIT_GATE
    assert "new package: expected validation NDCG@10 of at least 1.0000 less 10%" in capsys.readouterr().err
    assert sorted(models.iterdir()) == before, "a checkpoint or a package was left"
    assert lake.last_commit(SERVING_RECOMMENDATIONS) == served


def test_rows_of_another_arithmetic_are_all_computed_again(night: Night, platform: Path) -> None:
    lake = night.lake
    before = table_digest(lake.read(LINK_EMBEDDINGS), LINK_EMBEDDINGS)
    lake.spark.sql(f"UPDATE {lake.name(LINK_EMBEDDINGS)} SET numerics_id = 'torch=other', links = array(0f)")
    lake.spark.sql(f"DELETE FROM {lake.name(LINK_EMBEDDINGS)} WHERE user_id = 'u1'")  # something to compute
    assert main(["embed-users", "--config", str(platform), "--date", str(night.logical_date)]) == EXIT_OK
    after = lake.read(LINK_EMBEDDINGS)
    assert after.where("numerics_id = 'torch=other'").isEmpty()
    assert table_digest(after, LINK_EMBEDDINGS) == before


def test_a_backfill_weighs_the_listed_items_again(night: Night, platform: Path, tmp_path: Path) -> None:
    lake, listed = night.lake, tmp_path / "items.txt"
    listed.write_text("c0i0\nc3i7\n")
    before = lake.read(CANDIDATE_WEIGHTS).select("item_id", "run_id")
    digest = table_digest(lake.read(CANDIDATE_WEIGHTS), CANDIDATE_WEIGHTS)
    command = ["weigh-candidates", "--config", str(platform), "--date", str(night.logical_date), "--items", str(listed)]
    assert main(command) == EXIT_OK
    assert main([*command, "--all"]) == EXIT_OK
    assert main([*command, "--model", "unknown"]) == EXIT_INPUT
    after = lake.read(CANDIDATE_WEIGHTS).select("item_id", "run_id")
    assert sorted(row["item_id"] for row in after.exceptAll(before).collect()) == ["c0i0", "c3i7"]
    assert table_digest(lake.read(CANDIDATE_WEIGHTS), CANDIDATE_WEIGHTS) == digest
    runs = lake.read(RUNS).where("stage = 'weigh_candidates'").orderBy(F.desc("started_at")).limit(2).collect()
    assert [(row["rows_in"], row["rows_out"]) for row in runs] == [(2, 2), (2, 0)]
