"""Training: next-event prediction over cuts of windows, early stopping, a gate at the end.

A run is a function of its inputs and seed: every step seeds its own random numbers, so a run that was
killed goes on from its checkpoint to the same weights, bit for bit (same machine, same threads, on a CPU).
"""

import copy
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from torch import Tensor

from lime_model.batches import CandidateWeights
from lime_model.blocks import Blocks, deal, training_blocks
from lime_model.checkpoint import Checkpoint, Progress, fingerprint
from lime_model.config import TrainConfig, require
from lime_model.cuts import cuts_of, next_events
from lime_model.items import replace_ids
from lime_model.loss import full_softmax, sampled_softmax, sampling_odds, type_loss
from lime_model.model import Lime
from lime_model.optimization import learning_rate, make_optimizer, matmul_precision, ordered_sums
from lime_model.recipe import Recipe
from lime_model.tasks import TypeTasks
from lime_model.training_set import TrainingSet, WindowBatch, training_set
from lime_model.validation import (
    RankingMetrics,
    ValidationSet,
    model_ranks,
    popularity_ranks,
    ranking_metrics,
    validation_set,
)
from lime_model.windows import WindowSet
from schemas.errors import GateError

Report = Callable[[str], None]


@dataclass(frozen=True)
class TrainedModel:
    """The best weights, in eval mode, and the figures for the training manifest."""

    model: Lime
    validation: RankingMetrics
    popularity: RankingMetrics
    steps: int  # steps taken
    best_step: int
    seconds: float  # of training and validation, over all sittings

    def metrics(self) -> dict[str, float | int]:
        """Flat figures for a manifest."""
        named = {"validation": asdict(self.validation), "popularity": asdict(self.popularity)}
        flat = {f"{name}_{key}": value for name, values in named.items() for key, value in values.items()}
        return {**flat, "steps": self.steps, "best_step": self.best_step}


def fit(
    recipe: Recipe, source: WindowSet, checkpoint_dir: Path | None, current_ndcg: float | None, report: Report
) -> TrainedModel:
    """Train, then refuse a model worse than popularity or than the current package."""
    trained = train(recipe, source, checkpoint_dir, report)
    check_gate(trained, recipe.train.margin, current_ndcg)
    return trained


def train(
    recipe: Recipe, source: WindowSet, checkpoint_dir: Path | None, report: Report, make: type[Lime] = Lime
) -> TrainedModel:
    """Train and keep the best weights on validation, good or bad. `make` is the model's class."""
    data = training_set(source, recipe.vocabulary, recipe.spec)
    chosen = validation_set(data, recipe.train)
    popularity = ranking_metrics(popularity_ranks(data, chosen))
    report(f"popularity: validation NDCG@10 {popularity.ndcg10:.4f} over {popularity.users} users")
    # A library must leave its caller's random numbers alone.
    device = training_device(recipe.train)
    with torch.random.fork_rng(devices=[] if device.type == "cpu" else [device]), ordered_sums(device):
        run = _Run(make, recipe, data.to(device), chosen.to(device), report, device)
        return run.train(checkpoint_dir, popularity)


def training_device(config: TrainConfig) -> torch.device:
    """The configured device; raises ConfigError for a GPU that is not there."""
    there = torch.cuda.is_available()
    require(there or config.device != "gpu", "TrainConfig.device", "a GPU", "none on this machine")
    return torch.device("cuda", 0) if there and config.device != "cpu" else torch.device("cpu")


def check_gate(trained: TrainedModel, margin: float, current_ndcg: float | None) -> None:
    """Raise a GateError unless the new model may replace what is served."""
    found = trained.validation.ndcg10
    if found < trained.popularity.ndcg10:
        raise GateError(
            f"new package: expected validation NDCG@10 of at least popularity's {trained.popularity.ndcg10:.4f}, "
            f"found {found:.4f}"
        )
    if current_ndcg is not None and found < current_ndcg * (1 - margin):
        raise GateError(
            f"new package: expected validation NDCG@10 of at least {current_ndcg:.4f} less {margin:.0%}, "
            f"found {found:.4f}"
        )


