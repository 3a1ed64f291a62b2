"""Keyed rewrites of user tables: whole buckets, with the touched users' rows replaced.

On Delta without deletion vectors a MERGE rewrites the same files and joins as well; replacing buckets takes
its transaction id and metadata as options of the write, not through session settings.
"""

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from schemas.types import user_bucket


def in_buckets(users: DataFrame) -> str:
    """The predicate of the buckets that hold these users. Collects at most one row a bucket."""
    rows = users.select(user_bucket(F.col("user_id")).alias("bucket")).distinct().collect()
    return f"user_bucket IN ({', '.join(str(bucket) for bucket in sorted(row['bucket'] for row in rows))})"


def replace_users(current: DataFrame, touched: DataFrame, fresh: DataFrame) -> DataFrame:
    """`current` without the touched users, and their fresh rows. `touched` is unique by user_id."""
    kept = current.join(touched.select("user_id"), on=["user_id"], how="left_anti")
    return kept.unionByName(fresh)
