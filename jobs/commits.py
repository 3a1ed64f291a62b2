"""What a Delta commit says of itself, and what Delta says when another writer was first.

Every commit names, in its user metadata, the run and stage that made it, its night, the table versions that the
stage had read and a watermark of the stage's own; nothing else in the lake repeats that.
"""

import json
import logging
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from time import sleep

from delta.exceptions import captured as delta_errors  # importing it is what makes PySpark raise these
from pyspark.errors import AnalysisException

from schemas.contract import TableContract
from schemas.errors import RetryableError

log = logging.getLogger("lime")
ATTEMPTS = 3
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
_HALF_MADE = "DELTA_CREATE_TABLE_WITH_NON_EMPTY_LOCATION"  # a rival has begun to make the table
_CREATION_SECONDS = 0.5  # in which that rival commits


@dataclass(frozen=True)
class Stamp:
    """What a commit says of itself: run, stage, night, and the stage's own watermark (`inputs`)."""

    run_id: str
    stage: str
    logical_date: date
    inputs: Mapping[str, object] = field(default_factory=dict)

    def to_json(self, reads: Mapping[str, int], more: Mapping[str, object]) -> str:
        """The form kept as Delta user metadata, with the table versions read so far and what the lake adds."""
        described = {
            "run_id": self.run_id,
            "stage": self.stage,
            "logical_date": self.logical_date.isoformat(),
            "reads": dict(reads),
        }
        return json.dumps({**described, **more, "inputs": dict(self.inputs)}, sort_keys=True)


@dataclass(frozen=True)
class Commit:
    """One commit of a table: its version, the stamp it carries (empty where something else wrote it), Delta's words."""

    version: int
    stamp: Mapping[str, object]
    info: Mapping[str, object] = field(default_factory=dict)

    @property
    def is_creation(self) -> bool:
        """Whether it made an empty table: it comes before the first rows and carries nobody's stamp."""
        return self.info.get("operation") == "CREATE TABLE"

    @property
    def committed_at(self) -> datetime:
        """When, by its writer's clock."""
        return datetime.fromtimestamp(int(str(self.info["timestamp"])) / 1e3, UTC)

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


def effective(commits: Iterable[Commit]) -> Iterator[Commit]:
    """Of commits, newest first, those that a later restore has not undone."""
    restored_to: object = None
    for commit in commits:
        if isinstance(restored_to, int) and commit.version > restored_to:
            continue
        restored_to = commit.stamp.get("restored_to")
        yield commit


def commit_again(contract: TableContract, commit: Callable[[], None]) -> None:
    """Commit; where Delta says that another writer won, again, and after ATTEMPTS raise RetryableError with its words.

    For commits that may be repeated: rows computed from pinned versions, under one transaction id.
    """
    for attempt in range(1, ATTEMPTS + 1):
        try:
            commit()
            return
        except (*CONFLICTS, AnalysisException) as error:
            half_made = error.getCondition() == _HALF_MADE
            if not half_made and not isinstance(error, CONFLICTS):
                raise
            said = str(error).strip().splitlines()[0]
            if attempt == ATTEMPTS:
                raise RetryableError(
                    f"table {contract.name}: expected no other writer, found one in {ATTEMPTS} attempts: {said}"
                ) from error
            log.warning("table %s: another writer was first, the commit is tried again: %s", contract.name, said)
            sleep(_CREATION_SECONDS if half_made else 0)


def transaction_id(stamp: Stamp) -> str:
    """Run and stage: a write that a resumed run repeats is the same transaction."""
    return f"{stamp.run_id}/{stamp.stage}"


def stamp_of(user_metadata: str | None) -> Mapping[str, object]:
    """A commit's stamp; empty for commits that another tool made."""
    if not user_metadata or not user_metadata.startswith("{"):
        return {}
    stamp = json.loads(user_metadata)
    return stamp if isinstance(stamp, dict) else {}
