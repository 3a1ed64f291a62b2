"""What a table promises: its columns, grain, key and layout, and the check that both ends go through."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field

from pyspark.sql import DataFrame
from pyspark.sql.types import DataType, StructField, StructType

from schemas.errors import ContractError

LOG_RETENTION = "delta.logRetentionDuration"

# What every table is made with; `lime maintain` gives it to older tables, and beside it
# delta.deletedFileRetentionDuration, which follows from what is declared in [maintain].
PROPERTIES = {
    # Other engines read the tables, and some cannot read these; buckets are rewritten whole, so little is lost.
    # `link_embeddings` and `candidate_weights`, which nobody else has a use for, have them.
    "delta.enableDeletionVectors": "false",
    # A snapshot is one checkpoint and at most so many small files. A night makes one or two commits a table, so a
    # checkpoint, which reads the whole state, is written about once a week.
    "delta.checkpointInterval": "10",
}


@dataclass(frozen=True)
class Field:
    """One column.

    `provenance` columns (run ids, times, variants) stay out of every digest. `required` becomes NOT NULL in
    Delta, so the table itself refuses a null. `shape` names a tensor stored flat, in the model's letters.
    """

    name: str
    type: DataType
    doc: str
    required: bool = True
    provenance: bool = False
    shape: str = ""


@dataclass(frozen=True)
class TableContract:
    """One table: what a row is, what names it, how it is laid out."""

    name: str
    grain: str
    key: tuple[str, ...]
    fields: tuple[Field, ...]
    partition_by: tuple[str, ...] = ()
    properties: Mapping[str, str] = field(default_factory=dict)
    log_days: int = 30  # a commit's stamp is read for so long; past versions end sooner, when VACUUM takes files

    @property
    def struct(self) -> StructType:
        """The Spark schema, with NOT NULL where a field is required."""
        return StructType([StructField(f.name, f.type, not f.required) for f in self.fields])

    @property
    def table_properties(self) -> dict[str, str]:
        """Delta's properties, those of all tables and the table's own."""
        return {**PROPERTIES, LOG_RETENTION: f"interval {self.log_days} days", **self.properties}

    @property
    def columns(self) -> list[str]:
        """Column names in contract order."""
        return [f.name for f in self.fields]

    @property
    def content(self) -> list[str]:
        """The columns that digests cover: everything but provenance."""
        return [f.name for f in self.fields if not f.provenance]

    def check(self, df: DataFrame) -> DataFrame:
        """Return `df` in contract order, or raise ContractError naming every difference at once.

        Nullability is not compared: Spark widens it freely, and Delta enforces NOT NULL at the write.
        """
        differences = list(_differences(self, df))
        if differences:
            raise ContractError(f"table {self.name}: " + "; ".join(differences))
        return df.select(self.columns)

    def to_json(self) -> str:
        """The reviewed form, kept as `schemas/<name>.json`: a schema change is a diff of that file."""
        described = {
            "table": self.name,
            "grain": self.grain,
            "key": list(self.key),
            "partition_by": list(self.partition_by),
            "properties": self.table_properties,
            "columns": [_described(f) for f in self.fields],
        }
        return json.dumps(described, indent=1) + "\n"


def _described(field_: Field) -> dict[str, object]:
    """One column as JSON."""
    described: dict[str, object] = {"name": field_.name, "type": field_.type.simpleString()}
    described["kind"] = "provenance" if field_.provenance else "content"
    described["required"] = field_.required
    if field_.shape:
        described["shape"] = field_.shape
    described["doc"] = field_.doc
    return described


def _differences(contract: TableContract, df: DataFrame) -> list[str]:
    """Every way in which the frame's columns are not the contract's."""
    found = [f.name for f in df.schema.fields]
    types = {f.name: f.dataType.simpleString() for f in df.schema.fields}
    differences = [f"column {name}: found twice" for name in sorted({n for n in found if found.count(n) > 1})]
    for f in contract.fields:
        expected = f.type.simpleString()
        if f.name not in types:
            differences.append(f"column {f.name}: expected {expected}, found none")
        elif types[f.name] != expected:
            differences.append(f"column {f.name}: expected {expected}, found {types[f.name]}")
    unknown = [n for n in found if n not in contract.columns]
    differences += [f"column {name}: not in the contract" for name in unknown]
    return differences
