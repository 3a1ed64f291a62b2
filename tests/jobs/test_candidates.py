"""The candidate cache: what is packed, when it is not packed again, and what a worker maps of it."""

import json
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import fields, replace
from datetime import date
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
import torch
from pyspark.sql import SparkSession

import jobs.candidates
from jobs.candidates import (
    ShippedCandidates,
    cache_folders,
    head_of,
    item_names,
    mapped_items,
    packed_folder,
    ship_candidates,
    shipped_candidates,
)
from jobs.config import Config, EventSource, ItemSource, LakeConfig
from jobs.lake import Lake
from jobs.stage import Night
from lime_model.batches import CandidateWeights
from lime_model.candidates import Candidates, candidates_of
from lime_model.config import HEADS, Head
from lime_model.loaded import ModelPackage
from schemas.candidate_weights import CANDIDATE_WEIGHTS
from schemas.errors import EmptyTableError, ModelArtifactError
from tests.conftest import Frame
from tests.lime_model.samples import config, package

# in the order of their UTF-8 bytes, which is not that of UTF-16: the last two
IDS = ["", "a", "b", *(f"item-{n:03d}" for n in range(60)), "ä", "\uffff", "\U0001f600"]


def weights_of(model: ModelPackage, n: int = len(IDS), seed: int = 0) -> CandidateWeights:
    """Numbers of the right shapes; `dot` has w of its own, `mlp` G."""
    g, head = torch.Generator().manual_seed(seed), model.config.head
    own = torch.randn(n, model.config.score_width, generator=g)
    attention = torch.rand(n, model.config.heads, model.config.links, generator=g)
    offsets, outputs = own if head == "mlp" else None, own if head == "dot" else None
    return CandidateWeights(attention, offsets, outputs, torch.randn(n, generator=g))


def rows_of(model: ModelPackage, weights: CandidateWeights, ids: list[str]) -> list[dict[str, Any]]:
    """Rows of `candidate_weights`, last item first."""
    rows = [
        {
            "item_id": item, "link_weights": weights.A[n].flatten().tolist(), "b": float(weights.b[n]),
            "g": None if weights.G is None else weights.G[n].tolist(),
            "w": None if weights.w is None else weights.w[n].tolist(),
        }
        for n, item in enumerate(ids)
    ]  # fmt: skip
    return rows[::-1]


class Table:
    """A lake with `candidate_weights` of one model, and a count of what is done to it."""

    def __init__(self, spark: SparkSession, frame: Frame, root: str, model: ModelPackage) -> None:
        self.lake, self.frame, self.model = Lake(spark, root), frame, model
        self.packs = self.scans = 0
        self.runs = 0

    def night(self) -> Night:
        self.runs += 1
        events = EventSource("csv", "none", {"user_id": "u", "item_id": "i", "event_ts": "t"})
        settings = Config(LakeConfig(self.lake.root), events, ItemSource("csv", "none", {"item_id": "i"}))
        return Night(self.lake, settings, date(2026, 1, 1), f"run{self.runs}")

    def write(self, rows: list[dict[str, Any]], digest: str = "") -> None:
        base = {"model_digest": digest or self.model.digest, "features": "{}", "numerics_id": "n", "run_id": "r"}
        df = self.frame(CANDIDATE_WEIGHTS, base, *rows).repartition(3)
        where = f"model_digest = '{base['model_digest']}'"
        self.lake.overwrite(CANDIDATE_WEIGHTS, df, self.night().stamp("weigh"), where)

    def ship(self) -> ShippedCandidates:
        return ship_candidates(self.night(), self.model)

    def folders(self) -> set[str]:
        return {folder.name for folder in (Path(self.lake.root) / "candidate_cache").iterdir()}


@pytest.fixture
def table(spark: SparkSession, frame: Frame, root: str, monkeypatch: pytest.MonkeyPatch) -> Table:
    made = Table(spark, frame, root, package(config("mlp")))
    pack, scan = jobs.candidates.pack_candidates, jobs.candidates.content_of

    def counted_pack(*args: Any) -> None:
        made.packs += 1
        pack(*args)

    def counted_scan(*args: Any) -> Any:
        made.scans += 1
        return scan(*args)

    monkeypatch.setattr(jobs.candidates, "pack_candidates", counted_pack)
    monkeypatch.setattr(jobs.candidates, "content_of", counted_scan)
    return made


