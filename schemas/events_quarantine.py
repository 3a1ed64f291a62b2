"""`events_quarantine`: every rejected record, verbatim, with its reason."""

from schemas.contract import Field, TableContract
from schemas.types import LONG, RUN_ID, STRING, TIMESTAMP

EVENTS_QUARANTINE = TableContract(
    name="events_quarantine",
    grain="one rejected record of one raw file",
    key=("record_id",),
    fields=(
        Field(
            "record_id",
            STRING,
            "Digest of file, line, record and reason (in a Delta source, whose rows have no lasting place, of record "
            "and reason): reading a file again adds nothing",
        ),
        Field("reason", STRING, "Which check refused it, e.g. `event_ts: not a timestamp`"),
        Field("record", STRING, "The record as it stood in the source"),
        Field("source_file", STRING, "The raw file it was read from"),
        Field("sequence", LONG, "Its line in that file"),
        Field(
            "event_id",
            STRING,
            "An event's id: what was refused as a conflict is not accepted when one side is read again",
            required=False,
        ),
        Field("source_updated_at", TIMESTAMP, "An event's; a later version ends the conflict", required=False),
        RUN_ID,
    ),
)
