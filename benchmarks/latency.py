"""Time of one user by the number of candidates and by the length of the history, model by model.

A LIME or ELASTIC user costs one pass over the history, then the scoring kernel over cached candidates. For the
target-aware transformer the history is encoded once as well, and then every candidate attends to all of it. Weights
are as they are before training: they change no time. Candidates' own halves are made beforehand for every model, and
every model has one core.
"""

import argparse
import math
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from statistics import median

import torch
from torch import Tensor

from benchmarks.contenders import MODELS, TRANSFORMER
from benchmarks.harness import Figure, parser, present, say, table
from benchmarks.pictures import Lines, add_picture, draw
from benchmarks.synthetic import all_eligible, some_seen
from benchmarks.transformer import Transformer
from lime_model.batches import Events, ItemInputs
from lime_model.candidates import ScoreHead, candidates_of
from lime_model.config import ModelConfig
from lime_model.features import FeatureSpec
from lime_model.model import Lime
from lime_model.scoring import open_scorer
from lime_model.validation import PAIR_NUMBERS
from lime_model.vocabulary import Vocabulary

NAMES = ("lime-xor", "lime-mha", "elastic", TRANSFORMER)
CANDIDATES, LENGTHS = tuple(2**n for n in range(6, 16)), tuple(2**n for n in range(6, 15))
LENGTH, COUNT = 256, 2048  # what stays while the other moves
K = 20
Curves = Mapping[str, Mapping[int, "Sides"]]  # model -> candidates or history length -> seconds
TARGET = {"transformer over lime 32,768": 30.0}


@dataclass(frozen=True)
class Sides:
    """Seconds of one user: reading the history, and scoring the candidates."""

    history: float
    candidates: float

    @property
    def whole(self) -> float:
        return self.history + self.candidates


def settings(name: str, length: int) -> ModelConfig:
    """The benchmarked form of a model: the MLP head where there are links."""
    config = replace(MODELS[name], max_history=length + 1, dropout=0.0)
    return config if name == TRANSFORMER else replace(config, head="mlp")


def sides(config: ModelConfig, count: int, rounds: int, make: type[Lime] = Lime) -> Sides:
    """Medians over rounds, the first call discarded. The history is as long as the model reads."""
    torch.manual_seed(0)
    vocabulary = Vocabulary(tuple(f"{n:06d}" for n in range(count)), config.buckets)
    model = make(config, vocabulary, FeatureSpec((), (), ("event",))).eval()
    events = _events(config.max_history - 1)
    with torch.inference_mode(), one_core():
        vectors = model.tower(_items(torch.randint(1, count + 1, events.event_ts.shape)))

        def read() -> Tensor:
            return model.links_at_cuts(vectors, events, events.length[:, None])[:, 0]

        P, items = read(), _items(torch.arange(1, count + 1))
        score = _attends(model, items) if isinstance(model, Transformer) else _scores(model, items)
        return Sides(_median(read, rounds), _median(lambda: score(P), rounds))


