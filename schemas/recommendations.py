"""`recommendations`: what a night scored, before its gates."""

from pyspark.sql.types import ArrayType

from schemas.contract import Field, TableContract
from schemas.types import LONG, RANKED_ITEM, RUN_ID, SCORED_ITEM, STRING, USER_BUCKET

MODEL, POPULARITY = "model", "popularity"
"""What a list is made by: the values of `source`, here and in `serving_recommendations`."""

RECOMMENDATIONS = TableContract(
    name="recommendations",
    grain="one user valid on the logical date",
    key=("user_id",),
    fields=(
        Field("user_id", STRING, "Whose list"),
        USER_BUCKET,
        Field("items", ArrayType(RANKED_ITEM), "Best first, rank from 1; ties by item_id", shape="[K]"),
        Field("source", STRING, "`model`, or `popularity` for a user without history"),
        Field("model_digest", STRING, "The package that scored"),
        Field("shortfall", STRING, "Why the list has fewer than K items; null when it has K", required=False),
        Field(
            "reserve",
            ArrayType(SCORED_ITEM),
            "The next best after K, kept for incremental nights",
            required=False,
            provenance=True,
        ),
        Field(
            "floor",
            SCORED_ITEM,
            "Nothing below this (score, item_id) was kept",
            required=False,
            provenance=True,
        ),
        Field(
            "inputs_hash",
            LONG,
            "Over the user's links, attributes and seen items that the list was made from",
            provenance=True,
        ),
        Field("eligibility_digest", STRING, "The filters the list was made under", provenance=True),
        Field("numerics_id", STRING, "The arithmetic that made the scores", provenance=True),
        RUN_ID,
    ),
    partition_by=("user_bucket",),
)
