"""`user_history`: each user's last N events, oldest to newest."""

from schemas.contract import Field, TableContract
from schemas.types import RUN_ID, STRING, STRINGS, TIMESTAMPS, USER_BUCKET

USER_HISTORY = TableContract(
    name="user_history",
    grain="one user with at least one event before the cut-off",
    key=("user_id",),
    fields=(
        Field("user_id", STRING, "Whose history"),
        USER_BUCKET,
        Field("item_ids", STRINGS, "The items, in the order (event_ts, sequence, event_id)", shape="[N]"),
        Field("features", STRINGS, "Each item's features as of its event's time", shape="[N]"),
        Field("event_types", STRINGS, "What happened", shape="[N]"),
        Field("event_ts", TIMESTAMPS, "When, UTC", shape="[N]"),
        Field("history_digest", STRING, "Over exactly the four arrays above: what the model reads"),
        RUN_ID,
    ),
    partition_by=("user_bucket",),
)
