"""Whole nights on a tiny platform: what is served, served again, corrected, interrupted, refused."""

from collections.abc import Callable
from datetime import date
from pathlib import Path

import polars
import pytest
from deltalake import DeltaTable as OtherEngine
from pyspark.sql import SparkSession
from pyspark.sql import functions as F

from benchmarks.tiny import USERS, write_day, write_items
from jobs.cli import main
from jobs.config import load_config
from jobs.lake import Lake
from jobs.publish import served_commit, served_date
from schemas.candidate_weights import CANDIDATE_WEIGHTS
from schemas.digest import table_digest
from schemas.errors import EXIT_GATE, EXIT_INPUT, EXIT_OK
from schemas.events import EVENTS
from schemas.events_quarantine import EVENTS_QUARANTINE
from schemas.link_embeddings import LINK_EMBEDDINGS
from schemas.recommendations import RECOMMENDATIONS
from schemas.serving_recommendations import SERVING_RECOMMENDATIONS
from schemas.user_history import USER_HISTORY
from schemas.user_seen import USER_SEEN

DERIVED = (USER_HISTORY, USER_SEEN, LINK_EMBEDDINGS, CANDIDATE_WEIGHTS, SERVING_RECOMMENDATIONS)


def lake_of(spark: SparkSession, config: Path, root: str = "") -> Lake:
    return Lake(spark, root or load_config(str(config)).lake.root)


def digests(lake: Lake) -> dict[str, str]:
    return {table.name: table_digest(lake.read(table), table) for table in DERIVED}


def test_every_user_is_served_and_those_without_events_get_the_popularity_list(
    spark: SparkSession, platform: Path
) -> None:
    served = lake_of(spark, platform).read(SERVING_RECOMMENDATIONS)
    by_source = {row["source"]: row["count"] for row in served.groupBy("source").count().collect()}
    assert by_source == {"model": USERS, "popularity": 3}
    assert served.where(F.size("items") != 5).count() == 0
    ranks = served.select(F.col("items.rank").alias("ranks")).distinct().collect()
    assert [row["ranks"] for row in ranks] == [[1, 2, 3, 4, 5]]


def test_no_list_holds_an_item_its_user_has_seen(spark: SparkSession, platform: Path) -> None:
    lake = lake_of(spark, platform)
    listed = lake.read(SERVING_RECOMMENDATIONS).select("user_id", F.explode("items.item_id").alias("item_id"))
    seen = lake.read(EVENTS).where("event_ts < '2026-01-07'").select("user_id", "item_id").distinct()
    assert seen.count() > 0
    assert listed.join(seen, on=["user_id", "item_id"], how="inner").count() == 0


def test_lists_equal_brute_force_in_float64(spark: SparkSession, platform: Path) -> None:
    lake = lake_of(spark, platform)
    package = _package(platform)
    fold = package.model.fold().detach().double()
    items = lake.read(CANDIDATE_WEIGHTS).orderBy("item_id").collect()
    links = {row["user_id"]: row["links"] for row in lake.read(LINK_EMBEDDINGS).collect()}
    seen = {row["user_id"]: {s["item_id"] for s in row["seen"]} for row in lake.read(USER_SEEN).collect()}
    import torch

    config = package.config
    weights = torch.tensor([row["link_weights"] for row in items]).double()
    A = weights.reshape(len(items), config.heads, config.links)  # noqa: N806
    w, b = torch.tensor([row["w"] for row in items]).double(), torch.tensor([row["b"] for row in items]).double()
    for row in lake.read(RECOMMENDATIONS).where("source = 'model'").collect():
        P = torch.tensor(links[row["user_id"]]).double().reshape(config.links, config.width)  # noqa: N806
        hidden = torch.einsum("chl,ld,hdf->cf", A, P, fold)
        scores = (hidden * w).sum(1) + b
        ranked = sorted(range(len(items)), key=lambda c: (-float(scores[c]), items[c]["item_id"]))
        best = [items[c]["item_id"] for c in ranked if items[c]["item_id"] not in seen[row["user_id"]]][:5]
        found = {item["item_id"]: item["score"] for item in row["items"]}
        position = {item["item_id"]: c for c, item in enumerate(items)}
        for item, score in found.items():
            assert score == pytest.approx(float(scores[position[item]]), rel=1e-4, abs=1e-5)
        # float32 may swap neighbours that float64 tells apart by less than the tolerance
        assert sorted(found) == sorted(best) or max(
            abs(float(scores[position[a]]) - float(scores[position[b]])) for a, b in zip(found, best, strict=True)
        ) < 1e-4


def test_another_engine_reads_the_same_lists(spark: SparkSession, platform: Path) -> None:
    lake = lake_of(spark, platform)
    path = f"{lake.root}/serving_recommendations"
    protocol = OtherEngine(path).protocol()
    assert (protocol.min_reader_version, protocol.min_writer_version) == (1, 2)
    theirs = polars.read_delta(path).select("user_id", "items").to_dicts()
    ours = lake.read(SERVING_RECOMMENDATIONS).select("user_id", "items").collect()
    assert {row["user_id"]: row["items"] for row in theirs} == {
        row["user_id"]: [item.asDict() for item in row["items"]] for row in ours
    }


