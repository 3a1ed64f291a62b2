"""`events_quarantine`: every rejected record, verbatim, with its reason."""

from schemas.contract import Field, TableContract
from schemas.types import LONG, RUN_ID, STRING

EVENTS_QUARANTINE = TableContract(
    name="events_quarantine",
    grain="one rejected record of one raw file",
    key=("record_id",),
    fields=(
        Field(
            "record_id", STRING, "Digest of file, line, record and reason: reading a file again adds nothing"
        ),
        Field("reason", STRING, "Which check refused it, e.g. `event_ts: not a timestamp`"),
        Field("record", STRING, "The record as it stood in the source"),
        Field("source_file", STRING, "The raw file it was read from"),
        Field("sequence", LONG, "Its line in that file"),
        RUN_ID,
    ),
)