def same(a: Candidates, b: Candidates) -> bool:
    values = [(getattr(a, f.name), getattr(b, f.name)) for f in fields(Candidates)]
    return all(torch.equal(x, y) if isinstance(x, torch.Tensor) else x == y for x, y in values)


@pytest.mark.parametrize("head", HEADS)
def test_a_table_is_packed_into_the_candidates_it_holds(table: Table, head: Head) -> None:
    table.model = package(config(head))
    weights = weights_of(table.model)
    table.write(rows_of(table.model, weights, IDS))
    shipped = table.ship()
    assert shipped.count == len(IDS)
    assert item_names(shipped).to_pylist() == IDS
    assert same(shipped_candidates(shipped), candidates_of(IDS, weights, head_of(table.model)))


def test_a_version_that_was_packed_is_not_read_again(table: Table) -> None:
    table.write(rows_of(table.model, weights_of(table.model), IDS))
    first = table.ship()
    assert table.ship() == first
    assert (table.packs, table.scans) == (1, 1)


def test_a_version_of_the_same_content_is_read_once_and_not_packed(table: Table) -> None:
    rows = rows_of(table.model, weights_of(table.model), IDS)
    table.write(rows)
    first = table.ship()
    table.write(rows[::-1])
    table.write(rows[:1], digest="another")
    assert [table.ship(), table.ship()] == [first, first]
    assert (table.packs, table.scans) == (1, 2)


def test_nights_that_race_pack_the_same_content_into_one_folder(table: Table, monkeypatch: pytest.MonkeyPatch) -> None:
    table.write(rows_of(table.model, weights_of(table.model), IDS))
    pack, both = jobs.candidates.pack_candidates, threading.Barrier(2)

    def together(*args: Any) -> None:
        pack(*args)
        both.wait(60)  # both have packed, neither has published

    monkeypatch.setattr(jobs.candidates, "pack_candidates", together)
    caches, nights = cache_folders(table.lake), [table.night(), table.night()]
    with ThreadPoolExecutor(2) as pool:
        found = list(pool.map(lambda night: packed_folder(night, table.model, caches), nights))
    assert found[0].files == found[1].files
    assert table.folders() == {found[0].name}
    assert table.packs == 2


def test_other_content_and_another_model_are_packed_anew(table: Table) -> None:
    rows = rows_of(table.model, weights_of(table.model), IDS)
    table.write(rows)
    first = table.ship()
    table.write([{**rows[0], "b": 7.0}, *rows[1:]])
    second = table.ship()
    table.model = package(config("mlp"), seed=1)
    table.write(rows)
    third = table.ship()
    assert len({first.digest, second.digest, third.digest}) == table.packs == 3
    assert third.count == len(IDS), "rows of the other model are not in it"
    assert second.items == third.items == first.items, "the same ids are the same file"
    assert second.weights != first.weights


def test_a_table_made_again_under_its_name_is_read_again(table: Table, spark: SparkSession) -> None:
    rows = rows_of(table.model, weights_of(table.model), IDS)
    table.write(rows)
    first = table.ship()
    for file in sorted((Path(table.lake.root) / CANDIDATE_WEIGHTS.name).rglob("*"), reverse=True):
        file.rmdir() if file.is_dir() else file.unlink()
    spark._jvm.org.apache.spark.sql.delta.DeltaLog.clearCache()  # type: ignore[union-attr]
    table.write([{**rows[0], "b": 7.0}, *rows[1:]])
    assert table.ship().digest != first.digest


def test_a_table_that_cannot_be_packed_leaves_nothing_behind(table: Table) -> None:
    rows = rows_of(table.model, weights_of(table.model), IDS)
    table.write([*rows, rows[5]])
    with pytest.raises(ModelArtifactError, match="item 'item-057': expected once .* after 'item-057'"):
        table.ship()
    assert table.folders() == set()
    assert not list((Path(table.lake.root) / "_staging").glob("run*/candidates"))


