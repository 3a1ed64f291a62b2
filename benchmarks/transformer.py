"""The target-aware transformer: a history is encoded once, every candidate attends to all of it; there is no cache.

What LIME is compared with: the most that one layer of candidate attention over N events can say, at O(N) a pair. What
a candidate takes from the events is added to the last state, so that it starts where its causal encoder stands alone.
"""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as fn

from lime_model.ages import AgeBuckets
from lime_model.batches import Events
from lime_model.config import ModelConfig
from lime_model.encoders.causal import CausalEncoder
from lime_model.encoders.link_layer import AgeBias
from lime_model.features import FeatureSpec
from lime_model.model import Lime
from lime_model.vocabulary import Vocabulary


class Transformer(Lime):
    """`config.kind`, a causal one, encodes the history; cross-attention with ages is added to its last state.

    What a prefix of n - 2 events keeps is one tensor [n, 2 d + H]: the last state (its row filled up with zeros), then
    keys, values, and each head's bias, which hides what is not seen: of the start, and of every event. What a candidate
    brings is [2 d + 1]: queries, the item vector, and its own bias.
    """

    def __init__(self, config: ModelConfig, vocabulary: Vocabulary, spec: FeatureSpec) -> None:
        super().__init__(config, vocabulary, spec)
        d = config.width
        self.item_norm, self.event_norm, self.out_norm = nn.LayerNorm(d), nn.LayerNorm(d), nn.LayerNorm(d)
        self.query, self.out = nn.Linear(d, d, bias=False), nn.Linear(d, d)
        self.key_value = nn.Linear(d, 2 * d, bias=False)
        self.ages, self.age_bias = AgeBuckets(config), AgeBias(config)
        self.item_bias = nn.Linear(d, 1)
        self.ffn_norm = nn.LayerNorm(d)
        self.ffn_in, self.ffn_out = nn.Linear(d, config.ffn_width), nn.Linear(config.ffn_width, d)

    def links_at_cuts(self, vectors: Tensor, events: Events, cuts: Tensor) -> Tensor:
        """Item vectors [B, n, d] of windows shorter than a history, prefix lengths [B, Q] -> [B, Q, 2 + n, 2 d + H]."""
        encoder = self.encoder
        assert isinstance(encoder, CausalEncoder)
        states = encoder.states(self.tokens(vectors, events), events.event_ts)
        # what an empty prefix sees, and every other one too
        states = self.event_norm(torch.cat([encoder.start.expand(len(states), 1, -1), states], dim=1))
        bias = self.age_bias(self.ages(events.event_ts, cuts))[:, :, 0].movedim(1, -1)  # [B, Q, n, H]
        bias = fn.pad(bias, (0, 0, 1, 0))  # the start has no age
        kept = self.key_value(states)[:, None].expand(-1, cuts.shape[1], -1, -1)  # [B, Q, 1 + n, 2 d]
        last = states[torch.arange(len(cuts), device=cuts.device)[:, None], cuts]  # [B, Q, d]
        last = fn.pad(last, (0, kept.shape[-1] + bias.shape[-1] - last.shape[-1]))
        return torch.cat([last[:, :, None], torch.cat([kept, bias], dim=-1)], dim=2)

    def weights_of(self, vectors: Tensor) -> Tensor:  # type: ignore[override]
        """Item vectors [C, d] -> [C, 2 d + 1]."""
        return torch.cat([self.query(self.item_norm(vectors)), vectors, self.item_bias(vectors)], dim=-1)

    def score_all(self, P: Tensor, weights: Tensor) -> Tensor:  # type: ignore[override]
        """[M, n, 2 d + H] against every candidate [C, 2 d + 1] -> [M, C]."""
        return self._scores(P, weights.expand(len(P), -1, -1))

    def score_pairs(self, P: Tensor, weights: Tensor) -> Tensor:  # type: ignore[override]
        """[M, n, 2 d + H] each against its own candidate [M, 2 d + 1] -> [M]."""
        return self._scores(P, weights[:, None])[:, 0]

    @property
    def units_per_pair(self) -> int:
        """See Lime."""
        return self.config.heads * self.config.max_history + self.config.ffn_width

    def attention(self, P: Tensor, queries: Tensor) -> Tensor:
        """[M, n, 2 d + H] and queries [M, C, d] -> weights over the start and the events [M, H, C, n - 1]."""
        d, H = self.config.width, self.config.heads
        q, k = (part.unflatten(-1, (H, -1)).transpose(1, 2) for part in (queries, P[:, 1:, :d]))
        scores = q @ k.transpose(-2, -1) / math.sqrt(d // H) + P[:, 1:, 2 * d :].movedim(-1, 1)[:, :, None]
        return torch.softmax(scores, dim=-1)

    def _scores(self, P: Tensor, weights: Tensor) -> Tensor:
        """[M, n, 2 d + H] and [M, C, 2 d + 1] -> [M, C]."""
        d, H = self.config.width, self.config.heads
        queries, vectors, bias = weights.split([d, d, 1], dim=-1)
        values = P[:, 1:, d : 2 * d].unflatten(-1, (H, -1)).transpose(1, 2)  # [M, H, n - 1, d/H]
        mixed = self.out((self.attention(P, queries) @ values).transpose(1, 2).flatten(2))  # [M, C, d]
        mixed = mixed + P[:, :1, :d]
        mixed = mixed + self.ffn_out(fn.relu(self.ffn_in(self.ffn_norm(mixed))))
        scores: Tensor = (self.out_norm(mixed) * vectors).sum(-1) + bias.squeeze(-1)
        return scores
