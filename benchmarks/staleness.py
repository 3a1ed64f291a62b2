"""What accuracy is lost when links or the candidate cache are some nights old, so that one knows how often to refresh.

A model is trained on the events of the first part of the data's time. Every night after it is judged on the first new
item that each known user takes that day: with links and cache as of the night before, then with either of them as they
were some nights earlier. Users and items that came since are unknown to what is frozen: such a user's links are those
of an empty history, such an item cannot be listed. All nights are pooled; what a user has seen is left out, always as
of the night. The difference to the fresh state is paired by user and night, its interval drawn over users.
"""

import argparse
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor

from benchmarks.accuracy import QUICK, trained_model
from benchmarks.bootstrap import paired_interval
from benchmarks.contenders import contender
from benchmarks.data_set import data_of, data_parser
from benchmarks.harness import Figure, present, say, table
from benchmarks.interactions import Event, Interactions
from benchmarks.pictures import Lines, add_picture, draw
from benchmarks.rankers import as_histories, whole_recipe_of
from jobs.config import EmbedConfig
from jobs.shapes import frozen_shapes
from lime_model.config import TrainConfig
from lime_model.frozen import CandidatePredictor, LinkPredictor
from lime_model.package import in_memory_package
from lime_model.validation import ABSENT, ndcg_gains, rank_of
from schemas.errors import InputError, LimeError

NAME = "lime-xor"
TRAINED_SHARE = 0.6  # of the events, oldest first
NIGHTS = (0, 1, 2, 3, 5, 7, 10, 14)
DAY = 86_400_000_000  # microseconds
_BATCH = 256


@dataclass(frozen=True)
class Judged:
    """One user on one night: the events before the night, the night's beginning, and the item taken that day."""

    user: int  # row of the data
    before: tuple[Event, ...]
    night: int  # microseconds
    target: str


