"""LIME-MHA (arXiv 2510.18239): full attention over [Z; E], O((N + L)^2)."""

import math
from collections.abc import Iterable
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional as fn

from lime_model.ages import Ages
from lime_model.config import ModelConfig
from lime_model.encoders.base import HIDDEN
from lime_model.encoders.link_layer import LinkLayer
from lime_model.encoders.links import LinkEncoder


class FullLayer(LinkLayer):
    """The parts of the link layer without its mask: links and events see all links and all events."""

    def update_all(self, states: Tensor, ages: Ages) -> Tensor:
        """[Z; E] [B, L + N, d] -> the same; `ages` are those of one cut."""
        bias = self.bias(ages)[:, :, :, 0]  # [B, H, L, N]: of links on events
        links = bias.shape[2]
        hidden = fn.pad(ages.hidden[:, 0], (links, 0))  # [B, L + N]
        seen = self.norm(states)
        q, k, v = self._split(self.query(seen)), self._split(self.key(seen)), self._split(self.value(seen))
        scores = q @ k.transpose(-2, -1) / math.sqrt(q.shape[-1])
        scores[:, :, :links, links:] += bias
        weights = torch.softmax(scores.masked_fill(hidden[:, None, None], HIDDEN), dim=-1)
        heads = (weights @ v).transpose(1, 2).flatten(2)  # [B, L + N, d]
        return self._add_ffn(states + self.dropout(self.out(heads)))

    def update_links(self, links: Tensor, history: Tensor, ages: Ages) -> Tensor:
        """See LinkLayer; links [B or 1, L, 1, d] attend to each other as well, so they see something in any case."""
        states = torch.cat([links[:, :, 0].expand(len(history), -1, -1), history], dim=1)
        return self._add_ffn(links + self.dropout(self.attended(links, self.norm(states), ages)))


class MhaEncoder(LinkEncoder):
    """Every event sees every other, so from two layers on every prefix is a history of its own."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__(config)
        self.layers = nn.ModuleList(FullLayer(config) for _ in range(config.layers))

    @property
    def shares_history(self) -> bool:
        """The states that enter layer 1 have seen nothing."""
        return len(self.layers) <= 1

    def through_layers(self, history: Tensor, event_ts: Tensor, cuts: Tensor) -> Tensor:
        """See LinkEncoder."""
        ages, links = self.ages(event_ts, cuts), self.links[None]
        *before, last = cast(Iterable[FullLayer], self.layers)
        for layer in before:
            states = torch.cat([links.expand(len(history), -1, -1), history], dim=1)
            links, history = layer.update_all(states, ages).split([links.shape[1], history.shape[1]], dim=1)
        return last.update_links(links[:, :, None], history, ages).transpose(1, 2)
