import time
from datetime import timedelta
from pathlib import Path

from pyspark.sql import SparkSession

from benchmarks.aging import age_table
from jobs.lake import Lake
from jobs.upkeep import upkeep_of


def test_a_table_is_as_it_was_and_its_replaced_files_are_old(spark: SparkSession, tmp_path: Path) -> None:
    name, files = f"delta.`{tmp_path}`", lambda: {path.name for path in tmp_path.glob("*.parquet")}
    # a checkpoint every second commit, so that one of them says when the first file was replaced
    properties = "'delta.checkpointInterval' = '2', 'delta.deletedFileRetentionDuration' = 'interval 9 days'"
    spark.sql(f"CREATE TABLE {name} (id long) USING delta TBLPROPERTIES ({properties})")
    for n in range(3):
        spark.range(n, n + 1).coalesce(1).write.format("delta").mode("overwrite").save(str(tmp_path))
    assert (tmp_path / "_delta_log" / f"{2:020d}.checkpoint.parquet").is_file()
    age_table(spark, tmp_path, timedelta(days=10))
    assert [row["id"] for row in spark.read.format("delta").load(str(tmp_path)).collect()] == [2]
    spark.range(3, 4).coalesce(1).write.format("delta").mode("overwrite").save(str(tmp_path))
    before = files()
    with upkeep_of(Lake(spark, str(tmp_path)), "run"):  # for a VACUUM of few tasks
        spark.sql(f"VACUUM {name}")
    gone = before - files()
    assert (len(before), len(gone)) == (4, 2), "what was replaced ten days ago goes, what was replaced now stays"
    oldest = spark.sql(f"DESCRIBE HISTORY {name}").selectExpr("min(unix_timestamp(timestamp)) AS at").collect()[0]["at"]
    assert 9.9 < (time.time() - oldest) / 86_400 < 10.1
