"""The one typed configuration of a night: a TOML file, checked whole before any work.

Unknown keys, missing keys and wrong types are errors that name the key. Every default is written here, once.
"""

import dataclasses
import hashlib
import json
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path

from jobs.rule_config import Denied, Rule, check_filters
from jobs.ts_formats import check_ts_format
from jobs.typed_toml import build
from lime_model.config import ModelConfig, TrainConfig, require
from schemas.errors import ConfigError

FORMATS = ("csv", "tsv", "jsonl", "parquet", "delta")
DEVICES = ("cpu", "gpu")
LOCKS = ("auto", "file", "lease")


def _one_of(what: str, value: str, choices: tuple[str, ...]) -> None:
    if value not in choices:
        raise ConfigError(f"{what}: expected one of {', '.join(choices)}; found {value!r}")


def _at_least(bound: int, where: str, config: object, *names: str) -> None:
    for name in names:
        require(getattr(config, name) >= bound, f"{where}.{name}", f"at least {bound}", getattr(config, name))


@dataclass(frozen=True)
class LakeConfig:
    """Where tables, staging files and model packages live."""

    root: str  # a path, or catalog.schema
    staging: str = ""  # default: _staging below a path root; a catalog needs one
    packages: str = ""  # a folder of the driver; default: models in a root that is one, other roots need it
    lock: str = "auto"  # how one writer keeps others out: file (a root of this machine) or lease; auto: what fits
    lease_seconds: int = 120  # a lease whose holder was silent for longer may be taken over

    def __post_init__(self) -> None:
        _one_of("lake.lock", self.lock, LOCKS)
        _at_least(1, "lake", self, "lease_seconds")


@dataclass(frozen=True)
class EventSource:
    """The raw event log, and how its columns map to the `events` contract."""

    format: str
    path: str  # a path or glob; `{date}` stands for one file a day, and a night reads days up to its own
    columns: Mapping[str, str]  # contract column -> source column
    # source's value -> event type; empty: taken as it is
    types: Mapping[str, str] = field(default_factory=dict)
    default_type: str = "event"  # where no column holds the event type
    ts_format: str = "iso"  # iso, epoch_seconds, epoch_millis, or a Spark datetime pattern

    def __post_init__(self) -> None:
        _one_of("events.format", self.format, FORMATS)
        required = {"user_id", "item_id", "event_ts"}
        optional = {"event_id", "event_type", "sequence", "value", "source_updated_at"}
        _check_columns("events.columns", self.columns, required, optional)
        check_ts_format("events.ts_format", self.ts_format)


@dataclass(frozen=True)
class Feature:
    """One item feature or attribute: the source column it is read from, and how."""

    column: str
    kind: str = "categorical"  # or numeric
    separator: str = ""  # splits a column that holds several categories

    def __post_init__(self) -> None:
        _one_of("items.features.*.kind", self.kind, ("categorical", "numeric"))


@dataclass(frozen=True)
class ItemSource:
    """The catalogue: each read is a snapshot as of the night."""

    format: str
    path: str
    columns: Mapping[str, str]
    features: Mapping[str, Feature] = field(default_factory=dict)
    attributes: Mapping[str, Feature] = field(default_factory=dict)  # rules may read them, the model does not
    complete: bool = True  # an item that is missing from the file has left the catalogue

    def __post_init__(self) -> None:
        _one_of("items.format", self.format, FORMATS)
        _check_columns("items.columns", self.columns, {"item_id"}, {"title", "available"})
        if both := sorted(self.features.keys() & self.attributes.keys()):
            raise ConfigError(f"items.attributes: expected names that items.features does not have, found {both}")


@dataclass(frozen=True)
class UserSource:
    """Who gets a list. Without such a source: whoever has an event."""

    format: str
    path: str
    columns: Mapping[str, str]
    attributes: Mapping[str, str] = field(default_factory=dict)  # attribute -> source column
    complete: bool = True

    def __post_init__(self) -> None:
        _one_of("users.format", self.format, FORMATS)
        _check_columns("users.columns", self.columns, {"user_id"}, set())


@dataclass(frozen=True)
class EmbedConfig:
    """How links and weights are computed. Shapes are frozen, so they are part of the results (see README)."""

    device: str = "cpu"
    gpu_amount: float = 1.0  # share of one GPU that a task takes
    partitions: int = 2
    rows_per_call: int = 32
    length_buckets: tuple[int, ...] = (16, 64)  # the history length is always the last bucket
    items_per_call: int = 512
    users_per_group: int = 100_000  # beyond so many users links are made in groups of buckets, each kept when done

    def __post_init__(self) -> None:
        _one_of("embed.device", self.device, DEVICES)
        require(self.gpu_amount > 0, "embed.gpu_amount", "above 0", self.gpu_amount)
        _at_least(1, "embed", self, "partitions", "rows_per_call", "items_per_call", "users_per_group")
        rising = list(self.length_buckets) == sorted({length for length in self.length_buckets if length >= 1})
        require(rising, "embed.length_buckets", "positive lengths, rising", self.length_buckets)


