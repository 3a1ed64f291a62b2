"""The models that the accuracy benchmark trains, and the settings of each: defaults, then those of a file.

The file is TOML: `[all.model]` and `[all.train]` hold for every model, `[sasrec.train]` for the one.
"""

from dataclasses import asdict
from pathlib import Path
from typing import Any

from benchmarks.harness import read_toml
from lime_model.config import ModelConfig, TrainConfig
from schemas.errors import ConfigError

TRANSFORMER = "transformer"  # the only one without a cache
Settings = dict[str, dict[str, dict[str, Any]]]

MODELS = {
    "lime-xor": ModelConfig(),
    "lime-mha": ModelConfig(kind="lime-mha"),
    "elastic": ModelConfig(kind="elastic", memory_slots=1024),
    "two-tower": ModelConfig(kind="two-tower", links=1, max_history=6),
    "sasrec": ModelConfig(kind="sasrec", links=1),
    "hstu": ModelConfig(kind="hstu", links=1),
    TRANSFORMER: ModelConfig(kind="sasrec", links=1),  # SASRec's encoder below its attention
}
WINDOWS = {"blocks_per_step": 20, "cuts_per_block": 25}  # one pass of a causal model serves a whole window
# a pair costs the transformer O(N), so that a full softmax of a few thousand items takes seconds a step
TRAINING = {"sasrec": WINDOWS, "hstu": WINDOWS, TRANSFORMER: {**WINDOWS, "negatives": 256}}


def read_settings(file: Path) -> Settings:
    """Model (or `all`) -> `model` or `train` -> settings; raises ConfigError for anything else."""
    found = read_toml(file)
    for name, tables in found.items():
        if name not in ("all", *MODELS):
            raise ConfigError(f"{file}: expected tables of all, {', '.join(MODELS)}; found {name}")
        known = isinstance(tables, dict) and set(tables) <= {"model", "train"}
        if not known or not all(isinstance(table, dict) for table in tables.values()):
            raise ConfigError(f"{file}: expected [{name}.model] or [{name}.train], found {name} = {tables!r}")
    return found


def contender(name: str, train: TrainConfig, settings: Settings) -> tuple[ModelConfig, TrainConfig]:
    """The two configurations of a model."""

    def of(part: str) -> dict[str, Any]:
        return {**settings.get("all", {}).get(part, {}), **settings.get(name, {}).get(part, {})}

    model = ModelConfig.from_json({**asdict(MODELS[name]), **of("model")})
    return model, TrainConfig.from_json({**asdict(train), **TRAINING.get(name, {}), **of("train")})
