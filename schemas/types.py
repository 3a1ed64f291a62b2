"""Types that more than one contract uses, and the hash that spreads users over buckets."""

from pyspark.sql import Column
from pyspark.sql import functions as F
from pyspark.sql.types import (
    ArrayType,
    BooleanType,
    DateType,
    DoubleType,
    FloatType,
    IntegerType,
    LongType,
    StringType,
    StructField,
    StructType,
    TimestampType,
)

from schemas.contract import Field

STRING = StringType()
LONG = LongType()
INT = IntegerType()
FLOAT = FloatType()
DOUBLE = DoubleType()
BOOLEAN = BooleanType()
TIMESTAMP = TimestampType()
DATE = DateType()
STRINGS = ArrayType(STRING)
FLOATS = ArrayType(FLOAT)
TIMESTAMPS = ArrayType(TIMESTAMP)

SCORED_ITEM = StructType([StructField("item_id", STRING), StructField("score", FLOAT)])
RANKED_ITEM = StructType(
    [StructField("rank", INT), StructField("item_id", STRING), StructField("score", FLOAT)]
)

USER_BUCKETS = 8
"""Partitions of every user table. Part of the contract: changing it is a rewrite of those tables."""

USER_BUCKET = Field(
    "user_bucket", INT, f"pmod(xxhash64(user_id), {USER_BUCKETS}): pruning and disjoint writers"
)
RUN_ID = Field("run_id", STRING, "The run that wrote the row", provenance=True)


def user_bucket(user_id: Column) -> Column:
    """The fixed hash that every user table is partitioned by."""
    return F.pmod(F.xxhash64(user_id), F.lit(USER_BUCKETS)).cast("int")