class _Run:
    """The mutable state of one training run."""

    def __init__(
        self,
        make: type[Lime],
        recipe: Recipe,
        data: TrainingSet,
        chosen: ValidationSet,
        report: Report,
        device: torch.device,
    ) -> None:
        self.recipe, self.data, self.chosen, self.report, self.device = recipe, data, chosen, report, device
        torch.manual_seed(recipe.train.seed)
        self.model = make(recipe.model, recipe.vocabulary, recipe.spec).to(device)
        self.average = copy.deepcopy(self.model)
        self.optimizer = make_optimizer(self.model, recipe.train)
        self.progress = Progress()
        self.bucket_rows = torch.tensor(recipe.vocabulary.bucket_rows(), device=device)
        self.odds = sampling_odds(data.counts)
        self.dealt: tuple[int, list[Tensor]] | None = None  # a pass, and the blocks of its steps
        config, history = recipe.train, recipe.model.max_history
        self.blocks = training_blocks(data.windows, config.cuts_per_block, config.horizon, history).to(
            torch.device("cpu")
        )

    def train(self, checkpoint_dir: Path | None, popularity: RankingMetrics) -> TrainedModel:
        config, progress = self.recipe.train, self.progress
        checkpoint = self._checkpoint(checkpoint_dir)
        if checkpoint is not None and checkpoint.restore():
            self.report(f"resumed at step {progress.step}")
        mark = time.monotonic()
        while progress.step < config.steps and progress.stale < config.patience:
            loss = self._step(progress.step)
            progress.step += 1
            if progress.step % config.validate_every == 0 or progress.step == config.steps:
                self._validate(loss)
            now = time.monotonic()
            progress.seconds, mark = progress.seconds + now - mark, now
            if checkpoint is not None and progress.step % config.checkpoint_every == 0:
                checkpoint.save()
        self.average.load_state_dict(progress.best)
        self.average.eval()
        metrics = ranking_metrics(model_ranks(self.average, self.data, self.chosen))
        model = self.average.cpu()
        return TrainedModel(model, metrics, popularity, progress.step, progress.best_step, progress.seconds)

    def _checkpoint(self, folder: Path | None) -> Checkpoint | None:
        if folder is None:
            return None
        name = fingerprint(self.recipe, self.data.windows)
        return Checkpoint(folder / f"checkpoint-{name}.pt", self.model, self.average, self.optimizer, self.progress)

    def _step(self, step: int) -> float:
        """One update; the loss before it."""
        config = self.recipe.train
        torch.manual_seed(_mix(config.seed, step))
        for group in self.optimizer.param_groups:
            group["lr"] = learning_rate(config, step)
        self.optimizer.zero_grad(set_to_none=True)
        with matmul_precision(config.matmul_precision):
            loss = self._loss(self.data.batch(self._dealt(step)))
            loss.backward()
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        self.optimizer.step()
        # The average follows quickly at first, when the weights it started from mean nothing.
        decay = min(config.average_decay, (1 + step) / (10 + step))
        with torch.no_grad():
            for mean, value in zip(self.average.parameters(), self.model.parameters(), strict=True):
                mean.lerp_(value, 1 - decay)
        return float(loss.detach())

    def _dealt(self, step: int) -> Blocks:
        """This step's blocks."""
        number, place = divmod(step, max(1, len(self.blocks) // self.recipe.train.blocks_per_step))
        if self.dealt is None or self.dealt[0] != number:
            generator = torch.Generator().manual_seed(_mix(self.recipe.train.seed, -1 - number))
            self.dealt = number, deal(self.blocks, self.recipe.train.blocks_per_step, generator)
        return self.blocks.take(self.dealt[1][place]).to(self.device)

    def _loss(self, batch: WindowBatch) -> Tensor:
        config, model, data = self.recipe.train, self.model, self.data
        real, positions = cuts_of(batch.targets, config.cuts_per_block)
        rows, places = next_events(batch, positions, real, config.horizon)
        targets = data.candidate_of[batch.codes.flatten()[places]]
        replaced = torch.rand(len(self.bucket_rows), device=self.device) < config.id_dropout
        columns, events = self._columns(), batch.events.before_last()
        read = batch.codes[:, : events.event_ts.shape[1]]
        used, place = torch.unique(torch.cat([data.candidate_pair[columns], read.flatten()]), return_inverse=True)
        vectors = model.tower(replace_ids(data.pairs.take(used), replaced, self.bucket_rows))
        weights = self._weights_of(vectors[place[: len(columns)]])
        P = model.links_at_cuts(vectors[place[len(columns) :].view_as(read)], events, positions)[real]
        scores = model.score_all(P, weights)
        if len(columns) == len(data.counts):
            own = vectors[place[targets]]
            loss = full_softmax(scores, rows, targets, config.label_smoothing)
        else:
            own = model.tower(replace_ids(data.pairs.take(data.candidate_pair[targets]), replaced, self.bucket_rows))
            positive = model.score_pairs(P[rows], self._weights_of(own))
            loss = sampled_softmax(positive, scores, rows, targets, columns, self.odds)
        if model.tasks is None:
            return loss
        types = batch.events.event_type.flatten()[places]
        return loss + config.task_loss * self._type_loss(model.tasks, P[rows], own, types)

    def _type_loss(self, tasks: TypeTasks, P: Tensor, vectors: Tensor, types: Tensor) -> Tensor:
        """Of R events: the links before each [R, L, d], their items' vectors [R, d] and types [R]."""
        model = self.model
        outputs = [model.score_pairs(P, model.weights_of(vectors, mix)) for mix in tasks.alone()[1:]]
        return type_loss(torch.stack(outputs, dim=1), tasks.types, types)

    def _weights_of(self, vectors: Tensor) -> CandidateWeights:
        """Of the next event's output alone."""
        tasks = self.model.tasks
        return self.model.weights_of(vectors) if tasks is None else self.model.weights_of(vectors, tasks.alone()[0])

    def _columns(self) -> Tensor:
        """Candidates of this step's softmax: all of them, or a sample where that is too dear."""
        config, total = self.recipe.train, len(self.data.counts)
        bound = config.negatives if self.model.units_per_pair > 1 else config.full_softmax_up_to
        if total <= bound:
            return torch.arange(total, device=self.device)
        return torch.multinomial(self.odds, config.negatives, replacement=True)

    def _validate(self, loss: float) -> None:
        progress = self.progress
        found = ranking_metrics(model_ranks(self.average, self.data, self.chosen))
        self.report(f"step {progress.step}: loss {loss:.4f}, validation NDCG@10 {found.ndcg10:.4f}")
        progress.seen(found.ndcg10, self.average)


def _mix(seed: int, step: int) -> int:
    """One seed of a step: distinct for every (seed, step) a run can meet."""
    return (seed * 1_000_003 + step) % 2**63
