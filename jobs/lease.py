"""The lock of a root that the operating system's lock does not reach: commits of the Delta table `lease`.

The newest commit says who holds the root, and the table's version is the beat that its holder makes go up. Whoever
takes or renews adds the one version after the newest that it has read, and a log store with put-if-absent lets only
one do so. Nobody compares times of two machines: a successor takes over when it has itself, by its own monotonic
clock, watched the beat stand still for longer than the term that the holder declared.
"""

import json
import logging
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

from py4j.protocol import Py4JError

from jobs.commits import commit_again
from jobs.delta_log import DeltaLog
from jobs.lake import Lake
from jobs.tenure import Tenure, is_held, is_superseded, tenure_after
from schemas.errors import ConfigError, RetryableError
from schemas.lease import LEASE

KEPT_COMMITS = 500  # more than that are checkpointed when the lease is taken, so that Delta drops the oldest
BEATS_A_TERM = 4
log = logging.getLogger("lime")


@dataclass(frozen=True)
class State:
    """What a commit of the table says: whose tenure it is, for how long a silent holder counts as alive."""

    tenure: Tenure
    term_seconds: float
    released: bool = False

    def to_json(self) -> str:
        """The form kept as the commit's metadata."""
        return json.dumps(asdict(self), sort_keys=True)


class Lease:
    """A held lease; a thread of its own renews it."""

    def __init__(self, root: str, table: DeltaLog, version: int, state: State) -> None:
        self._root, self._table, self._version, self._state = root, table, version, state
        self._one_at_a_time, self._ended = threading.Lock(), threading.Event()
        self._thread = threading.Thread(target=self._keep, name="lease", daemon=True)

    @property
    def tenure(self) -> Tenure:
        """Whose lease it is."""
        return self._state.tenure

    def start(self) -> "Lease":
        """Begin to renew."""
        self._thread.start()
        return self

    def note(self, heads: Mapping[str, int]) -> None:
        """Write down the version of every table."""
        self._put(lambda state: replace(state, tenure=state.tenure.noted(heads)))

    def check(self) -> None:
        """Raise RetryableError where another holds the lease by now."""
        _, newest = newest_state(self._table)
        if newest is None or newest.tenure != self.tenure:
            raise is_superseded(self._root, self.tenure, newest.tenure if newest else "no lease")

    def renew(self) -> None:
        """Add a beat; raises RetryableError where another holds the lease by now."""
        self._put(lambda state: state)

    def release(self) -> None:
        """Stop renewing and let the next one in; nothing to let go of where another holds the lease by now."""
        self._ended.set()
        self._thread.join()
        try:
            self._put(lambda state: replace(state, released=True))
        except RetryableError as lost:
            log.warning("%s", lost)
        except Py4JError as failure:  # the error that ended the run is the one to be told
            log.warning("lake %s: its lease was not let go, the next writer waits: %s", self._root, _reason(failure))

    def _put(self, change: Callable[[State], State]) -> None:
        with self._one_at_a_time:
            state = change(self._state)
            while not self._table.put(self._version + 1, state.to_json()):
                version, newest = newest_state(self._table)
                if newest is None or newest.tenure not in (self.tenure, state.tenure):
                    raise is_superseded(self._root, self.tenure, newest.tenure if newest else "no lease")
                self._version = version  # what looked like a failure had been written, or a tool tidied the table
            self._version += 1
            self._state = state

    def _keep(self) -> None:
        """Renew until the end; a store that is away for a moment costs a beat, a lost lease ends it."""
        while not self._ended.wait(self._state.term_seconds / BEATS_A_TERM):
            try:
                self.renew()
            except RetryableError as lost:
                log.warning("%s", lost)
                return
            except Py4JError as failure:
                log.warning("lake %s: a beat of its lease was not written: %s", self._root, _reason(failure))


def _reason(failure: Py4JError) -> str:
    """Java's own words, without the stack."""
    return " ".join(str(failure).splitlines()[:2])


def take_lease(
    lake: Lake,
    command: str,
    term_seconds: float,
    clock: Callable[[], float] = time.monotonic,
    pause: Callable[[float], None] = time.sleep,
) -> Lease:
    """Take the lease of a root and keep it renewed; raises RetryableError that names the holder where one lives.

    A holder that shows no life is watched for its whole term first.
    """
    commit_again(LEASE, lambda: lake.create(LEASE))
    table = lake.log(LEASE)
    require_put_if_absent(table.location, lambda key: lake.spark.conf.get(key, None))
    version, found = newest_state(table)
    if found and not found.released:
        version, found = after_its_term(lake.root, table, (version, found), clock, pause)
    state = State(tenure_after(found.tenure if found else None, command), term_seconds)
    if not table.put(version + 1, state.to_json()):
        _, newest = newest_state(table)
        raise is_held(lake.root, newest.tenure if newest else None)
    if len(table.versions()) > KEPT_COMMITS:
        table.checkpoint()
    return Lease(lake.root, table, version + 1, state).start()


def after_its_term(
    root: str, table: DeltaLog, held: tuple[int, State], clock: Callable[[], float], pause: Callable[[float], None]
) -> tuple[int, State]:
    """Watch a holder, just read, until its term is over or it lets go; raises RetryableError at a sign of life."""
    start = clock()
    version, found = held
    log.info("lake %s: held by %s; watched for %g s for a sign of life", root, found.tenure, found.term_seconds)
    while clock() - start <= found.term_seconds:
        pause(found.term_seconds / (2 * BEATS_A_TERM))
        now, newest = newest_state(table)
        if newest and newest.released:
            return now, newest
        if now != version or newest is None:
            raise is_held(root, newest.tenure if newest else None)
    log.warning("lake %s: no sign of life: taken over", root)
    return held


def newest_state(table: DeltaLog) -> tuple[int, State | None]:
    """The table's version, and what its newest commit of a holder says: None before the first."""
    newest = 0
    for commit in table.commits():
        newest = max(newest, commit.version)
        if "tenure" in commit.stamp:
            said: Any = commit.stamp
            return newest, State(Tenure(**said["tenure"]), said["term_seconds"], said["released"])
    return newest, None


def require_put_if_absent(location: str, setting: Callable[[str], str | None]) -> None:
    """Raise ConfigError on S3 under Delta's default log store, which excludes only the writers of one driver."""
    scheme = location.partition(":")[0]
    key = f"spark.delta.logStore.{scheme}.impl"
    if scheme in ("s3", "s3a", "s3n") and not setting(key):
        raise ConfigError(f"{key}: expected a log store that lets one driver only add a file, none found: {location}")
