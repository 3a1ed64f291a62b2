"""How each model of the family reads a history: tokens of histories in, personalised links out.

The other half of a model, candidates to cached weights, knows nothing of this and is in `lime_model/candidate_half.py`.
"""

from lime_model.config import ModelConfig
from lime_model.encoders.base import Encoder
from lime_model.encoders.causal import HstuEncoder, SasrecEncoder
from lime_model.encoders.full import MhaEncoder
from lime_model.encoders.links import ElasticEncoder, XorEncoder
from lime_model.encoders.two_tower import TwoTowerEncoder

__all__ = ["Encoder", "make_encoder"]

_ENCODERS: dict[str, type[Encoder]] = {
    "lime-xor": XorEncoder,
    "lime-mha": MhaEncoder,
    "elastic": ElasticEncoder,
    "two-tower": TwoTowerEncoder,
    "sasrec": SasrecEncoder,
    "hstu": HstuEncoder,
}


def make_encoder(config: ModelConfig) -> Encoder:
    """The encoder of the configured kind, with fresh weights."""
    return _ENCODERS[config.kind](config)
