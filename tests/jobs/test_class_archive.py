"""The archive is an ordinary night's work; here only that work, since making the file takes half a minute."""

from pathlib import Path

import pytest
from pyspark.sql import SparkSession

from jobs import class_archive
from jobs.class_archive import exercise, make_archive


def test_the_work_leaves_one_row_a_user(spark: SparkSession, tmp_path: Path) -> None:
    exercise(spark, tmp_path / "table")
    rows = spark.read.format("delta").load(str(tmp_path / "table")).orderBy("user").collect()
    assert [row.user for row in rows] == [f"u{number}" for number in range(7)]


def test_an_archive_that_is_there_is_kept(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    file = tmp_path / "classes.jsa"
    file.write_text("kept")
    monkeypatch.setattr(class_archive, "archive_file", lambda: file)
    make_archive()
    assert file.read_text() == "kept"
