"""Where tables live and the only code that reads, writes or time-travels them.

What a commit says of itself is in `jobs/commits.py`. Its transaction id is the run and the stage, so a stage that
a resumed run repeats lands once; every submit and every rollback is a new run and so has an id of its own.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from itertools import islice, takewhile
from pathlib import Path

from pyspark.sql import DataFrame, SparkSession

from jobs.commits import MAINTAIN, Commit, Stamp, other_writers_refused, transaction_id
from jobs.delta_log import DeltaLog
from schemas.contract import TableContract
from schemas.errors import ConfigError, EmptyTableError, RetryableError

__all__ = ["Commit", "Lake", "Stamp"]


class Lake:
    """The tables below one root: a path (a relative one with a dot in it starts with `./`) or a `catalog.schema`.

    `reads` and `writes` keep, per table, the version last touched, which is what a stage records of itself.
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
            return bool(self._log(contract).versions())
        return self.spark.catalog.tableExists(self.name(contract))

    def commits(self, contract: TableContract) -> Iterator[Commit]:
        """The commits that the log still has, newest first; none where there is no table. Reads as far as asked."""
        return self._log(contract).commits() if self.by_path or self.exists(contract) else iter(())

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
        """Replace existing rows by those of the same key in one MERGE; returns the version.

        `df` must be staged: MERGE may read its source twice. Its transaction id and metadata go through
        session settings, which would stamp other writes too: set and cleared around this one call.
        """
        rows = contract.check(df)
        on = " AND ".join(f"t.{k} = s.{k}" for k in contract.key)
        settings = {
            "spark.databricks.delta.write.txnAppId": transaction_id(stamp),
            "spark.databricks.delta.write.txnVersion": "1",
            "spark.databricks.delta.commitInfo.userMetadata": stamp.to_json(self.reads),
        }
        merge = f"MERGE INTO {self.name(contract)} t USING {{rows}} s ON {on} WHEN MATCHED THEN UPDATE SET *"
        with self.session_settings(settings), other_writers_refused(contract):
            self.spark.sql(merge, rows=rows)
        return self._written(contract, stamp)

    def clone(self, contract: TableContract, source: "Lake", version: int, stamp: Stamp) -> int:
        """Make the table as another lake has it at `version`, from that lake's files, in one commit.

        Returns the table's own version. A clone takes its metadata through session settings only, as MERGE does.
        """
        clone = f"CREATE TABLE {self.name(contract)} SHALLOW CLONE {source.name(contract)} VERSION AS OF {version}"
        settings = {"spark.databricks.delta.commitInfo.userMetadata": stamp.to_json(self.reads)}
        with self.session_settings(settings), other_writers_refused(contract):
            self.spark.sql(clone)
        return self._written(contract, stamp)

    def stage(self, df: DataFrame, name: str) -> DataFrame:
        """Compute `df` once into plain Parquet below the staging folder and read it back.

        Whatever is used twice (a UDF's output above all) goes through here, so that it is computed once.
        """
        path = f"{self.staging}/{name}"
        df.write.mode("overwrite").parquet(path)
        return self.spark.read.schema(df.schema).parquet(path)

    def clear_staging(self, name: str) -> None:
        """Remove what `stage` wrote under a name or a folder of names."""
        path = self.spark._jvm.org.apache.hadoop.fs.Path(f"{self.staging}/{name}")  # type: ignore[union-attr]
        path.getFileSystem(self.spark._jsc.hadoopConfiguration()).delete(path, True)

    def _write(
        self, contract: TableContract, df: DataFrame, stamp: Stamp, options: Mapping[str, str], mode: str
    ) -> int:
        rows = contract.check(df)
        writer = rows.write.format("delta").mode(mode).options(**options)
        writer = writer.option("txnAppId", transaction_id(stamp)).option("txnVersion", 1)
        writer = writer.option("userMetadata", stamp.to_json(self.reads))
        with other_writers_refused(contract):
            self._create(contract)
            if self.by_path:
                writer.save(f"{self.root}/{contract.name}")
            else:
                writer.saveAsTable(self.name(contract))
        return self._written(contract, stamp)

    def _create(self, contract: TableContract) -> None:
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

    def _log(self, contract: TableContract) -> DeltaLog:
        return DeltaLog(self.spark, self.location(contract))

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
