"""What a Delta commit says of itself, and what Delta says when another writer was first.

Every commit names, in its user metadata, the run and stage that made it, its night, the table versions that the
stage had read and a watermark of the stage's own; nothing else in the lake repeats that.
"""

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import date

from delta.exceptions import captured as delta_errors  # importing it is what makes PySpark raise these

from schemas.contract import TableContract
from schemas.errors import RetryableError

MAINTAIN = "maintain"  # the stage whose commits change no row: compaction, properties

CONFLICTS = (
    delta_errors.DeltaConcurrentModificationException,
    delta_errors.ConcurrentWriteException,
    delta_errors.MetadataChangedException,
    delta_errors.ProtocolChangedException,
    delta_errors.ConcurrentAppendException,
    delta_errors.ConcurrentDeleteReadException,
    delta_errors.ConcurrentDeleteDeleteException,
    delta_errors.ConcurrentTransactionException,
)


@dataclass(frozen=True)
class Stamp:
    """What a commit says of itself: run, stage, night, and the stage's own watermark (`inputs`)."""

    run_id: str
    stage: str
    logical_date: date
    inputs: Mapping[str, object] = field(default_factory=dict)

    def to_json(self, reads: Mapping[str, int]) -> str:
        """The form kept as Delta user metadata, with the table versions read so far."""
        described = {
            "run_id": self.run_id,
            "stage": self.stage,
            "logical_date": self.logical_date.isoformat(),
            "reads": dict(reads),
        }
        return json.dumps({**described, "inputs": dict(self.inputs)}, sort_keys=True)


@dataclass(frozen=True)
class Commit:
    """One commit of a table: its version and the stamp it carries (empty where something else wrote it)."""

    version: int
    stamp: Mapping[str, object]

    @property
    def inputs(self) -> Mapping[str, object]:
        """The watermark that the stage left with the commit."""
        inputs = self.stamp.get("inputs", {})
        return inputs if isinstance(inputs, Mapping) else {}

    @property
    def reads(self) -> Mapping[str, int]:
        """The table versions that the stage had read."""
        reads = self.stamp.get("reads", {})
        return reads if isinstance(reads, Mapping) else {}


@contextmanager
def other_writers_refused(contract: TableContract) -> Iterator[None]:
    """Delta's word that another writer won becomes the product's: the stage may be tried again."""
    try:
        yield
    except CONFLICTS as error:
        said = str(error).strip().splitlines()[0]
        raise RetryableError(f"table {contract.name}: expected no other writer, found one: {said}") from error


def transaction_id(stamp: Stamp) -> str:
    """Run and stage: a write that a resumed run repeats is the same transaction."""
    return f"{stamp.run_id}/{stamp.stage}"


def stamp_of(user_metadata: str | None) -> Mapping[str, object]:
    """A commit's stamp; empty for commits that another tool made."""
    if not user_metadata or not user_metadata.startswith("{"):
        return {}
    stamp = json.loads(user_metadata)
    return stamp if isinstance(stamp, dict) else {}
