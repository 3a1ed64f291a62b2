"""`users`: everybody who gets a list, as validity intervals."""

from schemas.contract import Field, TableContract
from schemas.types import RUN_ID, STRING, TIMESTAMP, USER_BUCKET

USERS = TableContract(
    name="users",
    grain="one user over one validity interval [valid_from, valid_to)",
    key=("user_id", "valid_from"),
    fields=(
        Field("user_id", STRING, "The platform's id"),
        USER_BUCKET,
        Field(
            "valid_from", TIMESTAMP, "Start of the interval; a user's first opens at the beginning of time"
        ),
        Field("valid_to", TIMESTAMP, "End of the interval; null while it is open", required=False),
        Field("attributes", STRING, "What rules may read: canonical JSON, keys sorted"),
        RUN_ID,
    ),
    partition_by=("user_bucket",),
    properties={"delta.enableChangeDataFeed": "true"},
)