@contextmanager
def one_core() -> Iterator[None]:
    """Torch on as many cores as the kernel has: one."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def _scores(model: Lime, items: ItemInputs) -> Callable[[Tensor], object]:
    """The scoring kernel over cached candidates."""
    weights, (g, w), count = model.candidate_weights(items), model.constants(), len(items.ids)
    head = ScoreHead(model.fold(), g, w, True, "untrained")
    scorer = open_scorer(candidates_of([f"{n:06d}" for n in range(count)], weights, head), K)
    seen, eligible = some_seen(count, 1, 0), all_eligible(count, 1)
    return lambda P: scorer.top_k(P, seen, eligible)


def _attends(model: Transformer, items: ItemInputs) -> Callable[[Tensor], object]:
    """Cross-attention of blocks of candidates, and the best of all."""
    weights = model.weights_of(model.tower(items))

    def score(P: Tensor) -> object:
        block = max(64, PAIR_NUMBERS // model.units_per_pair)
        scores = torch.cat([model.score_all(P, part) for part in weights.split(block)], dim=1)
        return torch.topk(scores, min(K, scores.shape[1]))

    return score


def _items(ids: Tensor) -> ItemInputs:
    none = torch.zeros(*ids.shape, 0)
    return ItemInputs(ids, none.long(), none, none)


def _events(length: int) -> Events:
    times = torch.arange(length)[None] * 3_600_000_000
    return Events(torch.ones(1, length, dtype=torch.int64), times, torch.tensor([length]))


def _median(call: Callable[[], object], rounds: int) -> float:
    call()
    seconds = []
    for _ in range(rounds):
        start = time.perf_counter()
        call()
        seconds.append(time.perf_counter() - start)
    return median(seconds)


def slope(points: Mapping[int, float]) -> float:
    """How time grows at the end of the curve: 1 is linear, 0 is flat, from the last two doublings."""
    xs = sorted(points)[-3:]
    return math.log(points[xs[-1]] / points[xs[0]]) / math.log(xs[-1] / xs[0])


def crossing(curve: Mapping[int, Sides]) -> float:
    """Candidates from which on scoring costs more than reading the history; infinite where that is never."""
    return next((float(count) for count in sorted(curve) if curve[count].candidates > curve[count].history), math.inf)


def say_curves(what: str, curves: Curves) -> None:
    """Milliseconds: reading the history, and scoring the candidates."""
    rows = [(what, *(f"{name} {side}" for name in curves for side in ("history", "pairs")))]
    for x in next(iter(curves.values())):
        cells = [(f"{1e3 * at[x].history:.2f}", f"{1e3 * at[x].candidates:.2f}") for at in curves.values()]
        rows.append((f"{x:,}", *(cell for pair in cells for cell in pair)))
    say(f"\nmilliseconds a user by {what}\n" + "\n".join(table(rows)))


def figures_of(by_count: Curves, by_length: Curves) -> list[Figure]:
    """Slopes of every model, where the kernel takes over, and the claim."""
    found = []
    for name in by_count:
        history = {length: at.history for length, at in by_length[name].items()}
        pairs = {count: at.candidates for count, at in by_count[name].items()}
        found.append(Figure(f"{name} slope of the history's time in N", slope(history)))
        found.append(Figure(f"{name} slope of the pairs' time in C", slope(pairs)))
    found.append(Figure("candidates from which lime-xor's pairs cost more", crossing(by_count["lime-xor"])))
    for count in by_count["lime-xor"]:
        claim = f"transformer over lime {count:,}"
        ratio = by_count[TRANSFORMER][count].whole / by_count["lime-xor"][count].whole
        found.append(Figure(claim, ratio, "", TARGET.get(claim)))
    return found


def arg_parser() -> argparse.ArgumentParser:
    """The program's arguments."""
    arguments = parser("latency", "Milliseconds a user by candidates and by history, for LIME and what it replaces.")
    add_picture(arguments)
    return arguments


def main(argv: Sequence[str] | None = None) -> int:
    """Run, print, draw, write."""
    args = arg_parser().parse_args(argv)
    counts, lengths = ((64, 128, 256), (64, 128, 256)) if args.quick else (CANDIDATES, LENGTHS)
    rounds = 2 if args.quick else 7
    by_count = {name: {count: _sides(name, LENGTH, count, rounds) for count in counts} for name in NAMES}
    by_length = {name: {length: _sides(name, length, COUNT, rounds) for length in lengths} for name in NAMES}
    say_curves(f"candidates, N = {LENGTH}", by_count)
    say_curves(f"history length, {COUNT:,} candidates", by_length)
    present("time of one user", figures_of(by_count, by_length), args.json)
    if args.picture:
        draw(
            [
                _panel(f"history of {LENGTH} events", "candidates", by_count),
                _panel(f"{COUNT:,} candidates", "events of the history", by_length),
            ],
            args.picture,
        )
    return 0


def _sides(name: str, length: int, count: int, rounds: int) -> Sides:
    return sides(settings(name, length), count, rounds, Transformer if name == TRANSFORMER else Lime)


def _panel(title: str, x: str, curves: Curves) -> Lines:
    lines = {name: [(float(at), 1e3 * found.whole) for at, found in curve.items()] for name, curve in curves.items()}
    return Lines(title, x, "milliseconds a user", lines)


if __name__ == "__main__":
    sys.exit(main())
