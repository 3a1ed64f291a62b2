from pathlib import Path

import pytest
import torch
from pyspark.sql import SparkSession

from benchmarks.score_stage import _figures, kernel
from benchmarks.scored_lake import factors, make_lake, night_of
from schemas.candidate_weights import CANDIDATE_WEIGHTS
from schemas.link_embeddings import LINK_EMBEDDINGS


def calls(*seconds: float) -> list[dict[str, float]]:
    return [{"seconds": value} for value in seconds]


def test_ratios_are_of_pairs_per_second(capsys: pytest.CaptureFixture[str]) -> None:
    results = {
        "stage linear": calls(2.0, 2.0),
        "stage mlp": calls(10.0, 10.0),
        "kernel linear": calls(1.0, 1.0),
        "kernel mlp": calls(8.0, 8.0),
        "write": calls(0.5, 0.7),
        "als": calls(20.0, 40.0),  # of half the users
    }
    found = _figures(results, {"als": calls(50.0)}, 100, 10, (50, 100), target=True)
    values = {figure.claim: (figure.value, figure.target) for figure in found}
    assert values == {
        "linear over als": (30.0, 30.0),
        "mlp over als": (6.0, 2.5),
        "stage over kernel": (0.8, 0.85),
        "linear seconds outside the kernel": (1.0, None),
        "seconds to write ready-made lists": (0.6, None),
    }
    assert "als, 100 users" in capsys.readouterr().out


def test_als_gets_the_products_of_the_linear_head(spark: SparkSession, tmp_path: Path) -> None:
    root = str(tmp_path / "lake")
    make_lake(root, "linear", 4, 6)
    night = night_of(root, "linear", 3)
    users, items = (frame.orderBy("id").toPandas() for frame in factors(night))
    assert users["id"].tolist() == list(range(4)) and items["id"].tolist() == list(range(6))
    lake = night.lake
    links = torch.tensor([row["links"] for row in lake.read(LINK_EMBEDDINGS).orderBy("user_id").collect()])
    weights = torch.tensor([r["link_weights"] for r in lake.read(CANDIDATE_WEIGHTS).orderBy("item_id").collect()])
    ours = links @ weights.T
    theirs = torch.tensor(users["features"].tolist()) @ torch.tensor(items["features"].tolist()).T
    ratio = (theirs / ours).flatten()
    torch.testing.assert_close(ratio, ratio[:1].expand_as(ratio), rtol=1e-3, atol=1e-4)  # one constant: the fold


def test_the_kernel_alone_is_timed() -> None:
    assert kernel("linear", 8, 100, 2)()["seconds"] > 0
