"""One session for all Spark tests, and frames made of a base row and what a test changes in it."""

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from pyspark.sql import DataFrame, SparkSession

from benchmarks.short_lived import INTERPRETED
from benchmarks.tiny import write_platform
from jobs.cli import main
from jobs.session import default_conf, session_conf
from schemas.contract import TableContract
from schemas.errors import EXIT_OK

Frame = Callable[..., DataFrame]


@pytest.fixture(scope="session")
def spark() -> Iterator[SparkSession]:
    """`spark-conf/local.conf` on two cores, for a few rows: few partitions, no compiled plans.

    Nights in processes of their own run as users' do, but for those that are soon killed.
    """
    small = {"spark.master": "local[2]", "spark.sql.shuffle.partitions": "2", **INTERPRETED}
    conf = {**session_conf(default_conf()), **small}
    session = SparkSession.builder.appName("lime-tests").config(map=conf).getOrCreate()
    yield session
    session.stop()


@pytest.fixture
def frame(spark: SparkSession) -> Frame:
    """`frame(CONTRACT, base, {...}, {...})`: one row per dict, each the base row with its changes."""

    def make(contract: TableContract, base: Mapping[str, Any], *rows: Mapping[str, Any]) -> DataFrame:
        values = [[{**base, **row}.get(name) for name in contract.columns] for row in rows]
        nullable = [f.name for f in contract.fields]
        schema = contract.struct
        for name in nullable:
            schema[name].nullable = True
        return spark.createDataFrame(values, schema)

    return make


@pytest.fixture(scope="session")
def platform(spark: SparkSession, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The configuration of a tiny platform whose first night (2026-01-06) has been published; tests add later ones."""
    return _with_first_night(tmp_path_factory.mktemp("platform"))


@pytest.fixture(scope="session")
def first_night(spark: SparkSession, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Another one whose first night stays the last: what that night makes elsewhere is compared with it."""
    return _with_first_night(tmp_path_factory.mktemp("first_night"))


def _with_first_night(folder: Path) -> Path:
    config = write_platform(folder)
    assert main(["nightly", "--config", str(config)]) == EXIT_OK
    return config


@pytest.fixture
def root(tmp_path: Path) -> str:
    """A fresh lake's root."""
    return str(tmp_path / "lake")
