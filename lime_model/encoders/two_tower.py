"""Two towers: a user is the mean of their last events, through one hidden layer; the yardstick without attention."""

from torch import Tensor, nn
from torch.nn import functional as fn

from lime_model.config import ModelConfig
from lime_model.encoders.base import Encoder, mean_of_last


class TwoTowerEncoder(Encoder):
    """L = 1. An empty history is the tower's answer to zeros."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.events = config.max_history - 1
        self.hidden = nn.Linear(config.width, config.ffn_width)
        self.out = nn.Linear(config.ffn_width, config.width)
        self.norm = nn.LayerNorm(config.width)
        self.dropout = nn.Dropout(config.dropout)

    def forward(self, tokens: Tensor, event_ts: Tensor, cuts: Tensor) -> Tensor:
        """See Encoder."""
        mean = mean_of_last(tokens, cuts, self.events)
        hidden = self.dropout(fn.relu(self.hidden(mean)))
        user: Tensor = self.norm(mean + self.out(hidden))
        return user[:, :, None]
