"""Digests of rows and tables: one canonical form that every digest and every comparison uses."""

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from schemas.contract import TableContract

# Spark's default drops microseconds and null fields, and with them differences.
_JSON = {"ignoreNullFields": "false", "timestampFormat": "yyyy-MM-dd'T'HH:mm:ss.SSSSSSXXX"}


def canonical_json(*columns: str | Column) -> Column:
    """The columns as one JSON object: what digests are computed over."""
    return F.to_json(F.struct(*columns), _JSON)


def row_digest(*columns: str | Column) -> Column:
    """sha256 over the columns' canonical form, in hexadecimal."""
    return F.sha2(canonical_json(*columns), 256)


def table_digest(df: DataFrame, contract: TableContract) -> str:
    """`<rows>:<sum of row hashes>` over content columns: free of order, files and provenance.

    The sum is decimal because a sum of 64-bit hashes overflows under ANSI mode.
    """
    hashed = df.select(F.xxhash64(canonical_json(*contract.content)).cast("decimal(38,0)").alias("hash"))
    row = hashed.agg(F.count("*").alias("rows"), F.sum("hash").alias("total")).first()
    if row is None:  # an aggregate without groups has one row
        raise RuntimeError("an aggregate returned no row")
    return f"{row['rows']}:{row['total'] or 0}"
