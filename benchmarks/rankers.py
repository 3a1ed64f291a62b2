"""What the accuracy benchmark compares: anything that gives a score to every item for every tested user.

`score(block)` takes a slice of the tested users, with the validation event in their histories, -> [users, C].
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from benchmarks.interactions import Event, Interactions
from jobs.config import EmbedConfig
from jobs.shapes import frozen_shapes
from lime_model.batches import Events, ItemInputs
from lime_model.blocks import whole_windows
from lime_model.config import ModelConfig, TrainConfig
from lime_model.features import encode_items
from lime_model.frozen import CandidatePredictor, Histories, LinkPredictor
from lime_model.model import Lime
from lime_model.package import in_memory_package
from lime_model.recipe import Recipe
from lime_model.specify import spec_of, vocabulary_of
from lime_model.train import TrainedModel
from lime_model.training_set import TrainingSet, training_set
from lime_model.validation import PAIR_NUMBERS
from lime_model.windows import Window, WindowSet, cut_windows, windows_of

Score = Callable[[slice], Tensor]
KNN_EVENTS = 10


def popularity(data: Interactions) -> Score:
    """Training events of each item, the same for everybody."""
    counts = data.training_counts()
    scores = torch.tensor([float(counts[item]) for item in data.items])
    users = len(data.tested())
    return lambda block: scores.expand(len(range(*block.indices(users))), -1)


def item_knn(data: Interactions) -> Score:
    """Sum of cosines between training users of an item and of the user's last ten items.

    X [users, items] stays sparse: X_n (X_n^T h) needs no item-by-item matrix.
    """
    place = {item: i for i, item in enumerate(data.items)}
    pairs = sorted({(u, place[e.item_id]) for u, user in enumerate(data.users) for e in data.training(user)})
    index = torch.tensor(pairs).T
    per_item = torch.bincount(index[1], minlength=len(place)).float().clamp(min=1)
    shape = (len(data.users), len(place))
    normed = torch.sparse_coo_tensor(index, per_item.rsqrt()[index[1]], shape, check_invariants=True).coalesce()
    histories = [events[:-1][-KNN_EVENTS:] for events in data.tested().values()]

    def score(block: slice) -> Tensor:
        chosen = histories[block]
        recent = torch.zeros(len(place), len(chosen))
        for column, events in enumerate(chosen):
            for event in events:
                recent[place[event.item_id], column] += 1
        scores: Tensor = torch.sparse.mm(normed.t(), torch.sparse.mm(normed, recent)).T
        return scores

    return score


def recipe_of(data: Interactions, model: ModelConfig, config: TrainConfig) -> tuple[Recipe, WindowSet]:
    """What is trained, and on which windows: all but the test events; the validation events only stop it."""
    return _recipe(data, training_windows(data, model), model, config)


def whole_recipe_of(data: Interactions, model: ModelConfig, config: TrainConfig) -> tuple[Recipe, WindowSet]:
    """The same without test events, as a night trains: the last event of every user stops it."""
    histories = [_window(data, user, events) for user, events in data.users.items()]
    return _recipe(data, windows_of([w for h in histories for w in cut_windows(h, *model.window)]), model, config)


def _recipe(
    data: Interactions, source: WindowSet, model: ModelConfig, config: TrainConfig
) -> tuple[Recipe, WindowSet]:
    model = replace(model, use_times=data.timed)
    spec = spec_of([data.features[item] for item in data.items], source.event_types)
    return Recipe(model, config, vocabulary_of(source, model.buckets), spec), source


def trained_score(data: Interactions, recipe: Recipe, trained: TrainedModel) -> Score:
    """The model's scores through the halves that a night uses."""
    model = recipe.model
    package = in_memory_package(trained.model, recipe.vocabulary, recipe.spec, {})
    shapes, cpu = frozen_shapes(EmbedConfig()), torch.device("cpu")
    weights = CandidatePredictor(package, shapes, cpu).predict(data.items, [data.features[item] for item in data.items])
    links = LinkPredictor(package, shapes, cpu).predict(
        as_histories(data, [events[:-1] for events in data.tested().values()])
    )
    P = links.view(-1, model.links, model.width)

    def score(block: slice) -> Tensor:
        with torch.inference_mode():
            return trained.model.score_all(P[block], weights)

    return score


@dataclass(frozen=True)
class Encoded:
    """The last N - 1 events of each tested user before the test event, as a causal model reads them."""

    windows: TrainingSet

    def batch(self, model: Lime, rows: Tensor) -> tuple[Tensor, Events]:
        """Item vectors [B, n, d] and events of users by row."""
        batch = self.windows.batch(whole_windows(self.windows.windows, rows))
        return model.tower(self.windows.pairs.take(batch.codes)), batch.events

    def one_by_one(self, model: Lime) -> Iterator[tuple[Tensor, Events]]:
        """Each user alone, without padding."""
        for row in torch.arange(len(self.windows.windows)).split(1):
            yield self.batch(model, row)


def encoded_histories(data: Interactions, recipe: Recipe, users: int | None = None) -> tuple[Encoded, ItemInputs]:
    """Histories of the first tested users (all by default), and all items as candidates."""
    histories = [events[:-1][-(recipe.model.max_history - 1) :] for events in data.tested().values()][:users]
    held = windows_of([_window(data, str(row), events) for row, events in enumerate(histories)])
    items = encode_items(recipe.vocabulary, recipe.spec, data.items, [data.features[item] for item in data.items])
    return Encoded(training_set(held, recipe.vocabulary, recipe.spec)), items


def direct_score(data: Interactions, recipe: Recipe, trained: TrainedModel) -> Score:
    """Scores of a model without a cache, straight from the histories."""
    model, (histories, items) = trained.model, encoded_histories(data, recipe)
    per_batch = max(1, PAIR_NUMBERS // (len(data.items) * model.units_per_pair))
    rows = torch.arange(len(histories.windows.windows))

    def score(block: slice) -> Tensor:
        with torch.inference_mode():
            weights, parts = model.weights_of(model.tower(items)), []
            for some in rows[block].split(per_batch):
                vectors, events = histories.batch(model, some)
                P = model.links_at_cuts(vectors, events, events.length[:, None])[:, 0]
                parts.append(model.score_all(P, weights))
        return torch.cat(parts)

    return score


def training_windows(data: Interactions, model: ModelConfig) -> WindowSet:
    """Each user's history without the test event, in windows; only a tested user's last event validates."""
    windows = []
    for user, events in data.users.items():
        tested = len(events) >= 3
        history = _window(data, user, events[:-1] if tested else events)
        cut = cut_windows(history, *model.window)
        windows += [replace(window, is_last=window.is_last and tested) for window in cut]
    return windows_of(windows)


def as_histories(data: Interactions, histories: Sequence[Sequence[Event]]) -> Histories:
    """Users' events -> what the predictor reads."""
    held = windows_of([_window(data, str(row), events) for row, events in enumerate(histories)])
    return Histories(
        held.item_ids, held.features, held.event_types, held.codes, held.types, held.event_ts, held.offsets
    )


def _window(data: Interactions, user: str, events: Sequence[Event]) -> Window:
    return Window(
        user,
        [event.item_id for event in events],
        [data.features[event.item_id] for event in events],
        [event.event_type for event in events],
        [event.ts for event in events],
    )
