"""LIME-XOR beside LIME-MHA on long histories: seconds a step, peak memory, and whether what is far back is found.

Users are made: half of the first eighth of the events, liked, are of the one topic that the very last event is of too;
everything between is viewed at random from the other topics, so whoever does not look far back can do no better than
chance. Half of the users train, each with that one target, the others validate. Both models are trained for the same
number of steps on the same histories, each in a process of its own, whose peak memory (on a GPU, its tensors') is told.
"""

import argparse
import multiprocessing
import resource
import sys
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass

import numpy as np
import torch

from benchmarks.harness import Figure, parser, present, say, table
from benchmarks.pictures import Lines, add_picture, draw
from lime_model.config import ModelConfig, TrainConfig
from lime_model.recipe import Recipe
from lime_model.specify import spec_of, vocabulary_of
from lime_model.train import train, training_device
from lime_model.windows import Window, WindowSet, windows_of

KINDS = ("lime-xor", "lime-mha")
LENGTHS, USERS, STEPS = (512, 1024, 2048, 4096), 2_000, 600
TOPICS, PER_TOPIC = 10, 10  # items
PLANTED = 1 / 16  # share of early events of the topic: were it a number, longer would also be fainter


@dataclass(frozen=True)
class Outcome:
    """One model at one length."""

    seconds_per_step: float
    peak_mb: float
    hit: float  # share of users whose last event is among ten of TOPICS * PER_TOPIC items: all of a topic
    chance: float  # the same by popularity


def planted(users: int, length: int) -> WindowSet:
    """One window a user, the topic's early events at random places of the first eighth; every other user validates."""
    generator = np.random.default_rng(length)
    windows = []
    for user in range(users):
        own = int(generator.integers(TOPICS))
        topics = (own + generator.integers(1, TOPICS, length)) % TOPICS
        early = generator.choice(length // 8, int(length * PLANTED), replace=False)
        liked = np.append(early, length - 1)
        topics[liked] = own
        items = topics * PER_TOPIC + generator.integers(0, PER_TOPIC, length)
        types = np.full(length, "viewed", dtype=object)
        types[liked] = "liked"
        windows.append(
            Window(
                f"u{user}", [f"i{item}" for item in items], ["{}"] * length, types.tolist(), list(range(length)),
                targets_from=length - 1, is_last=user % 2 == 1,
            )
        )  # fmt: skip
    return windows_of(windows)


def measure(kind: str, length: int, users: int, steps: int) -> Outcome:
    """Train in this process, which is used once."""
    source = planted(users, length)
    model = ModelConfig(kind=kind, max_history=length + 1, use_times=False, dropout=0.0)
    config = TrainConfig(
        steps=steps, blocks_per_step=8, cuts_per_block=1, validate_every=steps, checkpoint_every=steps,
        warmup_steps=20, validation_users=200, exclude_seen=False,
    )  # fmt: skip
    recipe = Recipe(model, config, vocabulary_of(source, model.buckets), spec_of(["{}"], source.event_types))
    trained = train(recipe, source, None, lambda line: say(f"  {kind}, {length:,} events: {line}"))
    peak = peak_mb(training_device(config))
    return Outcome(trained.seconds / steps, peak, trained.validation.hr10, trained.popularity.hr10)


def peak_mb(device: torch.device) -> float:
    """The most memory so far: of the process, or of its tensors where these are on a GPU."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 2**20
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def outcomes(lengths: Sequence[int], users: int, steps: int) -> dict[str, dict[int, Outcome]]:
    """Every model at every length, one after another, each in a process of its own."""
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, mp_context=context, max_tasks_per_child=1) as pool:
        return {
            kind: {length: pool.submit(measure, kind, length, users, steps).result() for length in lengths}
            for kind in KINDS
        }


def figures_of(found: dict[str, dict[int, Outcome]]) -> list[Figure]:
    """What the full attention costs over the links' at every length, and how much of the planted both find."""
    figures = []
    for length, ours in found["lime-xor"].items():
        full = found["lime-mha"][length]
        figures += [
            Figure(f"mha over xor seconds {length:,}", full.seconds_per_step / ours.seconds_per_step),
            Figure(f"mha over xor memory {length:,}", full.peak_mb / ours.peak_mb),
            Figure(f"lime-xor hr@10 {length:,}", ours.hit, "", None, {"popularity": ours.chance}),
            Figure(f"lime-mha hr@10 {length:,}", full.hit, "", None, {"popularity": full.chance}),
        ]
    return figures


def arg_parser() -> argparse.ArgumentParser:
    """The program's arguments."""
    arguments = parser("long_history", "LIME-XOR and LIME-MHA on histories of thousands of events.")
    add_picture(arguments)
    return arguments


def main(argv: Sequence[str] | None = None) -> int:
    """Run, print, draw, write."""
    args = arg_parser().parse_args(argv)
    lengths, users, steps = ((64,), 20, 4) if args.quick else (LENGTHS, USERS, STEPS)
    found = outcomes(lengths, users, steps)
    rows = [("events", *(f"{kind} {what}" for kind in KINDS for what in ("s a step", "peak MB", "hr@10")))]
    for length in lengths:
        at = [found[kind][length] for kind in KINDS]
        cells = [(f"{one.seconds_per_step:.2f}", f"{one.peak_mb:,.0f}", f"{one.hit:.3f}") for one in at]
        rows.append((f"{length:,}", *(cell for three in cells for cell in three)))
    say("\n".join(table(rows)))
    present(f"long histories, {users} users, {steps} steps", figures_of(found), args.json)
    if args.picture:
        seconds = {k: [(float(n), at.seconds_per_step) for n, at in curve.items()] for k, curve in found.items()}
        memory = {k: [(float(n), at.peak_mb) for n, at in curve.items()] for k, curve in found.items()}
        hits = {k: [(float(n), at.hit) for n, at in curve.items()] for k, curve in found.items()}
        draw(
            [
                Lines("training", "events of a history", "seconds a step", seconds),
                Lines("training", "events of a history", "peak MB", memory),
                Lines("what was planted is found", "events of a history", "HR@10", hits, log_y=False),
            ],
            args.picture,
        )
    return 0


if __name__ == "__main__":
    sys.exit(main())
