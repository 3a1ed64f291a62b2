"""Whole nights with the other models of the family: trained, embedded, weighed, scored and served.

Of those whose user is one vector HSTU stands for all: nothing behind the encoder tells them apart.
"""

from pathlib import Path

import pytest
import torch
from pyspark.sql import SparkSession

from benchmarks.tiny import write_platform
from jobs.cli import main
from jobs.config import load_config
from jobs.lake import Lake
from jobs.publish import served_commit
from lime_model.batches import CandidateWeights
from lime_model.features import encode_items
from lime_model.package import load_package
from schemas.candidate_weights import CANDIDATE_WEIGHTS
from schemas.errors import EXIT_OK
from schemas.link_embeddings import LINK_EMBEDDINGS
from schemas.recommendations import RECOMMENDATIONS
from schemas.user_seen import USER_SEEN

MODELS = {
    "lime-mha": (
        'kind = "lime-mha"\nhead = "mlp"\nmlp_width = 8\nlinks = 4\ntask_types = ["liked"]\ntask_weights = [0.5]'
    ),
    "elastic": 'kind = "elastic"\nhead = "linear"\nmemory_slots = 16\nmemory_reads = 4\nlinks = 4',
    "hstu": 'kind = "hstu"\nlinks = 1',
}
NIGHT = "2026-01-06"


@pytest.fixture(scope="module")
def config(spark: SparkSession, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A platform of its own: every model is trained in the place of the one before, whatever that one reached."""
    file = write_platform(tmp_path_factory.mktemp("family"))
    file.write_text(file.read_text().replace("[train]\n", "[train]\nmargin = 0.99\n"))
    return file


@pytest.mark.parametrize("kind", MODELS)
def test_a_night_serves_the_lists_of_the_model(spark: SparkSession, config: Path, kind: str) -> None:
    file = config.with_name(f"{kind}.toml")
    file.write_text(config.read_text().replace("links = 4", MODELS[kind]))
    assert main(["nightly", "--config", str(file), "--date", NIGHT, "--retrain"]) == EXIT_OK
    lake = Lake(spark, load_config(str(file)).lake.root)
    commit = served_commit(lake)
    assert commit is not None
    package = load_package(Path(lake.root, "models", str(commit.inputs["model_digest"])))
    assert package.config.kind == kind
    digest = package.digest
    weighed = lake.read(CANDIDATE_WEIGHTS).where(f"model_digest = '{digest}'").orderBy("item_id").collect()
    embedded = lake.read(LINK_EMBEDDINGS).where(f"model_digest = '{digest}'").collect()
    links = {row["user_id"]: torch.tensor(row["links"]) for row in embedded}
    seen = {row["user_id"]: {s["item_id"] for s in row["seen"]} for row in lake.read(USER_SEEN).collect()}
    model, ids = package.model, [row["item_id"] for row in weighed]
    items = encode_items(package.vocabulary, package.spec, ids, [row["features"] for row in weighed])
    with torch.inference_mode():
        weights: CandidateWeights = model.candidate_weights(items)
        lists = lake.read(RECOMMENDATIONS).where("source = 'model'").collect()
        assert lists
        for row in lists:
            P = links[row["user_id"]].view(1, package.config.links, package.config.width)  # noqa: N806
            scores = dict(zip(ids, model.score_all(P, weights)[0].tolist(), strict=True))
            best = sorted((scores[i] for i in ids if i not in seen[row["user_id"]]), reverse=True)[:5]
            found = [item["score"] for item in row["items"]]
            assert found == pytest.approx(best, rel=1e-4, abs=1e-4)
            assert found == pytest.approx([scores[item["item_id"]] for item in row["items"]], rel=1e-4, abs=1e-4)
