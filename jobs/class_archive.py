"""The JVM's class archive of local sessions: Spark's and Delta's classes, loaded and verified once for all.

A short night is mostly class loading. `python -m jobs.class_archive` (a step of `make`) does the kinds of
work that a night is made of and lets the JVM keep what it loaded, 180 MB beside the jars. A JVM of another
version or class path ignores the file without a word; without the file everything runs, only slower.

On two cores, two runs each, session start, create, 3 appends, 2 MERGE, an overwrite and a read together take
20.5 s with the JVM's defaults and 15.0 s with the archive and the serial collector.
"""

import tempfile
from pathlib import Path

from delta.tables import DeltaTable
from pyspark import SparkContext
from pyspark.sql import DataFrame, SparkSession

from jobs.session import JAVA_OPTIONS, archive_file, default_conf, session_conf

QUIET = "-Xlog:disable -Xlog:all=off"  # the JVM would name every class that it cannot keep
EXIT_SECONDS = 300


def make_archive() -> None:
    """Run a small session that writes the archive when its JVM ends; nothing to do where there is one."""
    file = archive_file()
    if file.is_file():
        return
    file.parent.mkdir(parents=True, exist_ok=True)
    conf = dict(session_conf(default_conf()))
    with tempfile.TemporaryDirectory(dir=file.parent) as folder:
        partial = Path(folder) / file.name
        options = f"{conf[JAVA_OPTIONS]} {QUIET} -XX:ArchiveClassesAtExit={partial}"
        spark = SparkSession.builder.appName("lime").config(map={**conf, JAVA_OPTIONS: options}).getOrCreate()
        exercise(spark, Path(folder) / "table")
        _end_jvm(spark)
        partial.rename(file)


def exercise(spark: SparkSession, table: Path) -> None:
    """What a night does, on a handful of rows: read text, join, group, a Python stage, commits, MERGE."""
    events = table.with_name("events.tsv")
    events.write_text("user\titem\n" + "".join(f"u{n % 7}\ti{n}\n" for n in range(100)))
    read = spark.read.option("header", True).option("sep", "\t").csv(str(events))
    last = read.groupBy("user").agg({"item": "max"}).withColumnRenamed("max(item)", "item")
    rows = last.join(read.where("item = 'i3'").select("user"), on=["user"], how="left_anti")
    rows.mapInArrow(lambda batches: batches, rows.schema).write.format("delta").save(str(table))
    for mode in ("append", "overwrite"):
        rows.write.format("delta").mode(mode).save(str(table))
    _merge(spark, table, last)
    spark.read.format("delta").load(str(table)).orderBy("user").collect()  # seven rows


def _merge(spark: SparkSession, table: Path, rows: DataFrame) -> None:
    """One keyed MERGE."""
    target = DeltaTable.forPath(spark, str(table)).alias("target")
    merge = target.merge(rows.alias("source"), "target.user = source.user")
    merge.whenMatchedUpdateAll().whenNotMatchedInsertAll().execute()


def _end_jvm(spark: SparkSession) -> None:
    """Stop, and wait for the JVM, which ends when its standard input does."""
    gateway = SparkContext._gateway
    spark.stop()
    if gateway is not None:
        gateway.proc.stdin.close()
        gateway.proc.wait(timeout=EXIT_SECONDS)


if __name__ == "__main__":
    make_archive()
