"""One writer per root: whoever writes holds the root's lock for its whole run, and every commit proves it.

On a folder of this machine the lock is the operating system's (`jobs/file_lock.py`), elsewhere a lease in Delta
(`jobs/lease.py`). Before each commit the holder looks whether its token still is the newest; the commit carries it.
A holder that was paused right after it looked, or the JVM of one that was killed, can still commit after a successor
began. The successor finds that commit by its older token, names it and undoes it: when it begins, and before each
commit of its own in the same table, before a publication in all tables; there it stops, since it may have read it.
"""

import logging
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import date
from itertools import takewhile
from typing import Protocol
from uuid import uuid4

from jobs.commits import MAINTAIN
from jobs.config import LakeConfig
from jobs.file_lock import take_file
from jobs.lake import Lake, Stamp
from jobs.lease import take_lease
from jobs.tenure import Tenure, token_of
from schemas.all_tables import TABLES
from schemas.contract import TableContract
from schemas.errors import ConfigError, RetryableError

log = logging.getLogger("lime")


class Lock(Protocol):
    """What both kinds of lock do while they are held."""

    @property
    def tenure(self) -> Tenure:
        """Whose it is."""

    def note(self, heads: Mapping[str, int]) -> None:
        """Write down the version of every table."""

    def check(self) -> None:
        """Raise RetryableError where another holds it by now."""

    def release(self) -> None:
        """Let the next one in."""


@dataclass(frozen=True)
class OnlyWriter:
    """The holder of a lock, as the lake asks it before every commit."""

    lake: Lake
    lock: Lock

    @property
    def stamp(self) -> Mapping[str, object]:
        """What its commits say of it."""
        return self.lock.tenure.stamp

    def check(self, tables: Iterable[TableContract]) -> None:
        """Raise RetryableError where another writes by now, or where a late commit was found and undone.

        What this run has read by then may hold the late rows, so it does not go on.
        """
        self.lock.check()
        undone = [said for table in tables for said in undo_late(self.lake, table, self.lock.tenure)]
        if undone:
            raise RetryableError(f"lake {self.lake.root}: {'; '.join(undone)}; start again")


@contextmanager
def only_writer(lake: Lake, config: LakeConfig, command: str) -> Iterator[None]:
    """Hold the root's lock; raises RetryableError that names the holder where there is one.

    What an earlier writer committed too late is undone first.
    """
    lock = _take(lake, config, command)
    try:
        lake.writer = OnlyWriter(lake, lock)
        heads = {name: lake.head(table) for name, table in TABLES.items()}  # what comes after this look is late
        for name, table in TABLES.items():
            for said in undo_late(lake, table, lock.tenure):
                log.warning("%s", said)
                heads[name] = lake.writes[name]
        lock.note(heads)
        yield
    finally:
        lake.writer = None
        lock.release()


def undo_late(lake: Lake, table: TableContract, tenure: Tenure) -> list[str]:
    """Undo the table's late commits and what was built on them; returns what was done, in words."""
    head = tenure.heads.get(table.name, -1)
    above = takewhile(lambda commit: commit.version > head, lake.commits(table))
    # maintenance changes no row, so nobody can have read something wrong
    late = [commit for commit in above if tenure.is_late(commit) and commit.stamp.get("stage") != MAINTAIN]
    if not late:
        return []
    before, night = late[-1].version - 1, date.fromisoformat(str(late[-1].stamp["logical_date"]))
    stamp = Stamp(f"undo-{uuid4().hex[:12]}", "undo", night, {"late": [commit.version for commit in late]})
    lake.restore(table, before, stamp)
    return [
        f"table {table.name}: version {commit.version} of run {commit.stamp['run_id']} was committed after another "
        f"writer took over, under the older token {token_of(commit)}: undone, back to version {before}"
        for commit in late
    ]


def _take(lake: Lake, config: LakeConfig, command: str) -> Lock:
    if config.lock == "lease" or (config.lock == "auto" and not lake.is_folder):
        return take_lease(lake, command, config.lease_seconds)
    if not lake.is_folder:
        raise ConfigError(f"lake.lock: expected auto or lease, the lake {lake.root} is no local folder; found file")
    return take_file(lake.root, command)