def test_the_same_night_again_has_nothing_to_do(
    spark: SparkSession, platform: Path, caplog: pytest.LogCaptureFixture
) -> None:
    before = lake_of(spark, platform).last_commit(SERVING_RECOMMENDATIONS)
    day = ["--date", "2026-01-06"]
    assert main(["nightly", "--config", str(platform), *day]) == EXIT_OK
    assert main(["nightly", "--config", str(platform), *day, "--nothing-to-do-code", "7"]) == 7
    assert lake_of(spark, platform).last_commit(SERVING_RECOMMENDATIONS) == before


def test_a_stage_run_again_changes_no_content(spark: SparkSession, platform: Path) -> None:
    before = digests(lake_of(spark, platform))
    for job in ("ingest-events", "build-histories", "embed-users", "weigh-candidates", "score-candidates"):
        assert main([job, "--config", str(platform), "--date", "2026-01-06"]) == EXIT_OK
    assert digests(lake_of(spark, platform)) == before


def test_nights_with_late_and_broken_events_and_a_changed_catalogue(spark: SparkSession, platform: Path) -> None:
    """Two more nights; that such nights equal a rebuild is shown by tests/benchmarks/test_random_nights.py."""
    folder = platform.parent
    assert main(["nightly", "--config", str(platform)]) == EXIT_OK
    late = "u1\tc0i7\tlike\t1767400000\t777777"  # 2026-01-03, arriving on the 7th's successor
    broken = "u1\t\tlike\t1767400000\t777778"
    write_day(folder, 7, (late, broken))
    write_items(folder, gone="c1i1", renamed="c2i2")
    assert main(["nightly", "--config", str(platform)]) == EXIT_OK
    lake = lake_of(spark, platform)
    commit = served_commit(lake)
    assert commit is not None
    assert served_date(commit) == date(2026, 1, 8)
    quarantined = lake.read(EVENTS_QUARANTINE).select("reason", "record").collect()
    assert [tuple(row) for row in quarantined] == [("item_id: missing", broken)]
    shown = lake.read(SERVING_RECOMMENDATIONS).select(F.explode("items.item_id").alias("item_id"))
    assert shown.where("item_id = 'c1i1'").count() == 0, "an item that left the catalogue is still served"


def test_maintenance_makes_no_night_over_again(spark: SparkSession, platform: Path) -> None:
    """What follows, a rollback and its night among it, runs on the tables as they lie then."""
    lake = lake_of(spark, platform)
    before = digests(lake)
    assert main(["maintain", "--config", str(platform)]) == EXIT_OK
    night = ["nightly", "--config", str(platform), "--date", "2026-01-08"]
    assert main([*night, "--nothing-to-do-code", "7"]) == 7
    assert digests(lake) == before


def test_a_night_that_was_rolled_back_is_published_again(spark: SparkSession, platform: Path) -> None:
    lake = lake_of(spark, platform)
    before = digests(lake)
    assert main(["rollback", "--config", str(platform)]) == EXIT_OK
    commit = served_commit(lake)
    assert commit is not None
    assert served_date(commit) == date(2026, 1, 7)
    assert digests(lake)["serving_recommendations"] != before["serving_recommendations"]
    assert main(["nightly", "--config", str(platform)]) == EXIT_OK
    assert digests(lake) == before


def test_an_older_night_than_the_served_one_is_refused(
    platform: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["nightly", "--config", str(platform), "--date", "2026-01-02"]) == EXIT_INPUT
    assert "expected 2026-01-08 (served) or later" in capsys.readouterr().err


def test_a_refused_gate_leaves_what_is_served_and_exits_3(
    spark: SparkSession, platform: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    lake = lake_of(spark, platform)
    before = lake.last_commit(SERVING_RECOMMENDATIONS)
    strict = tmp_path / "strict.toml"
    strict.write_text(platform.read_text().replace("min_overlap = 0.0", "min_overlap = 0.0\nmax_abs_score = 1e-9"))
    assert main(["nightly", "--config", str(strict), "--date", "2026-01-09"]) == EXIT_GATE
    assert "absolute score of the model: expected at most 1e-09" in capsys.readouterr().err
    assert lake.last_commit(SERVING_RECOMMENDATIONS) == before


Broken = Callable[[str], str]


@pytest.mark.parametrize(
    ("spoil", "expected"),
    [
        pytest.param(lambda text: text.replace("[score]", "[score]\nkk = 3"), "unknown keys ['kk']", id="unknown"),
        pytest.param(lambda text: text.replace("k = 5", 'k = "5"'), "score.k: expected int, found '5'", id="type"),
        pytest.param(lambda text: text.replace('format = "tsv"', 'format = "xml"'), "expected one of csv", id="format"),
        pytest.param(lambda text: text.replace('user_id = "user"\n', ""), "missing ['user_id']", id="column"),
        pytest.param(lambda text: text + "[[", "not TOML", id="toml"),
    ],
)
def test_a_wrong_configuration_is_named_and_exits_5(
    spoil: Broken, expected: str, platform: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    wrong = tmp_path / "wrong.toml"
    wrong.write_text(spoil(platform.read_text()))
    assert main(["nightly", "--config", str(wrong)]) == EXIT_INPUT
    error = capsys.readouterr().err
    assert expected in error
    assert str(wrong) in error


def _package(config: Path):  # type: ignore[no-untyped-def]  # noqa: ANN202 - torch stays out of collection
    from jobs.packages import package_folders
    from lime_model.package import load_package

    return load_package(package_folders(config.parent / "lake" / "models")[0])
