"""One writer's time at a root, the same for both kinds of lock, and the commits that came too late.

A tenure has a token, one more than the last, and notes the version of every table as it found it. Above those
versions only commits of its token or a later one belong in a log. One under an older token is late: its writer
passed its check, was paused, was succeeded and committed after that.
"""

import json
import os
import socket
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime
from typing import Any
from uuid import uuid4

from jobs.commits import Commit
from schemas.errors import RetryableError


@dataclass(frozen=True)
class Tenure:
    """Who, since when (told to people, compared with nothing), under which token; `line` is the lock's own name.

    Until the holder has noted `heads` they are its predecessor's, and so is `good_from`, the lowest token above
    them that is not late. Tables copied from elsewhere carry another line, and their tokens mean nothing here.
    """

    line: str
    token: int
    holder: str
    since: str
    good_from: int = 0
    heads: Mapping[str, int] = field(default_factory=dict)

    def noted(self, heads: Mapping[str, int]) -> "Tenure":
        """The tenure once it has looked at every table."""
        return replace(self, good_from=self.token, heads=heads)

    @property
    def stamp(self) -> Mapping[str, object]:
        """What the holder's commits say of it."""
        return {"lock": {"line": self.line, "token": self.token}}

    def is_late(self, commit: Commit) -> bool:
        """Whether a commit above the noted versions was made under a token that is too old for it."""
        found = commit.stamp.get("lock")
        return isinstance(found, Mapping) and found["line"] == self.line and found["token"] < self.good_from

    def to_json(self) -> str:
        """The form kept in the lock."""
        return json.dumps(asdict(self), sort_keys=True)

    def __str__(self) -> str:
        return f"{self.holder} since {self.since} under token {self.token}"


def token_of(commit: Commit) -> int:
    """The token that a commit was made under; raises KeyError for one that carries none."""
    found: Any = commit.stamp["lock"]
    return int(found["token"])


def tenure_after(before: Tenure | None, command: str) -> Tenure:
    """This process's tenure, next after another or the first of a new line."""
    holder = f"`{command}`, process {os.getpid()} on {socket.gethostname()}"
    since = datetime.now(UTC).isoformat(timespec="seconds")
    if before is None:
        return Tenure(uuid4().hex[:12], 1, holder, since)
    return replace(before, token=before.token + 1, holder=holder, since=since)


def is_held(root: str, holder: Tenure | None) -> RetryableError:
    """What a second writer is told."""
    return RetryableError(f"lake {root}: expected no other writer, found {holder or 'one that just took its lock'}")


def is_superseded(root: str, mine: Tenure, newest: object) -> RetryableError:
    """What a writer is told that lost its lock while it was paused."""
    return RetryableError(
        f"lake {root}: expected token {mine.token} of this writer to be the newest, found {newest}; "
        "it writes no more, what is served stays"
    )
