"""What the experiments on real interactions share: which data, and where a training is kept."""

import argparse
import tempfile
from pathlib import Path

from benchmarks.harness import parser
from benchmarks.interactions import Interactions, from_file, movielens_100k
from jobs.movielens import fetch


def data_parser(name: str, description: str) -> argparse.ArgumentParser:
    """The arguments of an experiment that trains on interactions."""
    arguments = parser(name, description)
    arguments.add_argument("--data", type=Path, metavar="FILE", help="lines `user item` or `user item timestamp`")
    arguments.add_argument("--state", type=Path, metavar="FOLDER", help="keep checkpoints and finished runs there")
    return arguments


def data_of(args: argparse.Namespace) -> Interactions:
    """The file that is asked for, or MovieLens-100k; raises InputError that names the line."""
    return from_file(args.data) if args.data else movielens()


def movielens() -> Interactions:
    """The originals, fetched beside the demonstration's data or, outside a clone, into a temporary folder."""
    default = Path("data/movielens-100k")
    if default.parent.is_dir() or Path("jobs/configs").is_dir():
        return movielens_100k(fetch(default) / "raw")
    with tempfile.TemporaryDirectory() as folder:
        return movielens_100k(fetch(Path(folder) / "ml-100k") / "raw")