def judged_nights(data: Interactions, trained_until: int) -> list[Judged]:
    """Users with a history, on each day after the training on which they take something new."""
    found = []
    for user, events in enumerate(data.users.values()):
        days: dict[int, list[Event]] = {}
        for event in events:
            if event.ts >= trained_until:
                days.setdefault((event.ts - trained_until) // DAY, []).append(event)
        for day, taken in sorted(days.items()):
            night = trained_until + day * DAY
            before = tuple(event for event in events if event.ts < night)
            known = {event.item_id for event in before}
            new = next((event.item_id for event in taken if event.item_id not in known), None)
            if before and new is not None and day >= max(NIGHTS):
                found.append(Judged(user, before, night, new))
    return found


def training_end(data: Interactions) -> int:
    """The moment that TRAINED_SHARE of the events lie before."""
    times = sorted(event.ts for events in data.users.values() for event in events)
    return times[int(TRAINED_SHARE * (len(times) - 1))]


def events_before(data: Interactions, moment: int) -> Interactions:
    """The data as it was: users without an event are not there."""
    cut = {user: tuple(e for e in events if e.ts < moment) for user, events in data.users.items()}
    users = {user: events for user, events in cut.items() if events}
    items = {event.item_id for events in users.values() for event in events}
    return replace(data, users=users, features={item: data.features[item] for item in items})


class Ranker:
    """Ranks of the judged items under links and caches of any age."""

    def __init__(self, data: Interactions, train: TrainConfig, state: Path | None) -> None:
        self.until = training_end(data)
        self.items = data.items
        self.place = {item: i for i, item in enumerate(self.items)}
        firsts: dict[str, int] = {}
        for events in data.users.values():
            for event in events:
                firsts[event.item_id] = min(event.ts, firsts.get(event.item_id, event.ts))
        self.first = torch.tensor([firsts[item] for item in self.items])
        self.data, self.judged = data, judged_nights(data, self.until)
        if not self.judged:
            raise InputError(f"expected known users who act {max(NIGHTS)} days after the training, found none")
        model, config = contender(NAME, train, {})
        recipe, source = whole_recipe_of(events_before(data, self.until), model, config)
        self.model = trained_model(NAME, recipe, source, state).model
        package = in_memory_package(self.model, recipe.vocabulary, recipe.spec, {})
        shapes, cpu = frozen_shapes(EmbedConfig()), torch.device("cpu")
        self.links = LinkPredictor(package, shapes, cpu)
        features = [data.features[item] for item in self.items]
        self.weights = CandidatePredictor(package, shapes, cpu).predict(self.items, features)

    def ranks(self, links_age: int, cache_age: int) -> Tensor:
        """[judged]: ages in nights."""
        config, ranks = self.model.config, []
        for start in range(0, len(self.judged), _BATCH):
            part = self.judged[start : start + _BATCH]
            known = [[e for e in at.before if e.ts < at.night - links_age * DAY] for at in part]
            P = self.links.predict(as_histories(self.data, known)).view(-1, config.links, config.width)
            with torch.inference_mode():
                scores = self.model.score_all(P, self.weights)
            nights = torch.tensor([at.night - cache_age * DAY for at in part])
            targets = torch.tensor([self.place[at.target] for at in part])
            missing = self.first >= nights[:, None]  # [B, C]
            excluded = missing.clone()
            for row, at in enumerate(part):
                excluded[row, [self.place[event.item_id] for event in at.before]] = True
            absent = missing.gather(1, targets[:, None])[:, 0]
            ranks.append(torch.where(absent, ABSENT, rank_of(scores, targets, excluded)))
        return torch.cat(ranks)


def losses(ranker: Ranker) -> tuple[float, dict[str, dict[int, tuple[float, float, float]]]]:
    """NDCG@10 of the fresh state, and what is lost by age: mean and interval."""
    fresh, users = ndcg_gains(ranker.ranks(0, 0)), torch.tensor([at.user for at in ranker.judged])
    aged = {"links": (1, 0), "cache": (0, 1), "both": (1, 1)}
    lost = {
        what: {n: paired_interval(fresh, ndcg_gains(ranker.ranks(links * n, cache * n)), users) for n in NIGHTS}
        for what, (links, cache) in aged.items()
    }
    return float(fresh.mean()), lost


def arg_parser() -> argparse.ArgumentParser:
    """The program's arguments."""
    arguments = data_parser("staleness", "Accuracy lost by links and candidate caches that are some nights old.")
    add_picture(arguments)
    return arguments


def main(argv: Sequence[str] | None = None) -> int:
    """Run, print, draw, write."""
    args = arg_parser().parse_args(argv)
    try:
        data = data_of(args)
        if not data.timed:
            raise InputError(f"{args.data}: expected lines `user item timestamp`, found no timestamps")
        ranker = Ranker(data, QUICK if args.quick else TrainConfig(), args.state)
    except LimeError as error:
        say(f"error: {error}")
        return error.exit_code
    fresh, lost = losses(ranker)
    rows = [("nights old", *lost)]
    for nights in NIGHTS:
        at = [lost[what][nights] for what in lost]
        rows.append((f"{nights}", *(f"{mean:.4f} [{low:.4f}, {high:.4f}]" for mean, low, high in at)))
    say("NDCG@10 lost, and its 95 % interval\n" + "\n".join(table(rows)))
    figures = [Figure("fresh ndcg@10", fresh)]
    for what, curve in lost.items():
        for nights, (mean, low, high) in curve.items():
            figures.append(Figure(f"{what} {nights} nights old", mean, "", None, {"interval": [low, high]}))
    present(f"staleness over {len(ranker.judged):,} users and nights", figures, args.json)
    if args.picture:
        lines = {what: [(float(n), fresh - mean) for n, (mean, _, _) in curve.items()] for what, curve in lost.items()}
        draw([Lines("accuracy of what is stale", "nights old", "NDCG@10", lines, False, False)], args.picture)
    return 0


if __name__ == "__main__":
    sys.exit(main())