def test_a_table_without_rows_of_the_model_is_refused(table: Table) -> None:
    table.write(rows_of(table.model, weights_of(table.model), IDS), digest="another")
    with pytest.raises(EmptyTableError, match=f"candidate_weights: expected rows of model {table.model.digest}"):
        table.ship()


def test_tasks_map_the_one_copy_of_the_host_and_read_the_same(table: Table, spark: SparkSession) -> None:
    table.write(rows_of(table.model, weights_of(table.model), IDS))
    shipped = table.ship()

    def look(_: Any) -> Iterator[tuple[str, str]]:
        found = shipped_candidates(shipped)
        maps = {
            line.split()[-1]: line.split()[1]
            for line in Path("/proc/self/maps").read_text().splitlines()
            if "/" in line
        }
        mine = {path: mode for path, mode in maps.items() if Path(path).name in (shipped.weights, shipped.items)}
        yield found.item_id(64), json.dumps(mine)

    seen = spark.sparkContext.parallelize(range(4), 4).mapPartitions(look).collect()
    assert len(set(seen)) == 1
    item, mapped = seen[0][0], json.loads(seen[0][1])
    assert item == "\uffff"
    assert set(mapped.values()) == {"r--s"}
    assert {Path(path).name for path in mapped} == {shipped.weights, shipped.items}
    assert {Path(path).parent.name for path in mapped} == {"candidates"}


def test_a_session_keeps_what_it_shipped_and_the_next_one_keeps_two(table: Table) -> None:
    rows = rows_of(table.model, weights_of(table.model), IDS)
    shipped = []
    for n in range(4):
        table.write([{**rows[0], "b": float(n)}, *rows[1:]])
        shipped.append(table.ship().digest)
    assert table.folders() == set(shipped), "an executor that joins late fetches every file that was added"
    cache_folders(table.lake).remove_older(set())
    assert table.folders() == set(shipped[2:])


def test_a_lake_that_is_not_local_is_packed_here_and_copied_there(
    table: Table, spark: SparkSession, tmp_path: Path
) -> None:
    (tmp_path / "far").mkdir()
    hadoop = spark._jsc.hadoopConfiguration()
    hadoop.set("fs.viewfs.mounttable.lime.link./lake", f"file://{tmp_path}/far")
    table.lake = Lake(spark, "viewfs://lime/lake")
    weights = weights_of(table.model, seed=3)
    table.write(rows_of(table.model, weights, IDS))
    shipped = table.ship()
    assert same(shipped_candidates(shipped), candidates_of(IDS, weights, head_of(table.model)))
    assert table.ship() == shipped
    assert table.packs == 1
    (folder,) = (tmp_path / "far" / "candidate_cache").iterdir()
    assert folder.name == shipped.digest
    assert {file.name for file in folder.iterdir()} > {shipped.weights, shipped.items}


def test_a_catalogues_cache_is_below_its_staging_folder(spark: SparkSession, tmp_path: Path) -> None:
    caches = cache_folders(Lake(spark, "some.schema", str(tmp_path / "staging")))
    with caches.work_folder() as work:
        caches.publish(work, "name", "mark")
    assert (tmp_path / "staging" / "candidate_cache" / "name").is_dir()


def test_a_file_that_is_no_list_of_ids_is_refused(tmp_path: Path) -> None:
    for content in (b"something else", b""):
        (tmp_path / "items").write_bytes(content)
        with pytest.raises(ModelArtifactError, match="items: expected an Arrow file of item ids"):
            mapped_items(tmp_path / "items")
    for column, batches in ((pa.array(["a"]), 1), (pa.array(["a"], pa.large_string()), 2)):
        rows = pa.record_batch([column], ["item_id"])
        with pa.OSFile(str(tmp_path / "items"), "wb") as sink, pa.ipc.new_file(sink, rows.schema) as file:
            for _ in range(batches):
                file.write_batch(rows)
        with pytest.raises(ModelArtifactError, match=f"one batch with large_string item_id, found {batches}"):
            mapped_items(tmp_path / "items")


def test_the_shipped_names_open_a_model_of_no_other_constants(table: Table) -> None:
    head = head_of(table.model)
    other = replace(head, g=head.g + 1)
    assert jobs.candidates.address_of(head, "x") != jobs.candidates.address_of(other, "x")
