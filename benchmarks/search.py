"""A recorded search of hyper-parameters: every setting is trained and judged on validation, never on test.

The space is TOML: `[model]` and `[train]` with a list of values a key. Trials are drawn from it without repeats, the
same ones for the same seed. One that `--record` holds, of the same data and all the same settings, is not run again, so
a search may be stopped, and widened.
"""

import argparse
import itertools
import json
import random
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from benchmarks.accuracy import QUICK, trained_model
from benchmarks.contenders import MODELS, contender
from benchmarks.data_set import data_of, data_parser
from benchmarks.harness import Figure, chip, present, read_toml, say, table
from benchmarks.interactions import Interactions
from benchmarks.rankers import recipe_of
from lime_model.checkpoint import fingerprint
from lime_model.config import TrainConfig, require
from lime_model.recipe import Recipe
from lime_model.train import training_device
from lime_model.windows import WindowSet
from schemas.errors import ConfigError, LimeError

Setting = dict[str, dict[str, Any]]  # `model` and `train` -> key -> value
PARTS = ("model", "train")


def read_space(file: Path) -> dict[tuple[str, str], list[Any]]:
    """(part, key) -> values; raises ConfigError for anything else."""
    found = read_toml(file)
    wrong = [part for part, keys in found.items() if part not in PARTS or not isinstance(keys, dict)]
    space = {(part, key): found[part][key] for part in found if part not in wrong for key in found[part]}
    wrong += [f"{part}.{key}" for (part, key), values in space.items() if not isinstance(values, list) or not values]
    if wrong or not space:
        raise ConfigError(f"{file}: expected lists of values below [model] and [train], found {wrong or 'nothing'}")
    return space


def trials_of(space: Mapping[tuple[str, str], Sequence[Any]], count: int, seed: int) -> list[Setting]:
    """Up to `count` settings, in random order, none twice."""
    every = list(itertools.product(*space.values()))
    random.Random(seed).shuffle(every)
    return [
        {part: {key: value for (of, key), value in zip(space, values, strict=True) if of == part} for part in PARTS}
        for values in every[:count]
    ]


def run_trial(
    name: str, setting: Setting, recipe: Recipe, source: WindowSet, state: Path | None
) -> dict[str, Any]:
    """Train one setting; what it reached on validation."""
    trained = trained_model(name, recipe, source, state)
    found = {"ndcg10": trained.validation.ndcg10, "best_step": trained.best_step, "seconds": round(trained.seconds, 1)}
    on = chip(training_device(recipe.train))
    return {"run": run_name(name, recipe, source), "setting": setting, **found, "trained_on": on}


def run_name(model: str, recipe: Recipe, source: WindowSet) -> str:
    """Of one training: the model, and a digest of its data and all of its settings."""
    return f"{model} {fingerprint(recipe, source)}"


def said(setting: Setting) -> str:
    """A setting in one line."""
    return ", ".join(f"{key} {value}" for part in PARTS for key, value in setting.get(part, {}).items())


def arg_parser() -> argparse.ArgumentParser:
    """The program's arguments."""
    arguments = data_parser("search", "Hyper-parameters by validation NDCG@10, each trial recorded.")
    arguments.add_argument("--model", choices=MODELS, default="lime-xor", help="what is trained (default: lime-xor)")
    arguments.add_argument("--space", type=Path, metavar="FILE", required=True, help="TOML: lists of values")
    arguments.add_argument("--trials", type=int, default=20, metavar="N", help="settings to try (default: 20)")
    arguments.add_argument("--seed", type=int, default=1, metavar="N", help="of the choice of settings (default: 1)")
    arguments.add_argument("--record", type=Path, metavar="FILE", help="JSON: trials are kept there, none is repeated")
    return arguments


def main(argv: Sequence[str] | None = None) -> int:
    """Run, print, write."""
    args = arg_parser().parse_args(argv)
    train = QUICK if args.quick else TrainConfig()
    try:
        require(args.trials >= 1, "--trials", "at least 1", args.trials)
        data = data_of(args)
        done = search(data, args, train)
    except LimeError as error:
        say(f"error: {error}")
        return error.exit_code
    done.sort(key=lambda trial: -trial["ndcg10"])
    rows = [
        (f"{t['ndcg10']:.4f}", f"{t['best_step']}", f"{t['seconds']:.0f}", t["trained_on"], said(t["setting"]))
        for t in done
    ]
    say("\n".join(table([("validation ndcg@10", "best step", "seconds", "trained on", "setting"), *rows])))
    best = Figure(f"{args.model} best validation ndcg@10", done[0]["ndcg10"], "", None, {"trials": len(done)})
    present(f"search over {said_defaults(args.model, train)}", [best], args.json)
    return 0


def search(data: Interactions, args: argparse.Namespace, train: TrainConfig) -> list[dict[str, Any]]:
    """The trials that are asked for, from the record or made now; each is kept as it ends."""
    recorded = json.loads(args.record.read_text()) if args.record and args.record.exists() else []
    known, asked = {trial["run"]: trial for trial in recorded}, []
    for number, setting in enumerate(trials_of(read_space(args.space), args.trials, args.seed), start=1):
        recipe, source = recipe_of(data, *contender(args.model, train, {args.model: setting}))
        name = run_name(args.model, recipe, source)
        if name not in known:
            say(f"trial {number}: {said(setting)}")
            known[name] = run_trial(args.model, setting, recipe, source, args.state)
            if args.record:
                unfinished = args.record.with_suffix(".tmp")
                unfinished.write_text(json.dumps(list(known.values()), indent=1) + "\n")
                unfinished.replace(args.record)
        asked.append(known[name])
    return asked


def said_defaults(name: str, train: TrainConfig) -> str:
    """What the settings go over."""
    return f"{name}: {asdict(MODELS[name])}, {asdict(train)}"


if __name__ == "__main__":
    sys.exit(main())
