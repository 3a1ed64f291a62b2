"""`runs`: one row per stage of one run: what it would read, what it read, what it wrote."""

from pyspark.sql.types import ArrayType, MapType, StructField, StructType

from schemas.contract import Field, TableContract
from schemas.types import DATE, DOUBLE, LONG, STRING, TIMESTAMP

INPUT = StructType(
    [
        StructField("source", STRING),  # events, items or users for a raw file; null for a table
        StructField("name", STRING),  # a table's name or a raw file
        StructField("version", LONG),  # a Delta version; null for a raw file
        StructField("digest", STRING),  # a raw file's sha256; null for a table
        StructField("bytes", LONG),  # a raw file's size; null for a table
        StructField("modified_at", TIMESTAMP),  # when a raw file last changed; null for a table
    ]
)
OUTPUT = StructType([StructField("name", STRING), StructField("version", LONG)])

RUNS = TableContract(
    name="runs",
    grain="one stage of one run",
    key=("run_id", "stage"),
    fields=(
        Field("run_id", STRING, "One per submit"),
        Field("stage", STRING, "`plan` before the first stage; then the job's name"),
        Field("logical_date", DATE, "The night: events before the next day, 00:00 UTC"),
        Field("inputs", ArrayType(INPUT), "What the stage read"),
        Field(
            "outputs",
            ArrayType(OUTPUT),
            "Table versions after the stage; the same version as before: no change",
        ),
        Field("rows_in", LONG, "Rows considered"),
        Field("rows_out", LONG, "Rows written"),
        Field("dropped", MapType(STRING, LONG), "Rows not written, by reason"),
        Field("metrics", MapType(STRING, DOUBLE), "Figures of the stage: gates, accuracy, coverage"),
        Field("seconds", DOUBLE, "Wall time", provenance=True),
        Field("started_at", TIMESTAMP, "UTC", provenance=True),
        Field("config_hash", STRING, "Over the whole configuration but the lake's place"),
        Field("model_digest", STRING, "The package used; null before one exists", required=False),
    ),
)
