"""`link_embeddings`: each user's personalised links under one model (arXiv 2510.18239)."""

from schemas.contract import Field, TableContract
from schemas.types import FLOATS, RUN_ID, STRING, USER_BUCKET

LINK_EMBEDDINGS = TableContract(
    name="link_embeddings",
    grain="one user under one model",
    key=("user_id", "model_digest"),
    fields=(
        Field("user_id", STRING, "Whose links"),
        USER_BUCKET,
        Field("model_digest", STRING, "The package that made them"),
        Field("history_digest", STRING, "The history they were made from"),
        Field("links", FLOATS, "Personalised links P, row-major", shape="[L, d]"),
        Field("numerics_id", STRING, "Torch, device and shapes that made the bits", provenance=True),
        RUN_ID,
    ),
    partition_by=("model_digest", "user_bucket"),
    # Rows are large and few of them change a night: a MERGE marks the old ones and writes the new ones alone.
    properties={"delta.enableDeletionVectors": "true"},
)
