"""Failures of the machine that a second try may get over, as the driver meets them: a full disk, a JVM that is gone."""

import errno
import re
from collections.abc import Iterator
from traceback import walk_tb

from py4j.protocol import Py4JNetworkError

from schemas.errors import RetryableError

FULL = (errno.ENOSPC, errno.EDQUOT)
_SAID = re.compile(r".*(?:No space left on device|Disk quota exceeded).*")  # Java's and a task's errors are text


def as_outage(failure: Exception) -> RetryableError | None:
    """What the user is told instead of a stack trace; None where neither the failure nor its cause is an outage."""
    causes = list(_causes(failure))
    for cause in causes:
        said = _SAID.search(str(cause))
        if said or (isinstance(cause, OSError) and cause.errno in FULL):
            line = said.group().strip().removeprefix("Caused by: ") if said else str(cause)
            return RetryableError(f"disk: expected room, found: {line}; make some, then `lime resume`")
    if any(isinstance(cause, Py4JNetworkError) or _is_unreachable_jvm(cause) for cause in causes):
        return RetryableError(
            "Spark: expected an answer of the driver's JVM, found it gone (killed, out of memory); try `lime resume`"
        )
    return None


def _causes(failure: BaseException | None) -> Iterator[BaseException]:
    """The failure, then what it was raised from or came upon."""
    while failure is not None:
        yield failure
        failure = failure.__cause__ or failure.__context__


def _is_unreachable_jvm(cause: BaseException) -> bool:
    """Whether it is a lost connection that py4j raised: what else connects to something has words of its own."""
    frames = (frame.f_globals["__name__"] for frame, _ in walk_tb(cause.__traceback__))
    return isinstance(cause, ConnectionError) and any(name.startswith("py4j.") for name in frames)
