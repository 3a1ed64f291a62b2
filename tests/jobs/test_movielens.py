"""The data step: what is written, that it is whole, and that it is never downloaded twice."""

import hashlib
import subprocess
import zipfile
from pathlib import Path
from typing import Any

import pytest

from jobs import movielens
from jobs.movielens import FOLDER, fetch, main, source_files
from schemas.errors import InputError, RetryableError

# A file of the same shape, with invented people and films.
ORIGINALS = {
    "ml-100k.inter": (
        b"user_id:token\titem_id:token\trating:float\ttimestamp:float\n"
        b"7\t1\t3\t881250949\n"  # 1997-12-04, line 2
        b"8\t2\t5\t881193599\n"  # one second before midnight of the day before, line 3
        b"7\t2\t4\t881193600\n"  # midnight belongs to the day that begins, line 4
    ),
    "ml-100k.item": (
        b"item_id:token\tmovie_title:token_seq\trelease_year:token\tclass:token_seq\n"
        b"1\tFirst Film\t1995\tAnimation Children's\n"
        b"2\tNo Year\tV\tunknown\n"  # neither a year nor a genre is known
    ),
    "ml-100k.user": (
        b"user_id:token\tage:token\tgender:token\toccupation:token\tzip_code:token\n"
        b"7\t24\tM\ttechnician\tE2A4H\n"
        b"8\t53\tF\tother\t94043\n"
    ),
}


@pytest.fixture
def downloads(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The originals above instead of the real ones; one entry a download."""
    calls: list[str] = []

    def download() -> dict[str, bytes]:
        calls.append("download")
        return ORIGINALS

    digests = {name: hashlib.sha256(content).hexdigest() for name, content in ORIGINALS.items()}
    monkeypatch.setattr(movielens, "SHA256", digests)
    monkeypatch.setattr(movielens, "download", download)
    return calls


def test_events_are_files_of_utc_days_and_keep_their_line_in_the_original() -> None:
    files = source_files(ORIGINALS)
    header = "user_id\titem_id\trating\ttimestamp\tline\n"
    assert files["events/1997-12-03.tsv"].decode() == header + "8\t2\t5\t881193599\t3\n"
    assert (
        files["events/1997-12-04.tsv"].decode() == header + "7\t1\t3\t881250949\t2\n7\t2\t4\t881193600\t4\n"
    )


def test_what_the_catalogue_does_not_know_is_left_empty() -> None:
    written = source_files(ORIGINALS)["items.tsv"].decode().splitlines()
    assert written == [
        "item_id\ttitle\trelease_year\tgenres",
        "1\tFirst Film\t1995\tAnimation Children's",
        "2\tNo Year\t\t",
    ]


def test_users_and_the_originals_are_kept_as_they_are(downloads: list[str], tmp_path: Path) -> None:
    into = fetch(tmp_path / "data" / "movielens")
    assert (into / "users.tsv").read_text().splitlines()[1:] == [
        "7\t24\tM\ttechnician\tE2A4H",
        "8\t53\tF\tother\t94043",
    ]
    assert {name: (into / "raw" / name).read_bytes() for name in ORIGINALS} == ORIGINALS


def test_a_second_fetch_downloads_and_writes_nothing(downloads: list[str], tmp_path: Path) -> None:
    into = fetch(tmp_path / "movielens")
    before = {path: path.stat().st_mtime_ns for path in into.rglob("*")}
    fetch(into)
    assert {path: path.stat().st_mtime_ns for path in into.rglob("*")} == before
    assert downloads == ["download"]


def test_a_damaged_or_missing_day_is_made_again_from_the_kept_originals(
    downloads: list[str], tmp_path: Path
) -> None:
    into = fetch(tmp_path / "movielens")
    (into / "events" / "1997-12-03.tsv").write_text("torn")
    (into / "users.tsv").unlink()
    fetch(into)
    assert {
        str(path.relative_to(into)): path.read_bytes() for path in into.rglob("*.*") if path.is_file()
    } == (source_files(ORIGINALS))
    assert downloads == ["download"]


def test_a_damaged_original_is_downloaded_again(downloads: list[str], tmp_path: Path) -> None:
    into = fetch(tmp_path / "movielens")
    (into / "raw" / "ml-100k.inter").write_text("other data")
    fetch(into)
    assert (into / "raw" / "ml-100k.inter").read_bytes() == ORIGINALS["ml-100k.inter"]
    assert downloads == ["download", "download"]


def test_an_interrupted_first_fetch_leaves_nothing(
    downloads: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(self: Path, target: Path) -> Path:
        raise KeyboardInterrupt

    monkeypatch.setattr(Path, "rename", interrupted)
    with pytest.raises(KeyboardInterrupt):
        fetch(tmp_path / "movielens")
    assert list(tmp_path.iterdir()) == []


def test_a_wheel_with_other_data_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def download(command: list[str], **kwargs: Any) -> "subprocess.CompletedProcess[str]":
        wheel = Path(command[command.index("--dest") + 1]) / "recbole-1.2.1-py3-none-any.whl"
        with zipfile.ZipFile(wheel, "w") as archive:
            for name, content in ORIGINALS.items():
                archive.writestr(f"{FOLDER}/{name}", content)
        return subprocess.CompletedProcess(command, 0)

    monkeypatch.setattr(subprocess, "run", download)
    with pytest.raises(
        InputError, match=r"recbole==1\.2\.1, ml-100k\.inter: expected SHA-256 4edb74e2\w+, found"
    ):
        fetch(tmp_path / "movielens")
    assert not (tmp_path / "movielens").exists()


def test_no_network_is_one_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in (("INDEX_URL", "http://127.0.0.1:9/"), ("RETRIES", "0"), ("NO_CACHE_DIR", "1")):
        monkeypatch.setenv(f"PIP_{name}", value)
    with pytest.raises(
        RetryableError, match=r"could not be downloaded, for pip did not get recbole==1\.2\.1"
    ):
        fetch(tmp_path / "movielens")


def test_the_real_data_is_what_the_demonstration_counts_on(tmp_path: Path) -> None:
    into = tmp_path / "movielens"
    try:
        assert main(["--into", str(into)]) == 0
    except RetryableError as error:
        pytest.skip(str(error))
    days = sorted(path.stem for path in (into / "events").iterdir())
    lines = {name: len((into / name).read_text().splitlines()) - 1 for name in ("items.tsv", "users.tsv")}
    events = sum(len(path.read_text().splitlines()) - 1 for path in (into / "events").iterdir())
    assert (days[0], days[-1], events, lines) == (
        "1997-09-20",
        "1998-04-22",
        100_000,
        {"items.tsv": 1682, "users.tsv": 943},
    )
