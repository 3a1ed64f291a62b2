"""Test NDCG@10 and HR@10 under the protocol of DESIGN.md section 2, on MovieLens-100k or one's own file.

Every rating is an event. Order within a user is (timestamp, line number). Test = last event, validation = the one
before (in the test history), training = the rest; nothing is retrained. All items of the file are ranked except those
already in the user's history (`--keep-seen` keeps them). Rank = 1 + the number of other items scoring at least as
high. Hyper-parameters were chosen on validation.
"""

import argparse
import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from statistics import fmean, stdev

import torch
from torch import Tensor

from benchmarks.bootstrap import paired_interval
from benchmarks.contenders import MODELS, TRANSFORMER, Settings, contender, read_settings
from benchmarks.data_set import data_of, data_parser
from benchmarks.harness import Figure, chip, present, say
from benchmarks.interactions import Interactions
from benchmarks.pictures import Lines, add_picture, draw
from benchmarks.rankers import Score, direct_score, item_knn, popularity, recipe_of, trained_score
from benchmarks.transformer import Transformer
from lime_model.checkpoint import fingerprint
from lime_model.config import TrainConfig
from lime_model.model import Lime
from lime_model.recipe import Recipe
from lime_model.train import TrainedModel, train, training_device
from lime_model.validation import RankingMetrics, ndcg_gains, rank_of, ranking_metrics
from lime_model.windows import WindowSet
from schemas.errors import InputError, LimeError

SIMPLE = {"popularity": popularity, "item-knn": item_knn}
# Stated for MovieLens-100k only; another file has no target.
TARGETS = {"lime-xor ndcg@10": 0.080, "lime-xor hr@10": 0.165, "lime-xor seconds per seed": 300.0}
QUICK = replace(TrainConfig(), steps=40, validate_every=20, warmup_steps=5)
_USERS_PER_BLOCK = 256


@dataclass(frozen=True)
class Run:
    """One seed of a trained model: the rank of every tested user's last event, and how it was reached."""

    ranks: list[int]
    validation: float
    seconds: float
    steps: int
    best_step: int
    trained_on: str  # the CPU or GPU


def last_ranks(data: Interactions, score: Score, keep_seen: bool) -> Tensor:
    """Ranks of every tested user's last event [users]."""
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
    return torch.cat(ranks)


def trained_run(data: Interactions, name: str, recipe: Recipe, source: WindowSet, state: Path | None) -> Run:
    """Train one seed; one that `state` knows is not trained again, one that was interrupted goes on."""
    seed = recipe.train.seed
    kept = state / name / f"{seed}-{fingerprint(recipe, source)}.json" if state else None
    if kept and kept.exists():
        say(f"{name}, seed {seed}: taken from {kept}")
        return _finished(kept)
    trained = trained_model(name, recipe, source, state)
    scored = direct_score if name == TRANSFORMER else trained_score
    ranks = last_ranks(data, scored(data, recipe, trained), not recipe.train.exclude_seen)
    on = chip(training_device(recipe.train))
    run = Run(ranks.tolist(), trained.validation.ndcg10, trained.seconds, trained.steps, trained.best_step, on)
    if kept:
        kept.parent.mkdir(parents=True, exist_ok=True)
        kept.write_text(json.dumps(asdict(run)))
    return run


def _finished(file: Path) -> Run:
    try:
        return Run(**json.loads(file.read_text()))
    except (TypeError, ValueError) as error:
        raise InputError(f"{file}: expected a run of this version, found {error}; delete it to train again") from error


def trained_model(name: str, recipe: Recipe, source: WindowSet, state: Path | None) -> TrainedModel:
    """Train one seed; with `state`, on from its checkpoint, be it the last."""
    make = Transformer if name == TRANSFORMER else Lime

    def report(line: str) -> None:
        say(f"  {name}, seed {recipe.train.seed}: {line}")

    return train(recipe, source, state / name if state else None, report, make)


def simple_figures(name: str, found: RankingMetrics, targets: dict[str, float]) -> list[Figure]:
    """Figures of a model without a seed."""
    spread = {"standard_error": found.ndcg10_error, "users": found.users}
    return [
        _figure(f"{name} ndcg@10", found.ndcg10, targets, spread),
        _figure(f"{name} hr@10", found.hr10, targets, {"users": found.users}),
    ]


def trained_figures(name: str, runs: Sequence[Run], targets: dict[str, float]) -> list[Figure]:
    """Mean over seeds; each seed's figures and the standard error over users in the spread."""
    found = [ranking_metrics(torch.tensor(run.ranks)) for run in runs]
    ndcg, hr, validation = [m.ndcg10 for m in found], [m.hr10 for m in found], [run.validation for run in runs]
    seconds, error = [run.seconds for run in runs], fmean(m.ndcg10_error for m in found)
    on = ", ".join(sorted({run.trained_on for run in runs}))
    return [
        _figure(f"{name} ndcg@10", fmean(ndcg), targets, {**_over_seeds(ndcg), "standard_error": error}),
        _figure(f"{name} hr@10", fmean(hr), targets, _over_seeds(hr)),
        _figure(f"{name} validation ndcg@10", fmean(validation), targets, _over_seeds(validation)),
        _figure(f"{name} seconds per seed", fmean(seconds), targets, {**_over_seeds(seconds), "trained_on": on}, "s"),
    ]


