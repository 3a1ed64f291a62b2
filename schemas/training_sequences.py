"""`training_sequences`: each user's whole history up to the cut-off, in overlapping windows."""

from pyspark.sql.types import ArrayType

from schemas.contract import Field, TableContract
from schemas.types import BOOLEAN, INT, LONG, RUN_ID, STRING, STRINGS, USER_BUCKET

TRAINING_SEQUENCES = TableContract(
    name="training_sequences",
    grain="one window of one user's history",
    key=("user_id", "window"),
    fields=(
        Field("user_id", STRING, "Whose history"),
        USER_BUCKET,
        Field("window", INT, "0 is the oldest"),
        Field("item_ids", STRINGS, "The items, oldest to newest", shape="[T]"),
        Field("features", STRINGS, "Each item's features as of its event's time", shape="[T]"),
        Field("event_types", STRINGS, "What happened", shape="[T]"),
        # Epoch microseconds: the reader that feeds torch has no list of timestamps.
        Field("event_ts", ArrayType(LONG), "When, microseconds since 1970-01-01 UTC", shape="[T]"),
        Field(
            "targets_from",
            INT,
            "Positions before it are context of this window and targets of the one before",
        ),
        Field("is_last", BOOLEAN, "The user's newest window: its last event is the validation event"),
        RUN_ID,
    ),
)
