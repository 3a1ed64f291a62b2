"""`items`: the catalogue, as validity intervals."""

from schemas.contract import Field, TableContract
from schemas.types import BOOLEAN, RUN_ID, STRING, TIMESTAMP

ITEMS = TableContract(
    name="items",
    grain="one item over one validity interval [valid_from, valid_to)",
    key=("item_id", "valid_from"),
    fields=(
        Field("item_id", STRING, "The platform's id"),
        Field(
            "valid_from", TIMESTAMP, "Start of the interval; an item's first opens at the beginning of time"
        ),
        Field("valid_to", TIMESTAMP, "End of the interval; null while it is open", required=False),
        Field("title", STRING, "For people", required=False),
        Field(
            "features",
            STRING,
            "What the model may read: canonical JSON, keys sorted; lists and strings are "
            "categorical, numbers numeric, a missing value is an absent key",
        ),
        Field(
            "attributes",
            STRING,
            "What rules may read and the model does not: canonical JSON like `features`, '{}' when none",
        ),
        Field("available", BOOLEAN, "May be recommended during the interval"),
        RUN_ID,
    ),
    properties={"delta.enableChangeDataFeed": "true"},
)