@dataclass(frozen=True)
class ScoreConfig:
    """Lists: their length, their filters, and how the work is cut."""

    k: int = 20
    reserve: int = 20  # the next best, kept so that a list with items gone need not be made from all candidates
    seen_types: tuple[str, ...] = ()  # event types that make an item seen; empty: all
    seen_days: int = 0  # an item is seen for so many days; 0: for ever
    rules: tuple[Rule, ...] = ()
    denied: Denied | None = None  # items that a user must never get
    max_rule_classes: int = 256  # users whom the rules tell apart, each class with a bit a candidate
    popularity_days: int = 90  # what the popularity list counts
    partitions: int = 2
    device: str = "cpu"
    gpu_amount: float = 1.0  # share of one GPU that a task takes
    pairs_per_group: float = 2e10  # beyond it a full scoring is done in groups of buckets, each kept when it is done
    audited_users: int = 50  # about as many merged or untouched lists are made in full as well, and must be the same

    def __post_init__(self) -> None:
        _one_of("score.device", self.device, DEVICES)
        _at_least(1, "score", self, "k", "popularity_days", "partitions", "max_rule_classes", "pairs_per_group")
        _at_least(0, "score", self, "reserve", "seen_days", "audited_users")


@dataclass(frozen=True)
class PublishConfig:
    """Gates: a night outside these bounds is not served."""

    min_user_coverage: float = 1.0  # share of valid users with a list
    min_full_lists: float = 0.99  # share of lists with K items
    max_abs_score: float = 1e4  # of the model's scores; a popularity list's are counts of events
    min_overlap: float = 0.1  # mean share of a list's items that were served the night before
    max_rows_change: float = 0.5  # relative change in the number of lists

    def __post_init__(self) -> None:
        for name in ("min_user_coverage", "min_full_lists", "min_overlap"):
            require(0 <= getattr(self, name) <= 1, f"publish.{name}", "a share in [0, 1]", getattr(self, name))
        _at_least(0, "publish", self, "max_abs_score", "max_rows_change")


@dataclass(frozen=True)
class NightConfig:
    """Which nights `--date next` walks through."""

    first_date: date | None = None  # where the lake is empty; default: yesterday
    last_date: date | None = None  # after it there is nothing to do; default: no end


@dataclass(frozen=True)
class MaintainConfig:
    """What `lime maintain` keeps; the files of a replaced version for the longer of the first two."""

    rollback_days: int = 7  # lists can be served again until so long after others took their place
    longest_read_hours: int = 24  # nobody reads one version of a table for longer
    runs_days: int = 400  # rows of `runs`: what reports and the accuracy over all nights are made of

    def __post_init__(self) -> None:
        _at_least(1, "maintain", self, "rollback_days", "longest_read_hours", "runs_days")


@dataclass(frozen=True)
class Config:
    """Everything a night needs to know."""

    lake: LakeConfig
    events: EventSource
    items: ItemSource
    users: UserSource | None = None
    model: ModelConfig = field(default_factory=ModelConfig)
    train: TrainConfig = field(default_factory=TrainConfig)
    embed: EmbedConfig = field(default_factory=EmbedConfig)
    score: ScoreConfig = field(default_factory=ScoreConfig)
    publish: PublishConfig = field(default_factory=PublishConfig)
    night: NightConfig = field(default_factory=NightConfig)
    maintain: MaintainConfig = field(default_factory=MaintainConfig)

    def __post_init__(self) -> None:
        declared = {**self.items.features, **self.items.attributes}
        kinds = {name: feature.kind for name, feature in declared.items()}
        check_filters(self.score.rules, self.score.denied, kinds, self.users.attributes if self.users else {})

    @property
    def hash(self) -> str:
        """Digest of everything that can change a row: not where the lake is, nor what is kept how long."""
        of_no_row = ("lake", "night", "maintain")
        described = {k: v for k, v in dataclasses.asdict(self).items() if k not in of_no_row}
        return hashlib.sha256(json.dumps(described, sort_keys=True, default=str).encode()).hexdigest()[:16]


def load_config(path: str) -> Config:
    """Read and check a TOML file; raises ConfigError naming file, key, expected and found."""
    file = Path(path)
    if not file.is_file():
        raise ConfigError(f"config {path}: expected a TOML file, found none")
    try:
        raw = tomllib.loads(file.read_text("utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"config {path}: not TOML: {error}") from error
    try:
        config: Config = build(Config, raw, "")
    except ConfigError as error:
        raise ConfigError(f"config {path}: {error}") from error
    return config


def _check_columns(where: str, columns: Mapping[str, str], required: set[str], optional: set[str]) -> None:
    missing, unknown = required - columns.keys(), columns.keys() - required - optional
    if missing or unknown:
        raise ConfigError(
            f"{where}: expected {sorted(required)} and maybe {sorted(optional)}; "
            f"missing {sorted(missing)}, unknown {sorted(unknown)}"
        )
