"""A Delta table's newest commits, read from its log. Names and content of these files are Delta's protocol.

DESCRIBE HISTORY says the same by a Spark job, which takes many times as long, and a night asks often.
"""

import json
import re
from collections.abc import Iterator
from typing import Any

from pyspark.sql import SparkSession

from jobs.commits import Commit, stamp_of

_COMMIT = re.compile(r"/(\d{20})\.json(?=[,}])")


class DeltaLog:
    """The log of the table at a location, on whatever file system that is."""

    def __init__(self, spark: SparkSession, location: str) -> None:
        self._jvm: Any = spark._jvm
        self._path: Any = spark._jvm.org.apache.hadoop.fs.Path(location, "_delta_log")  # type: ignore[union-attr]
        self._system = self._path.getFileSystem(spark._jsc.hadoopConfiguration())

    def versions(self) -> list[int]:
        """Versions whose commits are still in the log, newest first; empty where there is no table."""
        if not self._system.exists(self._path):
            return []
        paths = self._jvm.org.apache.hadoop.fs.FileUtil.stat2Paths(self._system.listStatus(self._path))
        # one call for all names, not one a file
        named = str(self._jvm.org.apache.commons.lang3.ArrayUtils.toString(paths))
        return sorted(map(int, _COMMIT.findall(named)), reverse=True)

    def commits(self) -> Iterator[Commit]:
        """The commits, newest first, each read when it is asked for."""
        return (self._commit(version) for version in self.versions())

    def _commit(self, version: int) -> Commit:
        info = self._info(version)
        return Commit(version, stamp_of(info.get("userMetadata")), info)

    def _info(self, version: int) -> dict[str, Any]:
        """What the commit's writer said of it; empty where it said nothing."""
        file = self._jvm.org.apache.hadoop.fs.Path(self._path, f"{version:020d}.json")
        stream = self._jvm.java.io.InputStreamReader(self._system.open(file), "UTF-8")
        reader = self._jvm.java.io.BufferedReader(stream)
        try:
            while (line := reader.readLine()) is not None:  # the first one, as Delta writes them
                if line.startswith('{"commitInfo"'):
                    found: dict[str, Any] = json.loads(line)["commitInfo"]
                    return found
        finally:
            reader.close()
        return {}
