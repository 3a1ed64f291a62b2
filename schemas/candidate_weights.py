"""`candidate_weights`: each item's cached half of the score under one model (arXiv 2510.18239)."""

from schemas.contract import Field, TableContract
from schemas.types import FLOAT, FLOATS, RUN_ID, STRING

CANDIDATE_WEIGHTS = TableContract(
    name="candidate_weights",
    grain="one item under one model",
    key=("item_id", "model_digest"),
    fields=(
        Field("item_id", STRING, "Which item"),
        Field("model_digest", STRING, "The package that made them"),
        Field("features", STRING, "The item features they were made from"),
        Field("link_weights", FLOATS, "Attention A over the links, each head sums to 1", shape="[H, L]"),
        Field(
            "g", FLOATS, "Hidden offset G; null where the package keeps one for all items", False, shape="[F]"
        ),
        Field(
            "w",
            FLOATS,
            "Output weights w; null where the package keeps one for all items",
            False,
            shape="[F]",
        ),
        Field("b", FLOAT, "Score offset"),
        Field("numerics_id", STRING, "Torch, device and shapes that made the bits", provenance=True),
        RUN_ID,
    ),
    partition_by=("model_digest",),
    # Few rows change a night: a MERGE marks the old ones and writes the new ones alone.
    properties={"delta.enableDeletionVectors": "true"},
)
