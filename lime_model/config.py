"""The two configurations: what the model is (part of its digest) and how it is trained (part of its
manifest)."""

import dataclasses
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, Literal, Self, cast, get_args, get_origin

from schemas.errors import ConfigError

Head = Literal["linear", "dot", "mlp"]
HEADS: tuple[Head, ...] = ("linear", "dot", "mlp")
LINK_KINDS = ("lime-xor", "lime-mha", "elastic")
DOT_KINDS = ("two-tower", "sasrec", "hstu")  # a user is one vector: one link, the dot head
CAUSAL_KINDS = ("sasrec", "hstu")

_MINUTE, _HOUR, _DAY = 60, 3600, 86400


def require(holds: bool, where: str, expected: str, found: object) -> None:
    """Raise a ConfigError that names the setting unless the condition holds."""
    if not holds:
        raise ConfigError(f"{where}: expected {expected}, found {found!r}")


def _increasing(values: tuple[int, ...]) -> bool:
    return bool(values) and values[0] > 0 and all(a < b for a, b in zip(values, values[1:], strict=False))


class _Json:
    """JSON round trip of a flat frozen dataclass; an unknown key is an error, never ignored."""

    def to_json(self) -> dict[str, Any]:
        return dataclasses.asdict(cast(Any, self))

    def dumps(self) -> str:
        """Canonical text: what the digest is taken over."""
        return json.dumps(self.to_json(), sort_keys=True, separators=(",", ":"))

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Self:
        known = {field.name: field for field in fields(cast(Any, cls))}
        unknown = sorted(set(values) - set(known))
        require(not unknown, f"{cls.__name__}", f"keys among {sorted(known)}", unknown)
        for name, value in values.items():
            _check_type(f"{cls.__name__}.{name}", known[name].type, value)
        return cls(**{name: tuple(v) if isinstance(v, list) else v for name, v in values.items()})


def _check_type(where: str, annotation: object, value: object) -> None:
    """JSON has no types of its own: true is not 1, and 64.0 links are not 64."""
    if annotation is int:
        right = isinstance(value, int) and not isinstance(value, bool)
    elif annotation is float:
        right = isinstance(value, int | float) and not isinstance(value, bool)
    elif annotation is bool:
        right = isinstance(value, bool)
    elif get_origin(annotation) is tuple:
        right = isinstance(value, list | tuple)
        for each in value if isinstance(value, list | tuple) else ():
            _check_type(where, get_args(annotation)[0], each)
    else:
        right = isinstance(value, str)
    require(right, where, annotation.__name__ if isinstance(annotation, type) else str(annotation), value)


