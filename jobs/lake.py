"""Where tables live and the only code that reads, writes or time-travels them.

What a commit says of itself is in `jobs/commits.py`. Its transaction id is the run and the stage, so a stage that
a resumed run repeats lands once; every submit and every rollback is a new run and so has an id of its own.
"""

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from itertools import islice, takewhile
from pathlib import Path
from typing import Any, Protocol

from pyspark.sql import DataFrame, SparkSession

from jobs.commits import MAINTAIN, Commit, Stamp, commit_again, effective, transaction_id
from jobs.delta_log import DeltaLog
from schemas.contract import TableContract
from schemas.errors import ConfigError, EmptyTableError, RetryableError

__all__ = ["Commit", "Lake", "Stamp"]


class Writer(Protocol):
    """Whoever alone writes below a root; `jobs/lock.py` has the one there is."""

    @property
    def stamp(self) -> Mapping[str, object]:
        """What its commits say of it."""

    def check(self, tables: Iterable[TableContract]) -> None:
        """Raise RetryableError where another writes by now, or a table holds what an earlier one wrote too late."""


class Lake:
    """The tables below one root: a path (a relative one with a dot in it starts with `./`) or a `catalog.schema`.

    `reads` and `writes` keep, per table, the version last touched, which is what a stage records of itself.
    `writer` is asked before every commit; without one nobody else may write there (benchmarks, tests).
    """

    def __init__(self, spark: SparkSession, root: str, staging: str = "") -> None:
        self.spark = spark
        self.by_path = "." not in root or "/" in root
        self.is_folder = self.by_path and "://" not in root  # of the driver's machine
        self.root = str(Path(root).absolute()) if self.is_folder else root.rstrip("/")
        if not staging and not self.by_path:
            raise ConfigError(f"lake.staging: expected a path beside the catalog {root}, found none")
        self.staging = staging or f"{self.root}/_staging"
        self.reads: dict[str, int] = {}
        self.writes: dict[str, int] = {}
        self.writer: Writer | None = None
        self._logs: dict[str, DeltaLog] = {}  # a catalog is asked once where a table lies

    def name(self, contract: TableContract) -> str:
        """The table as SQL names it."""
        return f"delta.`{self.root}/{contract.name}`" if self.by_path else f"{self.root}.{contract.name}"

    def location(self, contract: TableContract) -> str:
        """The folder of a table that has been made."""
        if self.by_path:
            return f"{self.root}/{contract.name}"
        (detail,) = self.spark.sql(f"DESCRIBE DETAIL {self.name(contract)}").select("location").collect()
        return str(detail["location"])

    def exists(self, contract: TableContract) -> bool:
        """Whether the table has been made."""
        if self.by_path:
            return bool(self.log(contract).versions())
        return self.spark.catalog.tableExists(self.name(contract))

    def commits(self, contract: TableContract) -> Iterator[Commit]:
        """The commits that the log still has, newest first; none where there is no table. Reads as far as asked.

        Those that a restore undid are left out: nobody may go on from their watermarks.
        """
        return effective(self.log(contract).commits()) if self.by_path or self.exists(contract) else iter(())

    def head(self, contract: TableContract) -> int:
        """The table's version, or -1 where there is none."""
        return next(iter(self.log(contract).versions()), -1) if self.by_path or self.exists(contract) else -1

    def last_commit(self, contract: TableContract, *stages: str) -> Commit | None:
        """The newest commit (of these stages, if any is named), or None where the log has none."""
        return next((c for c in self.commits(contract) if not stages or c.stamp.get("stage") in stages), None)

    def changed_since(self, contract: TableContract, version: int) -> bool:
        """Whether rows may have changed since a version: a commit of maintenance changes none."""
        newer = takewhile(lambda commit: commit.version > version, self.commits(contract))
        return any(commit.stamp.get("stage") != MAINTAIN for commit in newer)

    def read(self, contract: TableContract, version: int | None = None) -> DataFrame:
        """The table as of `version` (default: now, pinned), checked against its contract.

        Raises EmptyTableError where the table was never written, ContractError where its columns differ.
        """
        if version is None:
            commit = self.last_commit(contract)
            if commit is None:
                raise EmptyTableError(f"table {contract.name}: expected below {self.root}, found none")
            version = commit.version
        self.reads[contract.name] = version
        return self.past(contract, version)

    def past(self, contract: TableContract, version: int) -> DataFrame:
        """The table as of a version that `reads` does not note, because the stage does not work on it."""
        if self.by_path:
            reader = self.spark.read.format("delta").option("versionAsOf", version)
            return contract.check(reader.load(f"{self.root}/{contract.name}"))
        return contract.check(self.spark.sql(f"SELECT * FROM {self.name(contract)} VERSION AS OF {version}"))

    def read_or_empty(self, contract: TableContract) -> DataFrame:
        """The table as of now, or an empty frame of its schema before its first write."""
        if self.exists(contract):
            return self.read(contract)
        return self.spark.createDataFrame([], contract.struct)

    def changes(self, contract: TableContract, after: int, until: int) -> DataFrame:
        """Rows added, changed (old and new image) or removed by versions after..until of a change-feed table."""
        reader = self.spark.read.format("delta").option("readChangeFeed", "true")
        reader = reader.option("startingVersion", after + 1).option("endingVersion", until)
        if self.by_path:
            return reader.load(f"{self.root}/{contract.name}")
        return reader.table(self.name(contract))

    def append(self, contract: TableContract, df: DataFrame, stamp: Stamp) -> int:
        """Add rows in one commit; returns the version."""
        return self._write(contract, df, stamp, {}, "append")

    def overwrite(self, contract: TableContract, df: DataFrame, stamp: Stamp, where: str = "") -> int:
        """Replace the rows matching `where` (all by default) in one commit; returns the version."""
        return self._write(contract, df, stamp, {"replaceWhere": where} if where else {}, "overwrite")

    def update_by_key(self, contract: TableContract, df: DataFrame, stamp: Stamp) -> int:
        """Replace existing rows by those of the same key in one MERGE; returns the version. `df` must be staged."""
        return self._merge(contract, df, stamp, "WHEN MATCHED THEN UPDATE SET *")

    def upsert(self, contract: TableContract, df: DataFrame, stamp: Stamp) -> int:
        """As `update_by_key`, and add the rows of keys that the table lacks."""
        return self._merge(contract, df, stamp, "WHEN MATCHED THEN UPDATE SET * WHEN NOT MATCHED THEN INSERT *")

    def _merge(self, contract: TableContract, df: DataFrame, stamp: Stamp, then: str) -> int:
        """One MERGE, which may read its source twice.

        Its transaction id and metadata go through session settings, which would stamp other writes too: set and
        cleared around this one call.
        """
        rows = contract.check(df)
        on = " AND ".join(f"t.{k} = s.{k}" for k in contract.key)
        merge = f"MERGE INTO {self.name(contract)} t USING {{rows}} s ON {on} {then}"

        def commit() -> None:
            self.require_only_writer(contract)
            settings = {
                "spark.databricks.delta.write.txnAppId": transaction_id(stamp),
                "spark.databricks.delta.write.txnVersion": str(self._transaction_version(contract)),
                "spark.databricks.delta.commitInfo.userMetadata": self._metadata(stamp),
            }
            with self.session_settings(settings):
                self.spark.sql(merge, rows=rows)

        commit_again(contract, commit)
        return self._written(contract, stamp)

    def restore(self, contract: TableContract, version: int, stamp: Stamp) -> int:
        """Make the table what it was at a version, in one commit that undoes those above; returns its version."""
        said = self._metadata(stamp, restored_to=version)

        def commit() -> None:
            self.require_only_writer()
            with self.session_settings({"spark.databricks.delta.commitInfo.userMetadata": said}):
                self.spark.sql(f"RESTORE TABLE {self.name(contract)} TO VERSION AS OF {version}")

        commit_again(contract, commit)
        return self._written(contract, stamp)

    def require_only_writer(self, *tables: TableContract) -> None:
        """Raise RetryableError where another writes here by now, or a table holds what an earlier wrote too late."""
        if self.writer:
            self.writer.check(tables)

    def clone(self, contract: TableContract, source: "Lake", version: int, stamp: Stamp) -> int:
        """Make the table as another lake has it at `version`, from that lake's files, in one commit.

        Returns the table's own version. A clone takes its metadata through session settings only, as MERGE does.
        """
        clone = f"CREATE TABLE {self.name(contract)} SHALLOW CLONE {source.name(contract)} VERSION AS OF {version}"
        self.require_only_writer(contract)
        with self.session_settings({"spark.databricks.delta.commitInfo.userMetadata": self._metadata(stamp)}):
            self.spark.sql(clone)
        return self._written(contract, stamp)

    def stage(self, df: DataFrame, name: str) -> DataFrame:
        """Compute `df` once into plain Parquet below the staging folder and read it back.

        Whatever is used twice (a UDF's output above all) goes through here, so that it is computed once.
        """
        path = f"{self.staging}/{name}"
        df.write.mode("overwrite").parquet(path)
        return self.spark.read.schema(df.schema).parquet(path)

    def stage_once(self, df: DataFrame, name: str) -> DataFrame:
        """As `stage`, but what a run that was interrupted has finished under the name is taken as it is."""
        system, path = self._file(f"{self.staging}/{name}/_SUCCESS")  # written after everything else
        if not system.exists(path):
            return self.stage(df, name)
        return self.spark.read.schema(df.schema).parquet(f"{self.staging}/{name}")

    def clear_staging(self, name: str) -> None:
        """Remove what `stage` wrote under a name or a folder of names."""
        system, path = self._file(f"{self.staging}/{name}")
        system.delete(path, True)

    def _file(self, place: str) -> tuple[Any, Any]:
        """A place's file system and path, Java's."""
        path: Any = self.spark._jvm.org.apache.hadoop.fs.Path(place)  # type: ignore[union-attr]
        return path.getFileSystem(self.spark._jsc.hadoopConfiguration()), path

    def _write(
        self, contract: TableContract, df: DataFrame, stamp: Stamp, options: Mapping[str, str], mode: str
    ) -> int:
        rows = contract.check(df)

        def commit() -> None:
            self.require_only_writer(contract)
            self.create(contract)
            writer = rows.write.format("delta").mode(mode).options(**options)
            writer = writer.option("txnAppId", transaction_id(stamp))
            writer = writer.option("txnVersion", self._transaction_version(contract))
            writer = writer.option("userMetadata", self._metadata(stamp))
            if self.by_path:
                writer.save(f"{self.root}/{contract.name}")
            else:
                writer.saveAsTable(self.name(contract))

        commit_again(contract, commit)
        return self._written(contract, stamp)

    def _metadata(self, stamp: Stamp, restored_to: int | None = None) -> str:
        """A stamp as a commit keeps it, with the writer's token and what a restore went back to."""
        more = dict(self.writer.stamp) if self.writer else {}
        return stamp.to_json(self.reads, more if restored_to is None else {**more, "restored_to": restored_to})

    def _transaction_version(self, contract: TableContract) -> int:
        """Higher after every restore: Delta keeps the ids of what it undid and would skip a stage that repeats it."""
        newest = islice(self.commits(contract), 20)
        return next((c.version + 1 for c in newest if "restored_to" in c.stamp), 1)

    def create(self, contract: TableContract) -> None:
        """Make the table from its contract, NOT NULL and properties included, if it is not there."""
        if self.exists(contract):
            return
        columns = ", ".join(
            f"`{f.name}` {f.type.simpleString()}{' NOT NULL' if f.required else ''}" for f in contract.fields
        )
        partitions = f" PARTITIONED BY ({', '.join(contract.partition_by)})" if contract.partition_by else ""
        properties = ", ".join(f"'{key}' = '{value}'" for key, value in contract.table_properties.items())
        table = f"{self.name(contract)} ({columns}) USING delta{partitions} TBLPROPERTIES ({properties})"
        self.spark.sql(f"CREATE TABLE IF NOT EXISTS {table}")

    def committed(self, contract: TableContract, stamp: Stamp) -> int | None:
        """The version that holds this run's and stage's commit, if it is among the newest ones."""
        wanted = (stamp.run_id, stamp.stage)
        newest = islice(self.commits(contract), 20)  # a run's other commits and other writers' may lie above
        return next((c.version for c in newest if (c.stamp.get("run_id"), c.stamp.get("stage")) == wanted), None)

    def _written(self, contract: TableContract, stamp: Stamp) -> int:
        """Read the commit back: Delta skips a write under a used transaction id without an error."""
        version = self.committed(contract, stamp)
        if version is None:
            raise RetryableError(
                f"table {contract.name}: expected a commit of run {stamp.run_id}, stage {stamp.stage}; found none"
            )
        self.writes[contract.name] = version
        return version

    def log(self, contract: TableContract) -> DeltaLog:
        """The log of a table that has been made."""
        if contract.name not in self._logs:
            self._logs[contract.name] = DeltaLog(self.spark, self.location(contract))
        return self._logs[contract.name]

    @contextmanager
    def session_settings(self, settings: Mapping[str, str]) -> Iterator[None]:
        """Settings for one command that takes them in no other way; afterwards all are as before."""
        before = {key: self.spark.conf.get(key, None) for key in settings}
        for key, value in settings.items():
            self.spark.conf.set(key, value)
        try:
            yield
        finally:
            for key, old in before.items():
                self.spark.conf.unset(key) if old is None else self.spark.conf.set(key, old)
