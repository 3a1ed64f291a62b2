"""`events`: every accepted event, once."""

from schemas.contract import Field, TableContract
from schemas.types import DOUBLE, LONG, RUN_ID, STRING, TIMESTAMP

EVENTS = TableContract(
    name="events",
    grain="one event",
    key=("event_id",),
    fields=(
        Field("event_id", STRING, "The source's id, or a digest of the record's content where it has none"),
        Field("user_id", STRING, "Who acted"),
        Field("item_id", STRING, "On what; need not be in the catalogue"),
        Field("event_type", STRING, "The platform's word for what happened, after the source's mapping"),
        Field("event_ts", TIMESTAMP, "When, UTC"),
        Field(
            "sequence",
            LONG,
            "The source's own order, or the line number in its file: breaks ties of event_ts",
        ),
        Field("value", DOUBLE, "Rating, price, seconds: whatever the source measured", required=False),
        Field("source_updated_at", TIMESTAMP, "When the source last changed the record", required=False),
        Field("source_file", STRING, "The raw file it was read from", provenance=True),
        RUN_ID,
    ),
    # The change feed tells the next night which users were touched, whatever the time of their events.
    properties={"delta.enableChangeDataFeed": "true"},
)
