"""An error that a task raised on purpose, as the driver meets it: inside what Spark says of the failed task."""

import re
from collections.abc import Iterator
from contextlib import contextmanager

from py4j.protocol import Py4JJavaError
from pyspark.errors import PythonException

from schemas import errors
from schemas.errors import LimeError


@contextmanager
def task_errors() -> Iterator[None]:
    """Raise the product's own error in place of Spark's account of it; every other failure stays as it is."""
    try:
        yield
    except (PythonException, Py4JJavaError) as failure:
        error = _raised_in_task(str(failure))
        if error is None:
            raise
        raise error from failure


def _raised_in_task(text: str) -> LimeError | None:
    found = re.search(r"schemas\.errors\.(\w+): (.*)", text)
    kind = getattr(errors, found.group(1), None) if found else None
    return kind(found.group(2)) if found and kind else None
