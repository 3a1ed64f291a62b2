"""`serving_recommendations`: what serving systems read. One commit is one publication."""

from pyspark.sql.types import ArrayType

from schemas.contract import Field, TableContract
from schemas.types import RANKED_ITEM, RUN_ID, STRING, USER_BUCKET

SERVING_RECOMMENDATIONS = TableContract(
    name="serving_recommendations",
    grain="one user",
    key=("user_id",),
    fields=(
        Field("user_id", STRING, "Whose list"),
        USER_BUCKET,
        Field("items", ArrayType(RANKED_ITEM), "Best first, rank from 1", shape="[K]"),
        Field("source", STRING, "`model`, or `popularity` for a user without history"),
        Field("model_digest", STRING, "The package that scored"),
        RUN_ID,
    ),
    partition_by=("user_bucket",),
    # The lowest protocol Delta has, so that any engine reads it: no deletion vectors, no column mapping.
    properties={"delta.minReaderVersion": "1", "delta.minWriterVersion": "2"},
    log_days=730,  # the log says which night is served, even where there has been none for a year
)
