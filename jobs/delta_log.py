"""A Delta table's newest commits, read from its log, and commits that change no row, added to it.

Names and content of these files are Delta's protocol.

DESCRIBE HISTORY says the same by a Spark job, which takes many times as long, and a night asks often.
"""

import json
import re
import time
from collections.abc import Iterator
from typing import Any, cast

from py4j.java_gateway import JavaObject
from py4j.protocol import Py4JJavaError
from pyspark.sql import SparkSession

from jobs.commits import Commit, stamp_of

_COMMIT = re.compile(r"/(\d{20})\.json(?=[,}])")


class DeltaLog:
    """The log of the table at a location, on whatever file system that is."""

    def __init__(self, spark: SparkSession, location: str) -> None:
        self.location = location
        self._spark, self._jvm = spark, cast(Any, spark._jvm)
        path = self._jvm.org.apache.hadoop.fs.Path(location, "_delta_log")
        self._system = path.getFileSystem(spark._jsc.hadoopConfiguration())
        self._path = path

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

    def put(self, version: int, user_metadata: str) -> bool:
        """Add a commit without rows as this version, by Delta's log store; False where another writer has added it.

        Delta's own writers add a commit after whatever the newest is; this one only if nobody was there before.
        """
        said = {"timestamp": time.time_ns() // 1_000_000, "operation": "LIME", "operationParameters": {}}
        lines = self._jvm.java.util.List.of(json.dumps({"commitInfo": {**said, "userMetadata": user_metadata}}))
        delta = self._delta()
        try:
            delta.store().write(
                self._file(version),
                self._jvm.scala.jdk.javaapi.CollectionConverters.asScala(lines.iterator()),
                False,  # do not overwrite
                delta.newDeltaHadoopConf(),
            )
        except Py4JJavaError as error:
            if "FileAlreadyExists" not in error.java_exception.getClass().getName():
                raise
            return False
        return True

    def checkpoint(self) -> None:
        """Write a checkpoint; Delta then drops commits that are older than the table's log retention."""
        delta = self._delta()
        delta.update(False, self._jvm.scala.Option.empty(), self._jvm.scala.Option.empty())
        delta.checkpoint()

    def _delta(self) -> JavaObject:
        """Delta's own object for the table."""
        return self._jvm.org.apache.spark.sql.delta.DeltaLog.forTable(self._spark._jsparkSession, self.location)

    def _file(self, version: int) -> JavaObject:
        return self._jvm.org.apache.hadoop.fs.Path(self._path, f"{version:020d}.json")

    def _commit(self, version: int) -> Commit:
        info = self._info(version)
        return Commit(version, stamp_of(info.get("userMetadata")), info)

    def _info(self, version: int) -> dict[str, Any]:
        """What the commit's writer said of it; empty where it said nothing."""
        stream = self._jvm.java.io.InputStreamReader(self._system.open(self._file(version)), "UTF-8")
        reader = self._jvm.java.io.BufferedReader(stream)
        try:
            while (line := reader.readLine()) is not None:  # the first one, as Delta writes them
                if line.startswith('{"commitInfo"'):
                    found: dict[str, Any] = json.loads(line)["commitInfo"]
                    return found
        finally:
            reader.close()
        return {}
