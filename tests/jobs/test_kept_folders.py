"""Folders beside the tables, on the local file system and on one that is not: whole, marked, two kept."""

import os
import time
from pathlib import Path

import pytest
from pyspark.sql import SparkSession

from jobs.kept_folders import KeptFolders, local_files


@pytest.fixture(params=["local", "far"])
def root(request: pytest.FixtureRequest, spark: SparkSession, tmp_path: Path) -> str:
    """The folder `kept`, named as this host's and through a file system that says it is not."""
    if request.param == "local":
        return f"{tmp_path}/kept"
    mount = f"fs.viewfs.mounttable.kept{abs(hash(tmp_path))}.link./all"
    spark._jsc.hadoopConfiguration().set(mount, f"file://{tmp_path}")
    return f"viewfs://{mount.split('.')[3]}/all/kept"


def publish(folders: KeptFolders, name: str, content: str = "x", mark: str = "m") -> None:
    with folders.work_folder() as work:
        (work / "file").write_text(content)
        folders.publish(work, name, mark)
    time.sleep(0.02)  # the times of marks must differ


def test_a_folder_is_there_whole_with_its_files_and_marks(spark: SparkSession, root: str, tmp_path: Path) -> None:
    folders = KeptFolders(spark, root)
    assert folders.folders() == []
    publish(folders, "a", "four", "first")
    folders.mark("a", "second")
    (found,) = folders.folders()
    assert (found.name, found.files, set(found.marks)) == ("a", {"file": 4}, {"first", "second"})
    assert (tmp_path / "kept" / "a" / "file").read_text() == "four"
    assert {p.name for p in (tmp_path / "kept").iterdir()} == {"a"}
    assert folders.uri("a", "file") == f"{root if '://' in root else f'file:{root}'}/a/file"


def test_whoever_comes_second_leaves_what_is_there(spark: SparkSession, root: str, tmp_path: Path) -> None:
    folders = KeptFolders(spark, root)
    publish(folders, "a", "first")
    publish(folders, "a", "second", "other mark")
    assert (tmp_path / "kept" / "a" / "file").read_text() == "first"
    assert set(folders.folders()[0].marks) == {"m", "other mark"}
    assert {p.name for p in (tmp_path / "kept").iterdir()} == {"a"}


@pytest.mark.parametrize("root", ["far"], indirect=True)
def test_a_copy_that_was_not_finished_is_replaced(spark: SparkSession, root: str, tmp_path: Path) -> None:
    (tmp_path / "kept" / "a").mkdir(parents=True)
    (tmp_path / "kept" / "a" / "file").write_text("hal")
    publish(KeptFolders(spark, root), "a", "half")
    assert (tmp_path / "kept" / "a" / "file").read_text() == "half"


def test_the_two_last_used_are_kept_and_what_is_needed(spark: SparkSession, root: str) -> None:
    folders = KeptFolders(spark, root)
    for name in ("a", "b", "c", "d"):
        publish(folders, name)
    folders.mark("a", "m")
    folders.remove_older({"b"})
    assert [folder.name for folder in folders.folders()] == ["a", "d", "b"]


def test_what_was_never_finished_is_swept_up_after_a_day(spark: SparkSession, root: str, tmp_path: Path) -> None:
    for name, age in ((".packing-old", 25 * 3600), (".packing-new", 60)):
        (tmp_path / "kept" / name).mkdir(parents=True)
        os.utime(tmp_path / "kept" / name, (time.time() - age,) * 2)
    folders = KeptFolders(spark, root)
    assert folders.folders() == []
    folders.remove_older(set())
    assert {p.name for p in (tmp_path / "kept").iterdir()} == {".packing-new"}


def test_a_work_folder_does_not_outlive_a_failure(spark: SparkSession, root: str) -> None:
    folders = KeptFolders(spark, root)
    with pytest.raises(RuntimeError), folders.work_folder() as work:
        raise RuntimeError("packing failed")
    assert not work.exists()


def test_files_are_local_one_at_a_time_in_order_of_name(spark: SparkSession, root: str, tmp_path: Path) -> None:
    (tmp_path / "kept").mkdir()
    for name in ("part-2", "part-1", "_SUCCESS"):
        (tmp_path / "kept" / name).write_text(name)
    seen = [(path, path.read_text()) for path in local_files(spark, root, "part-*")]
    assert [text for _, text in seen] == ["part-1", "part-2"]
    assert {path.exists() for path, _ in seen} == {"://" not in root}, "copies are gone, the originals are not"
