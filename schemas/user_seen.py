"""`user_seen`: each user's distinct items, longer than any history, for the seen-items filter."""

from pyspark.sql.types import ArrayType, StructField, StructType

from schemas.contract import Field, TableContract
from schemas.types import RUN_ID, STRING, TIMESTAMP, USER_BUCKET

SEEN_ITEM = StructType(
    [StructField("item_id", STRING), StructField("event_type", STRING), StructField("last_ts", TIMESTAMP)]
)

USER_SEEN = TableContract(
    name="user_seen",
    grain="one user with at least one event before the cut-off",
    key=("user_id",),
    fields=(
        Field("user_id", STRING, "Who has seen"),
        USER_BUCKET,
        Field("seen", ArrayType(SEEN_ITEM), "Distinct (item, event type) with its last time, sorted by both"),
        RUN_ID,
    ),
    partition_by=("user_bucket",),
)
