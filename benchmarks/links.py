"""How many links: accuracy, bytes and time of LIME-XOR for L from 4 to 128, to find the elbow.

Accuracy is that of benchmarks.accuracy, one training a number of links. Bytes are those of a user's row of
`link_embeddings` and of an item's packed candidate weights; milliseconds those of benchmarks.latency: a user with
256 events, 32,768 candidates, the MLP head.
"""

import argparse
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from benchmarks.accuracy import QUICK, trained_run
from benchmarks.contenders import MODELS
from benchmarks.data_set import data_of, data_parser
from benchmarks.harness import Figure, present, say, table
from benchmarks.interactions import Interactions
from benchmarks.latency import Sides, settings, sides
from benchmarks.pictures import Lines, add_picture, draw
from benchmarks.rankers import recipe_of
from lime_model.config import ModelConfig, TrainConfig
from lime_model.validation import RankingMetrics, ranking_metrics
from schemas.errors import LimeError

LINKS = (4, 8, 16, 32, 64, 128)
EVENTS, CANDIDATES = 256, 32_768
FLOAT = 4  # bytes
NAME = "lime-xor"


@dataclass(frozen=True)
class Point:
    """One number of links."""

    links: int
    found: RankingMetrics
    validation: float
    user_bytes: int
    item_bytes: int
    time: Sides


def point(
    data: Interactions, links: int, train: TrainConfig, state: Path | None, candidates: int, rounds: int
) -> Point:
    """Train, rank, count, time."""
    model = replace(MODELS[NAME], links=links)
    run = trained_run(data, NAME, *recipe_of(data, model, train), state)
    timed = replace(settings(NAME, EVENTS), links=links)
    return Point(
        links,
        ranking_metrics(torch.tensor(run.ranks)),
        run.validation,
        FLOAT * links * model.width,
        item_bytes(timed),
        sides(timed, candidates, rounds),
    )


def item_bytes(config: ModelConfig) -> int:
    """Of an item's A, G and b under the MLP head, as they are packed."""
    return FLOAT * (config.heads * config.links + config.score_width + 1)


def figures_of(points: Sequence[Point]) -> list[Figure]:
    """One claim a column and number of links."""
    found = []
    for at in points:
        error = {"standard_error": at.found.ndcg10_error}
        found += [
            Figure(f"{at.links} links ndcg@10", at.found.ndcg10, "", None, error),
            Figure(f"{at.links} links validation ndcg@10", at.validation),
            Figure(f"{at.links} links bytes of a user", float(at.user_bytes)),
            Figure(f"{at.links} links bytes of an item", float(at.item_bytes)),
            Figure(f"{at.links} links milliseconds of a user", 1e3 * at.time.whole, "ms"),
        ]
    return found


def say_points(points: Sequence[Point]) -> None:
    """The same, a row a number of links."""
    heads = ("links", "ndcg@10", "hr@10", "validation", "bytes a user", "bytes an item", "history ms", "pairs ms")
    rows = [
        (
            f"{at.links}",
            f"{at.found.ndcg10:.4f}",
            f"{at.found.hr10:.4f}",
            f"{at.validation:.4f}",
            f"{at.user_bytes:,}",
            f"{at.item_bytes:,}",
            f"{1e3 * at.time.history:.2f}",
            f"{1e3 * at.time.candidates:.2f}",
        )
        for at in points
    ]
    say("\n".join(table([heads, *rows])))


def arg_parser() -> argparse.ArgumentParser:
    """The program's arguments."""
    arguments = data_parser("links", "Accuracy, bytes and time of LIME-XOR by the number of links.")
    add_picture(arguments)
    return arguments


def main(argv: Sequence[str] | None = None) -> int:
    """Run, print, draw, write."""
    args = arg_parser().parse_args(argv)
    links, train, candidates, rounds = ((4, 8), QUICK, 256, 1) if args.quick else (LINKS, TrainConfig(), CANDIDATES, 7)
    try:
        data = data_of(args)
    except LimeError as error:
        say(f"error: {error}")
        return error.exit_code
    points = [point(data, count, train, args.state, candidates, rounds) for count in links]
    say_points(points)
    present(f"links of {NAME}", figures_of(points), args.json)
    if args.picture:
        draw(panels(points), args.picture)
    return 0


def panels(points: Sequence[Point]) -> list[Lines]:
    """Accuracy and time by links."""
    accuracy = {
        "test": [(float(at.links), at.found.ndcg10) for at in points],
        "validation": [(float(at.links), at.validation) for at in points],
    }
    times = {
        "history": [(float(at.links), 1e3 * at.time.history) for at in points],
        "candidates": [(float(at.links), 1e3 * at.time.candidates) for at in points],
    }
    return [
        Lines("accuracy", "links", "NDCG@10", accuracy, log_y=False),
        Lines("time", "links", "milliseconds a user", times),
    ]


if __name__ == "__main__":
    sys.exit(main())
