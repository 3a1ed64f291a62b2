"""A model together with what encodes its inputs: what a worker holds while it embeds or weighs."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from lime_model.config import ModelConfig
from lime_model.features import FeatureSpec
from lime_model.model import Lime
from lime_model.vocabulary import Vocabulary


@dataclass(frozen=True)
class ModelPackage:
    """A loaded package; the model is in eval mode, `digest` names what made every derived row."""

    config: ModelConfig
    model: Lime
    vocabulary: Vocabulary
    spec: FeatureSpec
    manifest: Mapping[str, Any]
    digest: str
