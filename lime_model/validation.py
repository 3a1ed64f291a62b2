"""Ranking the validation event, by the model and by popularity: the figures the gate compares."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from lime_model.blocks import last_events
from lime_model.config import TrainConfig
from lime_model.model import Lime
from lime_model.training_set import TrainingSet

ABSENT = 2**31  # rank of a target that is not a candidate: no hit at any K
_USERS_PER_BATCH = 64
_ATTENTION = 2**26  # of a batch of users: every event with every other, 256 MB a head
PAIR_NUMBERS = 2**24
"""Of a batch of users, candidates and what a pair needs: 64 MB."""


@dataclass(frozen=True)
class RankingMetrics:
    """Means over users, with the standard error of NDCG@10."""

    ndcg10: float
    hr10: float
    ndcg10_error: float
    users: int


def ndcg_gains(ranks: Tensor) -> Tensor:
    """1-based ranks [users] of the one relevant item -> each user's NDCG@10."""
    return (ranks <= 10).double() / torch.log2(ranks.double() + 1)


def ranking_metrics(ranks: Tensor) -> RankingMetrics:
    """1-based ranks [users] -> means at 10."""
    hit, gain = (ranks <= 10).double(), ndcg_gains(ranks)
    error = float(gain.std() / len(ranks) ** 0.5) if len(ranks) > 1 else 0.0
    return RankingMetrics(float(gain.mean()), float(hit.mean()), error, len(ranks))


def rank_of(scores: Tensor, targets: Tensor, excluded: Tensor) -> Tensor:
    """Scores [B, C], target candidates [B] (-1: absent), excluded [B, C] -> 1 + others scoring at least as high."""
    known = targets >= 0
    index = targets.clamp(min=0)[:, None]
    # "not lower" instead of "at least as high": a score that is NaN then ranks last, never first.
    at_least = ~(scores < scores.gather(1, index)) & ~excluded
    at_least.scatter_(1, index, False)
    return torch.where(known, 1 + at_least.sum(1), ABSENT)


@dataclass(frozen=True)
class ValidationSet:
    """Each user's last event, the windows that end in it, and the candidates the user had before."""

    windows: Tensor  # [V] window index
    targets: Tensor  # [V] candidate, -1 where it has no training event
    seen: tuple[Tensor, ...]  # candidates each user had before, the target left out; never on a GPU

    def to(self, device: torch.device) -> "ValidationSet":
        """The same set, windows and targets on a device."""
        return replace(self, windows=self.windows.to(device), targets=self.targets.to(device))


def validation_set(data: TrainingSet, config: TrainConfig) -> ValidationSet:
    """Up to `validation_users` users, evenly spaced over the set so that the choice needs no seed."""
    w = data.windows
    last = torch.nonzero(w.is_last & (w.lengths > 0)).flatten()
    if len(last) > config.validation_users:
        last = last[torch.linspace(0, len(last) - 1, config.validation_users).long()]
    targets = data.candidate_of[w.codes[w.offsets[last + 1] - 1]]
    return ValidationSet(last, targets, _seen(data, last, targets) if config.exclude_seen else _nothing(len(last)))


def _nothing(count: int) -> tuple[Tensor, ...]:
    return tuple(torch.empty(0, dtype=torch.int64) for _ in range(count))


def _seen(data: TrainingSet, last: Tensor, targets: Tensor) -> tuple[Tensor, ...]:
    w = data.windows
    of_user: dict[int, list[int]] = {}
    for window, user in enumerate(w.user.tolist()):
        of_user.setdefault(user, []).append(window)
    out = []
    for window, target in zip(last.tolist(), targets.tolist(), strict=True):
        spans = [w.codes[w.offsets[i] : w.offsets[i + 1]] for i in of_user[int(w.user[window])]]
        seen = data.candidate_of[torch.cat(spans)].unique()
        out.append(seen[(seen >= 0) & (seen != target)])
    return tuple(out)


def popularity_ranks(data: TrainingSet, chosen: ValidationSet) -> Tensor:
    """Ranks [V] of the validation events by training count."""
    ranks = [
        rank_of(data.counts.float()[None], target[None], _excluded([seen], len(data.counts)))
        for target, seen in zip(chosen.targets, chosen.seen, strict=True)
    ]
    return torch.cat(ranks)


def model_ranks(model: Lime, data: TrainingSet, chosen: ValidationSet) -> Tensor:
    """Ranks [V] of the validation events by the model, a batch of users at a time."""
    training = model.training
    model.eval()
    ranks = []
    with torch.inference_mode():
        vectors = model.tower(data.pairs)
        weights = model.weights_of(vectors[data.candidate_pair])
        last = last_events(data.windows, chosen.windows, model.config.max_history)
        longest = int(last.lengths.max()) if len(last) else 1
        most = min(PAIR_NUMBERS // (len(data.counts) * model.units_per_pair), _ATTENTION // longest**2)
        size = max(1, min(_USERS_PER_BATCH, most))
        for start in range(0, len(last), size):
            part = slice(start, start + size)
            batch = data.batch(last.take(part))
            cuts, events = (batch.events.length - 1)[:, None], batch.events.before_last()
            P = model.links_at_cuts(vectors[batch.codes[:, : events.event_ts.shape[1]]], events, cuts)[:, 0]
            excluded = _excluded(chosen.seen[part], len(data.counts)).to(P.device)
            ranks.append(rank_of(model.score_all(P, weights), chosen.targets[part], excluded))
    model.train(training)
    return torch.cat(ranks)


def _excluded(seen: Sequence[Tensor], candidates: int) -> Tensor:
    mask = torch.zeros(len(seen), candidates, dtype=torch.bool)
    for row, positions in enumerate(seen):
        mask[row, positions] = True
    return mask
