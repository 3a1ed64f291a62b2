"""What a training run is made of."""

from dataclasses import dataclass

from lime_model.config import ModelConfig, TrainConfig
from lime_model.features import FeatureSpec
from lime_model.vocabulary import Vocabulary


@dataclass(frozen=True)
class Recipe:
    """Everything but the data that decides the weights."""

    model: ModelConfig
    train: TrainConfig
    vocabulary: Vocabulary
    spec: FeatureSpec
