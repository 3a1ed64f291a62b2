"""MovieLens-100k as raw files, the demonstration's source: one event file a UTC day, catalogue and users.

The ratings are in the `recbole` wheel, which is downloaded and never installed. Their licence (GroupLens,
University of Minnesota) allows research use and forbids redistribution: nothing of the data is in this
repository, and what is written here must not be committed or passed on.
"""

import argparse
import hashlib
import logging
import subprocess
import sys
import tempfile
import zipfile
from collections import defaultdict
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path

from schemas.errors import InputError, RetryableError

log = logging.getLogger("lime")

PACKAGE = "recbole==1.2.1"
FOLDER = "recbole/dataset_example/ml-100k"
SHA256 = {
    "ml-100k.inter": "4edb74e2a81178c2ba9ff381495f754f996c4aea351b1272ca36b43da0935eff",
    "ml-100k.item": "51d7cdf777ce5c0f5b32c1d947a4a81fe07d75e78abbe761e0cd4d0756064532",
    "ml-100k.user": "4f670007d9cfbeb9807e757209af1555b9bcc186bde25e767f67cb67c6dd5972",
}
EVENTS_HEADER = "user_id\titem_id\trating\ttimestamp\tline"
ITEMS_HEADER = "item_id\ttitle\trelease_year\tgenres"
USERS_HEADER = "user_id\tage\tgender\toccupation\tzip_code"


def fetch(into: Path) -> Path:
    """Make `into` hold the source files, byte for byte; downloads unless intact originals are there."""
    kept = _kept_originals(into / "raw")
    files = source_files(kept or download())
    if into.exists():
        repaired = _write_files(into, files)
        state = f"{repaired} files written" if repaired else "there and intact"
        log.info("MovieLens-100k in %s: %s", into, state)
        return into
    into.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=into.parent, prefix=f".{into.name}-") as folder:
        whole = Path(folder) / into.name
        _write_files(whole, files)
        whole.rename(into)  # readers see all files or none
    log.info("MovieLens-100k written to %s: %d files", into, len(files))
    return into


def download() -> dict[str, bytes]:
    """The three originals out of the wheel, as pip gets it from the index that the user has configured."""
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--dest", folder, PACKAGE]
        answer = subprocess.run(command, capture_output=True, text=True, check=False)
        wheels = list(Path(folder).glob("recbole-*.whl"))
        if answer.returncode or not wheels:
            raise RetryableError(
                f"MovieLens-100k could not be downloaded, for pip did not get {PACKAGE}: check network, "
                f"proxy or pip's settings and type the command again."
            )
        with zipfile.ZipFile(wheels[0]) as wheel:
            originals = {name: wheel.read(f"{FOLDER}/{name}") for name in SHA256}
    for name, content in originals.items():
        if not _is_original(name, content):
            found = hashlib.sha256(content).hexdigest()
            raise InputError(f"{PACKAGE}, {name}: expected SHA-256 {SHA256[name]}, found {found}")
    return originals


def source_files(originals: Mapping[str, bytes]) -> dict[str, bytes]:
    """File name in the target folder -> content: the originals and what is derived from them."""
    derived = {
        **_events_by_day(_rows(originals["ml-100k.inter"])),
        "items.tsv": _table(ITEMS_HEADER, [_item(row) for row in _rows(originals["ml-100k.item"])]),
        "users.tsv": _table(USERS_HEADER, _rows(originals["ml-100k.user"])),
    }
    raw = {f"raw/{name}": content for name, content in originals.items()}
    return raw | {name: text.encode() for name, text in derived.items()}


def _events_by_day(ratings: list[list[str]]) -> dict[str, str]:
    """One file a UTC day. `line` is its place in the original, which orders events of one second."""
    days: defaultdict[str, list[list[str]]] = defaultdict(list)
    for line, rating in enumerate(ratings, start=2):  # the header is line 1
        day = datetime.fromtimestamp(int(rating[3]), UTC).date()
        days[f"events/{day}.tsv"].append([*rating, str(line)])
    return {name: _table(EVENTS_HEADER, rows) for name, rows in days.items()}


def _item(row: list[str]) -> list[str]:
    """A catalogue row; a year that is no number and the genre `unknown` mean nothing is known."""
    item_id, title, year, genres = row
    return [item_id, title, year if year.isdigit() else "", "" if genres == "unknown" else genres]


def _rows(content: bytes) -> list[list[str]]:
    """Fields of every line after the header."""
    return [line.split("\t") for line in content.decode().splitlines()[1:]]


def _table(header: str, rows: list[list[str]]) -> str:
    """Tab-separated text."""
    return "\n".join([header, *("\t".join(row) for row in rows), ""])


def _is_original(name: str, content: bytes) -> bool:
    return hashlib.sha256(content).hexdigest() == SHA256[name]


def _kept_originals(folder: Path) -> dict[str, bytes] | None:
    """The originals as an earlier fetch left them, or None where one is missing or damaged."""
    paths = {name: folder / name for name in SHA256}
    if not all(path.is_file() for path in paths.values()):
        return None
    originals = {name: path.read_bytes() for name, path in paths.items()}
    return originals if all(_is_original(name, content) for name, content in originals.items()) else None


def _write_files(folder: Path, files: Mapping[str, bytes]) -> int:
    """Write the files that are not there byte for byte, each whole or not at all; returns how many."""
    damaged = {
        folder / name: content
        for name, content in files.items()
        if not (folder / name).is_file() or (folder / name).read_bytes() != content
    }
    for path, content in damaged.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        partial = path.with_name(f".{path.name}.partial")
        partial.write_bytes(content)
        partial.replace(path)
    return len(damaged)


def arg_parser() -> argparse.ArgumentParser:
    """Arguments of `lime fetch-movielens`."""
    parser = argparse.ArgumentParser(
        prog="lime fetch-movielens",
        description="Get MovieLens-100k (research use, redistribution forbidden) as raw files of days.",
        epilog="example: lime fetch-movielens --into data/movielens-100k",
    )
    parser.add_argument("--into", type=Path, required=True, metavar="DIR", help="folder of the raw files")
    return parser


def main(argv: list[str] | None = None) -> int:
    """`lime fetch-movielens`."""
    fetch(arg_parser().parse_args(argv).into)
    return 0
