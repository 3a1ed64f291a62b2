"""Test NDCG@10 and HR@10 under the protocol of DESIGN.md section 2, on MovieLens-100k or one's own file.

Every rating is an event. Order within a user is (timestamp, line number). Test = last event, validation = the one
before (in the test history), training = the rest; nothing is retrained. All items of the file are ranked except those
already in the user's history (`--keep-seen` keeps them). Rank = 1 + the number of other items scoring at least as
high. Hyper-parameters were chosen on validation.
"""

import argparse
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from statistics import fmean, stdev

import torch

from benchmarks.harness import Figure, parser, present, say
from benchmarks.interactions import Interactions, from_file, movielens_100k
from benchmarks.rankers import Score, item_knn, lime_xor, popularity
from jobs.movielens import fetch
from lime_model.config import ModelConfig, TrainConfig
from lime_model.validation import RankingMetrics, rank_of, ranking_metrics
from schemas.errors import LimeError

MODELS = ("lime-xor", "popularity", "item-knn")
# Stated for MovieLens-100k only; another file has no target.
TARGETS = {"lime-xor ndcg@10": 0.080, "lime-xor hr@10": 0.165, "lime-xor seconds per seed": 300.0}
QUICK = replace(TrainConfig(), steps=40, validate_every=20, warmup_steps=5)
_USERS_PER_BLOCK = 256


def ranked_metrics(data: Interactions, score: Score, keep_seen: bool) -> RankingMetrics:
    """Rank every tested user's last event."""
    place = {item: i for i, item in enumerate(data.items)}
    users = list(data.tested().values())
    ranks = []
    for start in range(0, len(users), _USERS_PER_BLOCK):
        block = slice(start, start + _USERS_PER_BLOCK)
        scores = score(block)
        targets = torch.tensor([place[events[-1].item_id] for events in users[block]])
        excluded = torch.zeros_like(scores, dtype=torch.bool)
        if not keep_seen:
            for row, events in enumerate(users[block]):
                excluded[row, [place[event.item_id] for event in events[:-1]]] = True
        ranks.append(rank_of(scores, targets, excluded))
    return ranking_metrics(torch.cat(ranks))


def simple_figures(name: str, found: RankingMetrics, targets: dict[str, float]) -> list[Figure]:
    """Figures of a model without a seed."""
    spread = {"standard_error": found.ndcg10_error, "users": found.users}
    return [
        _figure(f"{name} ndcg@10", found.ndcg10, targets, spread),
        _figure(f"{name} hr@10", found.hr10, targets, {"users": found.users}),
    ]


def lime_figures(
    data: Interactions, seeds: int, config: TrainConfig, keep_seen: bool, targets: dict[str, float]
) -> list[Figure]:
    """Mean over seeds; each seed's figures and the standard error over users in the spread."""
    found, validation, seconds = [], [], []
    for seed in range(1, seeds + 1):
        run = lime_xor(data, ModelConfig(), replace(config, seed=seed, exclude_seen=not keep_seen))
        found.append(ranked_metrics(data, run.score, keep_seen))
        validation.append(run.trained.validation.ndcg10)
        seconds.append(run.seconds)
        say(f"seed {seed}: best step {run.trained.best_step} of {run.trained.steps}, {run.seconds:.0f} s")
    ndcg, hr = [m.ndcg10 for m in found], [m.hr10 for m in found]
    error = fmean(m.ndcg10_error for m in found)
    return [
        _figure("lime-xor ndcg@10", fmean(ndcg), targets, {**_over_seeds(ndcg), "standard_error": error}),
        _figure("lime-xor hr@10", fmean(hr), targets, _over_seeds(hr)),
        _figure("lime-xor validation ndcg@10", fmean(validation), targets, _over_seeds(validation)),
        _figure("lime-xor seconds per seed", fmean(seconds), targets, _over_seeds(seconds), "s"),
    ]


def _over_seeds(values: list[float]) -> dict[str, object]:
    return {"seeds": values, "deviation": stdev(values) if len(values) > 1 else 0.0}


def _figure(
    claim: str, value: float, targets: dict[str, float], spread: Mapping[str, object], unit: str = ""
) -> Figure:
    return Figure(claim, value, unit, targets.get(claim), spread)


def arg_parser() -> argparse.ArgumentParser:
    """The program's arguments."""
    arguments = parser("accuracy", "Accuracy on MovieLens-100k, or on --data, under the stated protocol.")
    arguments.add_argument("--data", type=Path, metavar="FILE", help="lines `user item` or `user item timestamp`")
    arguments.add_argument("--seeds", type=int, default=3, metavar="COUNT", help="seeds of a trained model")
    arguments.add_argument("--model", choices=MODELS, help="only this one; default: all")
    arguments.add_argument("--keep-seen", action="store_true", help="rank items of the history too (repeats)")
    return arguments


def main(argv: Sequence[str] | None = None) -> int:
    """Run, print, write."""
    args = arg_parser().parse_args(argv)
    try:
        data = from_file(args.data) if args.data else _movielens()
    except LimeError as error:
        say(f"error: {error}")
        return error.exit_code
    if args.seeds < 1 or not data.tested():
        say("error: expected at least one seed and one user with three events, found none")
        return 5
    targets = {} if args.data or args.quick else TARGETS
    models = [args.model] if args.model else list(MODELS)
    figures = []
    if "lime-xor" in models:
        config, seeds = (QUICK, 1) if args.quick else (TrainConfig(), args.seeds)
        say(f"lime-xor: {seeds} seeds, model {asdict(ModelConfig())}, training {asdict(config)}")
        figures += lime_figures(data, seeds, config, args.keep_seen, targets)
    for name, ranker in (("popularity", popularity), ("item-knn", item_knn)):
        if name in models:
            figures += simple_figures(name, ranked_metrics(data, ranker(data), args.keep_seen), targets)
    title = f"accuracy on {args.data or 'MovieLens-100k'}: {len(data.tested())} users, {len(data.items)} items"
    present(title, figures, args.json)
    return 0


def _movielens() -> Interactions:
    """The originals, fetched beside the demonstration's data or, outside a clone, into a temporary folder."""
    default = Path("data/movielens-100k")
    if default.parent.is_dir() or Path("jobs/configs").is_dir():
        return movielens_100k(fetch(default) / "raw")
    with tempfile.TemporaryDirectory() as folder:
        return movielens_100k(fetch(Path(folder) / "ml-100k") / "raw")


if __name__ == "__main__":
    sys.exit(main())
