"""LIME-XOR (arXiv 2510.18239) and ELASTIC's dispatchers (arXiv 2408.09380): links read the history in O(N * L).

Both are the layer of `link_layer.py`. In LIME-XOR both sides update at once, from the states before the layer. In
ELASTIC, as adapted here, the dispatchers aggregate the history first, and it is told what they found.
"""

from abc import abstractmethod
from collections.abc import Iterable
from typing import cast

import torch
from torch import Tensor, nn

from lime_model.ages import AgeBuckets, Ages
from lime_model.config import ModelConfig
from lime_model.encoders.base import Encoder, own_prefixes
from lime_model.encoders.link_layer import LinkLayer
from lime_model.encoders.memory import InterestMemory


class LinkEncoder(Encoder):
    """Raw links, the layers that a subclass runs them through, and the memory's link where there is a memory."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.max_history = config.max_history
        self.memory = InterestMemory(config) if config.memory_slots else None
        # small beside what they find, which else is a third of a link at first
        self.links = nn.Parameter(0.1 * torch.randn(config.attending_links, config.width))
        self.ages = AgeBuckets(config)
        self.norm = nn.LayerNorm(config.width)

    def keys(self) -> Tensor:
        """[L, d]: the raw links, and the memory's key."""
        return self.links if self.memory is None else torch.cat([self.links, self.memory.key[None]])

    def forward(self, tokens: Tensor, event_ts: Tensor, cuts: Tensor) -> Tensor:
        """See Encoder."""
        links = self.attend(tokens, event_ts, cuts)
        if self.memory is not None:
            links = torch.cat([links, self.memory(tokens, cuts)[:, :, None]], dim=2)
        normed: Tensor = self.norm(links)
        return normed

    @property
    def shares_history(self) -> bool:
        """Whether no state of the history depends on the cut: then one history pass serves all cuts."""
        return False

    def attend(self, tokens: Tensor, event_ts: Tensor, cuts: Tensor) -> Tensor:
        """As `forward`, but for the memory's link and the norm."""
        if self.shares_history:
            return self.through_layers(tokens, event_ts, cuts)
        own = own_prefixes(tokens, event_ts, cuts, self.max_history)
        links = self.through_layers(own.tokens, own.event_ts, own.length[:, None])  # [B*Q, 1, L, d]
        return links.view(*cuts.shape, *links.shape[2:])

    @abstractmethod
    def through_layers(self, history: Tensor, event_ts: Tensor, cuts: Tensor) -> Tensor:
        """Tokens [B, N, d] through the layers -> links [B, Q, L, d]; Q = 1 unless `shares_history`."""


class XorEncoder(LinkEncoder):
    """Both sides of a layer update from the states before it."""

    told_what_was_found = False  # whether the history attends to the links as they are after the layer, not before

    def __init__(self, config: ModelConfig) -> None:
        super().__init__(config)
        self.layers = nn.ModuleList(LinkLayer(config) for _ in range(config.layers))

    @property
    def shares_history(self) -> bool:
        """The states that enter layers 1 and 2 have seen raw links only."""
        return len(self.layers) <= 2

    def through_layers(self, history: Tensor, event_ts: Tensor, cuts: Tensor) -> Tensor:
        """See LinkEncoder."""
        last, links, history, ages = self.before_last(history, event_ts, cuts)
        return last.update_links(links, history, ages).transpose(1, 2)

    def before_last(
        self, history: Tensor, event_ts: Tensor, cuts: Tensor
    ) -> tuple[LinkLayer, Tensor, Tensor, Ages]:
        """The last layer, and what enters it: links [B, L, Q, d] (or [1, L, 1, d]), history [B, N, d], ages."""
        ages, links = self.ages(event_ts, cuts), self.links[None, :, None]
        *before, last = cast(Iterable[LinkLayer], self.layers)
        for layer in before:
            updated = layer.update_links(links, history, ages)
            told = updated if self.told_what_was_found else links
            history, links = layer.update_history(history, told[:, :, 0]), updated
        return last, links, history, ages


class ElasticEncoder(XorEncoder):
    """Linear dispatcher attention: from the first layer on the history is told what was found before the cut."""

    told_what_was_found = True

    @property
    def shares_history(self) -> bool:
        """See LinkEncoder."""
        return len(self.layers) <= 1
