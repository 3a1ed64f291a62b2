"""Groups of buckets: each row in one group, and a stage that was interrupted computes only what is missing."""

import shutil
from dataclasses import replace
from pathlib import Path

import pytest
from pyspark.sql import DataFrame, SparkSession

from benchmarks.scored_lake import make_lake, night_of
from jobs import embed_users, score_candidates
from jobs.bucket_groups import group_count
from jobs.lake import Lake
from jobs.stage import Job, Night
from schemas.contract import TableContract
from schemas.digest import table_digest
from schemas.link_embeddings import LINK_EMBEDDINGS
from schemas.recommendations import RECOMMENDATIONS

USERS, ITEMS = 60, 100


@pytest.mark.parametrize(("work", "groups"), [(0, 1), (10, 1), (11, 2), (35, 4), (1e9, 8)])
def test_work_is_cut_into_at_most_a_group_a_bucket(work: float, groups: int) -> None:
    assert group_count(work, 10) == groups


@pytest.fixture(scope="module")
def lake(spark: SparkSession, tmp_path_factory: pytest.TempPathFactory) -> str:
    """Ready for its score stage; histories without events, so that links can be made of them too."""
    root = str(tmp_path_factory.mktemp("groups") / "lake")
    make_lake(root, "mlp", USERS, ITEMS)
    return root


class KilledError(Exception):
    """Stands for a kill."""


@pytest.fixture
def staged(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Names under which something was computed and staged; the third group of a stage dies at its first attempt."""
    plain, names = Lake.stage, list[str]()

    def stage(self: Lake, df: DataFrame, name: str) -> DataFrame:
        names.append(name.rpartition("/")[2])
        if names.count("2-of-4") == 1 and names[-1] == "2-of-4":
            raise KilledError
        return plain(self, df, name)

    monkeypatch.setattr(Lake, "stage", stage)
    return names


def in_four_groups(root: str) -> Night:
    """A run of its own whose stages work in four groups."""
    night = night_of(root, "mlp", 5)
    score = replace(night.config.score, pairs_per_group=USERS * ITEMS / 4)
    embed = replace(night.config.embed, users_per_group=USERS // 4)
    return replace(night, config=replace(night.config, score=score, embed=embed))


STAGES = [(score_candidates.run, RECOMMENDATIONS), (embed_users.run, LINK_EMBEDDINGS)]


def lake_for(table: TableContract, lake: str, copy: Path) -> str:
    """A copy without the table that the stage makes."""
    shutil.copytree(lake, copy)
    shutil.rmtree(copy / table.name, ignore_errors=True)
    return str(copy)


@pytest.mark.parametrize(("job", "table"), STAGES)
def test_finished_groups_of_an_interrupted_stage_are_not_computed_again(
    lake: str, job: Job, table: TableContract, tmp_path: Path, staged: list[str]
) -> None:
    root = lake_for(table, lake, tmp_path / "lake")
    with pytest.raises(KilledError):
        job(in_four_groups(root))
    assert job(in_four_groups(root)).rows_out == USERS
    assert [name for name in staged if "-of-" in name] == ["0-of-4", "1-of-4", "2-of-4", "2-of-4", "3-of-4"]
    assert list(Path(root, "_staging", "groups").iterdir()) == [], "what was staged goes once it is committed"
    plain = night_of(lake_for(table, lake, tmp_path / "plain"), "mlp", 5)
    job(plain)
    found = Lake(plain.lake.spark, root).read(table)
    assert table_digest(found, table) == table_digest(plain.lake.read(table), table)
