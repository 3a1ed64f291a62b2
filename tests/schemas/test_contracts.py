"""Every contract against its reviewed JSON, and what a mismatch says."""

from pathlib import Path

import pytest
from pyspark.sql import SparkSession
from pyspark.sql import functions as F

import schemas
from schemas.all_tables import TABLES
from schemas.contract import TableContract
from schemas.errors import ContractError
from schemas.events import EVENTS
from schemas.lease import LEASE
from tests.golden import assert_golden

GOLDENS = Path(schemas.__file__).parent


@pytest.mark.parametrize("table", [*TABLES.values(), LEASE], ids=lambda table: table.name)
def test_a_schema_change_is_a_reviewed_diff(table: TableContract) -> None:
    assert_golden(GOLDENS / f"{table.name}.json", table.to_json())


@pytest.mark.parametrize("table", TABLES.values(), ids=lambda table: table.name)
def test_keys_and_partitions_are_required_columns(table: TableContract) -> None:
    required = {f.name for f in table.fields if f.required}
    assert set(table.key) | set(table.partition_by) <= required
    assert len(set(table.columns)) == len(table.columns)


def test_all_differences_are_named_at_once(spark: SparkSession) -> None:
    df = spark.createDataFrame([], EVENTS.struct).drop("item_id").withColumn("value", F.lit("x"))
    with pytest.raises(ContractError) as error:
        EVENTS.check(df.withColumn("extra", F.lit(1)))
    assert "column item_id: expected string, found none" in str(error.value)
    assert "column value: expected double, found string" in str(error.value)
    assert "column extra: not in the contract" in str(error.value)


def test_a_checked_frame_comes_in_contract_order(spark: SparkSession) -> None:
    df = spark.createDataFrame([], EVENTS.struct).select(*reversed(EVENTS.columns))
    assert EVENTS.check(df).columns == EVENTS.columns
