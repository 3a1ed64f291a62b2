"""Spark over a few rows, in tests and in the fault harness: compiling costs more there than running.

Interpreted plans give the same rows; a cold night of forty users takes a third less CPU with both.
"""

from pathlib import Path

from jobs.session import JAVA_OPTIONS, default_conf, read_properties

QUICK_JVM = "-XX:TieredStopAtLevel=1"  # for a process that ends soon; one that lives on loses by it
INTERPRETED = {"spark.sql.codegen.wholeStage": "false", "spark.sql.codegen.factoryMode": "NO_CODEGEN"}


def short_lived_conf(file: Path) -> Path:
    """`local.conf` for a process that is soon killed."""
    conf = {**read_properties(default_conf()), **INTERPRETED, "spark.sql.shuffle.partitions": "1"}
    conf[JAVA_OPTIONS] += f" {QUICK_JVM}"
    file.write_text("".join(f"{key} {value}\n" for key, value in conf.items()))
    return file
