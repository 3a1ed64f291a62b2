"""Keyed rewrites of user tables: whole buckets, with the touched users' rows replaced; or a MERGE of those rows.

On Delta without deletion vectors a MERGE rewrites the same files and joins as well, so the tables of links and of
candidate weights, whose rows are large, have them.
"""

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from schemas.types import user_bucket

MOST_MERGED, LEAST_KEPT = 0.25, 50_000
"""At most this share of a table's rows is merged, and not into a smaller table.

120,000 links of 4 KB on two cores: whole buckets take 6.4 s whatever is touched, a MERGE 2.8 s for 1 % of the rows,
4.1 s for 20 %, 7.4 s for 50 %. Below 50,000 rows whole buckets cost no more than planning a MERGE.
"""


def is_merged(touched: int, rows: int) -> bool:
    """Whether so many of a table's rows are merged into it."""
    return touched <= MOST_MERGED * rows and rows >= LEAST_KEPT


def in_buckets(users: DataFrame) -> str:
    """The predicate of the buckets that hold these users. Collects at most one row a bucket."""
    rows = users.select(user_bucket(F.col("user_id")).alias("bucket")).distinct().collect()
    return f"user_bucket IN ({', '.join(str(bucket) for bucket in sorted(row['bucket'] for row in rows))})"


def replace_users(current: DataFrame, touched: DataFrame, fresh: DataFrame) -> DataFrame:
    """`current` without the touched users, and their fresh rows. `touched` is unique by user_id."""
    kept = current.join(touched.select("user_id"), on=["user_id"], how="left_anti")
    return kept.unionByName(fresh)
