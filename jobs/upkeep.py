"""How a table lies on disk, never what it holds: properties, compaction, VACUUM, what its folder takes.

A commit made here names its run and the stage `maintain`, but no night: it is no publication, and a night is not
made again because of it.
"""

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any

from jobs.commits import MAINTAIN, commit_again
from jobs.lake import Lake
from schemas.contract import TableContract

MB = 1 << 20
WHOLE_FILE, LARGEST_FILE = 64 * MB, 128 * MB


@contextmanager
def upkeep_of(lake: Lake, run_id: str) -> Iterator[None]:
    """The session in which tables are kept up by a run."""
    writer = lake.writer.stamp if lake.writer else {}
    said = json.dumps({**writer, "run_id": run_id, "stage": MAINTAIN})
    with lake.session_settings(
        {
            "spark.databricks.delta.commitInfo.userMetadata": said,
            # Delta's defaults are 1 GB each: a growing table below that would be written anew every time
            "spark.databricks.delta.optimize.minFileSize": str(WHOLE_FILE),
            "spark.databricks.delta.optimize.maxFileSize": str(LARGEST_FILE),
            # two more commits a table and VACUUM that say nothing but when it ran, which `runs` knows
            "spark.databricks.delta.vacuum.logging.enabled": "false",
            # VACUUM lists folders in so many tasks; 10,000 by default, which took a minute a table on two cores
            "spark.sql.sources.parallelPartitionDiscovery.parallelism": str(lake.spark.sparkContext.defaultParallelism),
        }
    ):
        yield


def set_properties(lake: Lake, contract: TableContract, wanted: Mapping[str, str]) -> None:
    """Give the table the properties that it has otherwise; no commit where it has them all."""
    found = {row["key"]: row["value"] for row in lake.spark.sql(f"SHOW TBLPROPERTIES {lake.name(contract)}").collect()}
    changed = ", ".join(f"'{key}' = '{value}'" for key, value in wanted.items() if found.get(key) != value)
    if changed:
        _commit(lake, contract, f"ALTER TABLE {lake.name(contract)} SET TBLPROPERTIES ({changed})")


def compact(lake: Lake, contract: TableContract) -> None:
    """Join files below WHOLE_FILE, partition by partition; no commit where no partition has two."""
    _commit(lake, contract, f"OPTIMIZE {lake.name(contract)}")


def vacuum(lake: Lake, contract: TableContract) -> None:
    """Remove files that no version of the table's own retention reads. Delta refuses any shorter time, and may."""
    lake.spark.sql(f"VACUUM {lake.name(contract)}")


def on_disk(lake: Lake, contract: TableContract) -> tuple[int, int]:
    """Files and bytes below the table's folder, the log's included."""
    system, path = _folder(lake, lake.location(contract))
    summary = system.getContentSummary(path)
    return int(summary.getFileCount()), int(summary.getLength())


def staged(lake: Lake) -> dict[str, datetime]:
    """What lies in the staging folder, with the time when something was last added to it."""
    system, path = _folder(lake, lake.staging)
    found = system.listStatus(path) if system.exists(path) else []
    return {
        str(status.getPath().getName()): datetime.fromtimestamp(status.getModificationTime() / 1000, UTC)
        for status in found
    }


def _commit(lake: Lake, contract: TableContract, statement: str) -> None:
    """A statement that commits, as the root's only writer."""

    def commit() -> None:
        lake.require_only_writer(contract)
        lake.spark.sql(statement)

    commit_again(contract, commit)


def _folder(lake: Lake, location: str) -> tuple[Any, Any]:
    """A path and its file system, as Java objects."""
    path: Any = lake.spark._jvm.org.apache.hadoop.fs.Path(location)  # type: ignore[union-attr]
    return path.getFileSystem(lake.spark._jsc.hadoopConfiguration()), path