@dataclass(frozen=True)
class ModelConfig(_Json):
    """What the model computes. Every field changes the model digest."""

    kind: str = "lime-xor"  # LINK_KINDS or DOT_KINDS: what reads the history
    width: int = 64  # d
    links: int = 16  # L, the memory's link included
    heads: int = 2  # H
    layers: int = 2  # of lime-xor, up to two layers train on a history pass shared by all cuts
    ffn_width: int = 128
    head: Head = "dot"
    mlp_width: int = 64  # F of the mlp head; the dot head has F = d, the linear head F = 1
    memory_slots: int = 0  # of an interest memory (ELASTIC's), a square number; 0: none
    memory_reads: int = 8  # slots that a history reads
    dropout: float = 0.3
    buckets: int = 64  # hashed ids outside the vocabulary
    # N: events read of a history. A full history's oldest event only dates the next one (see ages.py).
    max_history: int = 50
    use_times: bool = True  # off for data without timestamps
    # event types; of each a binary output learns, beside the next event, whether an event would be of this type
    task_types: tuple[str, ...] = ()
    task_weights: tuple[float, ...] = ()  # of these outputs in the score that orders lists, where the next event's is 1
    # Bucket bounds: value v falls into the bucket that counts the bounds <= v.
    rank_bounds: tuple[int, ...] = (
        1,
        2,
        3,
        4,
        5,
        6,
        8,
        10,
        13,
        16,
        20,
        25,
        32,
        40,
        50,
        64,
        80,
        100,
        160,
        256,
        512,
    )
    time_bounds_s: tuple[int, ...] = (
        1,
        10,
        30,
        _MINUTE,
        5 * _MINUTE,
        30 * _MINUTE,
        2 * _HOUR,
        _DAY,
        3 * _DAY,
        7 * _DAY,
        30 * _DAY,
        90 * _DAY,
        365 * _DAY,
    )

    def __post_init__(self) -> None:
        for name in ("width", "links", "heads", "layers", "ffn_width", "mlp_width", "buckets", "memory_reads"):
            require(getattr(self, name) >= 1, f"ModelConfig.{name}", "at least 1", getattr(self, name))
        self._check_kind()
        self._check_tasks()
        require(self.width % self.heads == 0, "ModelConfig.width", f"a multiple of {self.heads} heads", self.width)
        require(self.head in HEADS, "ModelConfig.head", f"one of {HEADS}", self.head)
        require(0.0 <= self.dropout < 1.0, "ModelConfig.dropout", "in [0, 1)", self.dropout)
        require(self.max_history >= 2, "ModelConfig.max_history", "at least 2", self.max_history)
        require(_increasing(self.rank_bounds), "ModelConfig.rank_bounds", "positive, increasing", self.rank_bounds)
        require(
            _increasing(self.time_bounds_s),
            "ModelConfig.time_bounds_s",
            "positive, increasing",
            self.time_bounds_s,
        )

    def _check_tasks(self) -> None:
        types, count = self.task_types, len(self.task_types)
        require(len(set(types)) == count, "ModelConfig.task_types", "distinct event types", types)
        weights = self.task_weights
        fit = len(weights) == count and all(map(math.isfinite, weights))
        require(fit, "ModelConfig.task_weights", f"one number for each of {count} task_types", weights)

    def _check_kind(self) -> None:
        kinds = LINK_KINDS + DOT_KINDS
        require(self.kind in kinds, "ModelConfig.kind", f"one of {', '.join(kinds)}", self.kind)
        if self.kind in DOT_KINDS:
            for name, only in (("links", 1), ("head", "dot"), ("memory_slots", 0), ("task_types", ())):
                found = getattr(self, name)
                require(found == only, f"ModelConfig.{name}", f"{only!r}, as kind is {self.kind}", found)
        if self.memory_slots:
            side = math.isqrt(max(0, self.memory_slots))
            square = side * side == self.memory_slots
            require(square, "ModelConfig.memory_slots", "0 or a square number", self.memory_slots)
            most = f"at most {side}, the square root of memory_slots"
            require(self.memory_reads <= side, "ModelConfig.memory_reads", most, self.memory_reads)
            require(self.width % 2 == 0, "ModelConfig.width", "an even number, as there is a memory", self.width)
            require(self.links >= 2, "ModelConfig.links", "at least 2, one of them the memory's", self.links)

    @property
    def attending_links(self) -> int:
        """Links that attend to the history: all but the memory's."""
        return self.links - bool(self.memory_slots)

    @property
    def window(self) -> tuple[int, int]:
        """Events of a training window, and those at its start that are context only.

        A target of a link model sees its last N events; a longer window would spend more on events that a cut does
        not see than it saves on context. A causal model reads one history in a pass: a target sees what is before it
        in the window, half a history at least where there is so much, and the first event of a later window has no
        gap.
        """
        n = self.max_history
        return (n, n // 2) if self.kind in CAUSAL_KINDS else (2 * n, n)

    @property
    def score_width(self) -> int:
        """F: how wide the hidden layer of the score is."""
        return {"linear": 1, "dot": self.width, "mlp": self.mlp_width}[self.head]


@dataclass(frozen=True)
class TrainConfig(_Json):
    """How the model is trained. Lengths are steps, never seconds: a slow machine trains the same model."""

    steps: int = 1000
    seed: int = 1
    # A block is read once for all of its cuts: fewer cuts learn more from a step, more cuts make it cheaper. A causal
    # model has nothing to save by blocks that are shorter than its windows' targets, N / 2.
    blocks_per_step: int = 64
    cuts_per_block: int = 8
    horizon: int = 1  # next events that a cut predicts
    learning_rate: float = 4e-3
    warmup_steps: int = 50
    weight_decay: float = 0.2
    label_smoothing: float = 0.05
    task_loss: float = 0.1  # weight of the binary tasks' mean loss, where the model has such tasks
    device: str = "auto"  # cpu, gpu, or auto: a GPU where there is one
    # of float32 products in a step: as torch has it, highest, high, or medium (rounded to bfloat16 where there are
    # units for it, and nothing else)
    matmul_precision: str = "highest"
    average_decay: float = 0.99  # of the moving average of weights that is validated and kept
    id_dropout: float = 0.1  # ids replaced by their bucket, per item and step
    full_softmax_up_to: int = 20_000
    negatives: int = 1024  # sampled per step above that, with log-Q correction
    validate_every: int = 50
    validation_users: int = 2_000
    exclude_seen: bool = True  # off where users take the same item again
    patience: int = 6  # validations without a better NDCG@10 before it stops
    checkpoint_every: int = 100
    margin: float = 0.1  # share by which NDCG@10 may fall below the current package's

    def __post_init__(self) -> None:
        positive = (
            "steps",
            "blocks_per_step",
            "cuts_per_block",
            "horizon",
            "negatives",
            "validate_every",
            "checkpoint_every",
        )
        for name in (*positive, "validation_users", "patience"):
            require(getattr(self, name) >= 1, f"TrainConfig.{name}", "at least 1", getattr(self, name))
        require(self.device in ("auto", "cpu", "gpu"), "TrainConfig.device", "auto, cpu or gpu", self.device)
        precision, known = self.matmul_precision, ("highest", "high", "medium")
        require(precision in known, "TrainConfig.matmul_precision", f"one of {', '.join(known)}", precision)
        for name in ("weight_decay", "full_softmax_up_to", "warmup_steps", "seed", "task_loss"):
            require(getattr(self, name) >= 0, f"TrainConfig.{name}", "at least 0", getattr(self, name))
        for name in ("label_smoothing", "average_decay", "id_dropout", "margin"):
            require(0.0 <= getattr(self, name) < 1.0, f"TrainConfig.{name}", "in [0, 1)", getattr(self, name))
        require(self.learning_rate > 0, "TrainConfig.learning_rate", "above 0", self.learning_rate)