def differences(gains: Mapping[str, Tensor]) -> list[Figure]:
    """LIME-XOR's NDCG@10 less each other model's, over the same users, with its 95 % interval."""
    ours = gains.get("lime-xor")
    if ours is None:
        return []
    found = []
    for name, theirs in gains.items():
        if name != "lime-xor":
            mean, low, high = paired_interval(ours, theirs)
            found.append(Figure(f"lime-xor less {name}", mean, "", None, {"interval": [low, high]}))
    return found


def _over_seeds(values: list[float]) -> dict[str, object]:
    return {"seeds": values, "deviation": stdev(values) if len(values) > 1 else 0.0}


def _figure(
    claim: str, value: float, targets: dict[str, float], spread: Mapping[str, object], unit: str = ""
) -> Figure:
    return Figure(claim, value, unit, targets.get(claim), spread)


def arg_parser() -> argparse.ArgumentParser:
    """The program's arguments."""
    arguments = data_parser("accuracy", "Accuracy on MovieLens-100k, or on --data, under the stated protocol.")
    arguments.add_argument("--seeds", type=int, default=3, metavar="COUNT", help="seeds of a trained model")
    one_of = [*MODELS, *SIMPLE]
    arguments.add_argument("--model", choices=one_of, action="append", help="one of those to compare; default: all")
    arguments.add_argument("--settings", type=Path, metavar="FILE", help="TOML: [all.train], [sasrec.model], ...")
    add_picture(arguments)
    arguments.add_argument("--keep-seen", action="store_true", help="rank items of the history too (repeats)")
    return arguments


def main(argv: Sequence[str] | None = None) -> int:
    """Run, print, write."""
    args = arg_parser().parse_args(argv)
    try:
        data = data_of(args)
        if args.seeds < 1 or not data.tested():
            raise InputError("expected at least one seed and one user with three events, found none")
        figures = compared(data, args)
    except LimeError as error:
        say(f"error: {error}")
        return error.exit_code
    title = f"accuracy on {args.data or 'MovieLens-100k'}: {len(data.tested())} users, {len(data.items)} items"
    present(title, figures, args.json)
    if args.picture:
        draw([panel(figures)], args.picture)
    return 0


def panel(figures: Sequence[Figure]) -> Lines:
    """Each trained model at its seconds and its accuracy."""
    values = {figure.claim: figure.value for figure in figures}
    trained = {name: f"{name} seconds per seed" for name in MODELS if f"{name} seconds per seed" in values}
    points = {name: [(values[seconds], values[f"{name} ndcg@10"])] for name, seconds in trained.items()}
    return Lines("accuracy and what it takes", "seconds to train", "NDCG@10", points, log_y=False)


def compared(data: Interactions, args: argparse.Namespace) -> list[Figure]:
    """Figures of each model that is asked for, and their differences."""
    settings = read_settings(args.settings) if args.settings else {}
    targets = {} if args.data or args.quick else TARGETS
    figures, gains = [], {}
    for name in args.model or [*MODELS, *SIMPLE]:
        if name in SIMPLE:
            ranks = last_ranks(data, SIMPLE[name](data), args.keep_seen)
            figures += simple_figures(name, ranking_metrics(ranks), targets)
            gains[name] = ndcg_gains(ranks)
        else:
            runs = _runs(data, name, args, settings)
            figures += trained_figures(name, runs, targets)
            gains[name] = torch.stack([ndcg_gains(torch.tensor(run.ranks)) for run in runs]).mean(0)
    return figures + differences(gains)


def _runs(data: Interactions, name: str, args: argparse.Namespace, settings: Settings) -> list[Run]:
    """All seeds of one model."""
    model, config = contender(name, QUICK if args.quick else TrainConfig(), settings)
    config = replace(config, exclude_seen=not args.keep_seen)
    seeds = 1 if args.quick else args.seeds
    recipe, source = recipe_of(data, model, config)
    say(f"{name}: {seeds} seeds, model {asdict(recipe.model)}, training {asdict(config)}")
    runs = []
    for seed in range(1, seeds + 1):
        run = trained_run(data, name, replace(recipe, train=replace(config, seed=seed)), source, args.state)
        say(f"{name}, seed {seed}: best step {run.best_step} of {run.steps}, {run.seconds:.0f} s")
        runs.append(run)
    return runs


if __name__ == "__main__":
    sys.exit(main())
