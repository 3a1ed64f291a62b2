"""A full disk and a lost JVM end a command with a sentence and exit 4; whatever else fails keeps its stack trace."""

import errno
import socket
from collections.abc import Callable

import pytest
from py4j.clientserver import ClientServer, JavaParameters, PythonParameters
from py4j.protocol import Py4JNetworkError

from jobs.cli import exit_code
from schemas.errors import EXIT_RETRY

JAVA = """An error occurred while calling o123.save.
: org.apache.spark.SparkException: Job aborted due to stage failure: Task 0 in stage 3.0 failed 1 times
Caused by: java.io.IOException: No space left on device
\tat java.base/java.io.FileOutputStream.writeBytes(Native Method)"""


def raising(failure: Exception, *later: Exception) -> Callable[[], int]:
    """A command that fails, and fails again while it tidies up."""

    def command() -> int:
        try:
            raise failure
        finally:
            for each in later:
                raise each

    return command


def ask_a_jvm_that_is_gone() -> int:
    """py4j as PySpark uses it, told of a port where nobody listens: it raises what its socket does."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    client = ClientServer(JavaParameters(port=port), PythonParameters(port=0))
    try:
        return int(client.jvm.System.nanoTime())
    finally:
        client.shutdown_callback_server()


@pytest.mark.parametrize(
    ("command", "said"),
    [
        (raising(OSError(errno.ENOSPC, "No space left", "x.json")), "found: [Errno 28] No space left: 'x.json'; make"),
        (raising(OSError(errno.EDQUOT, "Disk quota exceeded")), "Disk quota exceeded"),
        (raising(RuntimeError(JAVA)), "found: java.io.IOException: No space left on device; make some"),
        (raising(RuntimeError(JAVA), ValueError("tidying failed too")), "No space left on device"),
        (raising(Py4JNetworkError("Answer from Java side is empty")), "of the driver's JVM, found it gone"),
        (ask_a_jvm_that_is_gone, "of the driver's JVM, found it gone"),
    ],
)
def test_an_outage_is_one_sentence_and_exit_4(
    command: Callable[[], int], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert exit_code(command) == EXIT_RETRY
    err = capsys.readouterr().err
    assert said in err and err.count("\n") == 1


@pytest.mark.parametrize("failure", [OSError(errno.EACCES, "denied"), ConnectionRefusedError("of a download")])
def test_another_failure_is_raised(failure: Exception) -> None:
    with pytest.raises(type(failure), match=str(failure.args[-1])):
        exit_code(raising(failure))
