"""The frozen shapes of embed and weigh: one numerics id for both, from one part of the configuration."""

from jobs.config import EmbedConfig
from lime_model.frozen import FrozenShapes


def frozen_shapes(config: EmbedConfig) -> FrozenShapes:
    """The model's history length becomes the last bucket where the model is loaded."""
    return FrozenShapes(config.rows_per_call, config.length_buckets, config.items_per_call)
