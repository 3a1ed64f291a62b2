"""Binary tasks beside the next event: whether an event on an item would be of a given type.

A task's output is read off the same hidden layer as the next event's, F gains and an offset of its own. So any weighted
sum of outputs is one w and one b, and the list that a night serves costs what it costs without tasks.
"""

import torch
from torch import Tensor, nn

from lime_model.config import ModelConfig
from lime_model.features import FeatureSpec
from schemas.errors import ConfigError


class TypeTasks(nn.Module):
    """T binary outputs; a mix [1 + T] says how much of the next event's and of each task's output a score holds."""

    ranking: Tensor  # [1 + T] the mix that lists are ordered by
    types: Tensor  # [T] event type rows

    def __init__(self, config: ModelConfig, spec: FeatureSpec) -> None:
        """Raises ConfigError for a type that no training event has."""
        super().__init__()
        names, known = config.task_types, spec.event_types
        unknown = sorted(set(names) - set(known))
        if unknown:
            raise ConfigError(f"ModelConfig.task_types: expected types among {', '.join(known)}, found {unknown}")
        # all zeros: at first a list is ordered by the next event alone
        self.gains = nn.Parameter(torch.zeros(len(names), config.score_width))
        self.offset = nn.Linear(config.width, len(names))
        nn.init.zeros_(self.offset.weight)
        nn.init.zeros_(self.offset.bias)
        self.register_buffer("ranking", torch.tensor([1.0, *config.task_weights]), persistent=False)
        self.register_buffer("types", spec.encode_event_types(names), persistent=False)

    def alone(self) -> Tensor:
        """The mixes that hold one output each [1 + T, 1 + T], the next event's first."""
        return torch.eye(len(self.ranking), device=self.ranking.device)

    def gain(self, mix: Tensor) -> Tensor:
        """[F]: what w is multiplied by."""
        return mix[0] + mix[1:] @ self.gains

    def mixed(self, offset: Tensor, items: Tensor, mix: Tensor) -> Tensor:
        """b [C] from the next event's and the item vectors [C, d]."""
        others: Tensor = self.offset(items)
        return mix[0] * offset + others @ mix[1:]
