"""LIME-XOR (arXiv 2510.18239): users to personalised links, items to cached weights, and what folds them
together."""

import math
from collections.abc import Iterable
from typing import cast

import torch
from torch import Tensor, nn

from lime_model.ages import buckets_of, gap_buckets, rank_ages, time_ages, visible
from lime_model.attention import LinkLayer
from lime_model.batches import CandidateWeights, Events, HistoryBatch, ItemInputs
from lime_model.config import ModelConfig
from lime_model.features import FeatureSpec
from lime_model.items import ItemTower
from lime_model.vocabulary import Vocabulary
from schemas.errors import ConfigError


class CandidateHalf(nn.Module):
    """Attention of a candidate over the raw links, and the head. No user-dependent tensor ever reaches it."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        d, F = config.width, config.score_width
        self.heads, self.head = config.heads, config.head
        self.item_norm, self.link_norm = nn.LayerNorm(d), nn.LayerNorm(d)
        self.query = nn.Linear(d, d, bias=False)
        self.key = nn.Linear(d, d, bias=False)
        # No biases on V and O: they would be one constant in G, and a dot head's G stays zero.
        self.value = nn.Linear(d, d, bias=False)
        self.out = nn.Linear(d, d, bias=False)
        self.bias = nn.Linear(d, 1)  # b: a function of the item vector
        if self.head == "linear":
            self.vector = nn.Parameter(torch.randn(d) * d**-0.5)
        elif self.head == "mlp":
            self.hidden_links = nn.Linear(d, F, bias=False)  # W_1z
            self.hidden_item = nn.Linear(d, F)  # W_1c, b_1
            self.hidden_out = nn.Parameter(torch.randn(F) * F**-0.5)  # w_2

    def attention(self, items: Tensor, links: Tensor) -> Tensor:
        """Item vectors [C, d], raw links [L, d] -> A [C, H, L]."""
        q = self.query(self.item_norm(items)).view(len(items), self.heads, -1)  # [C, H, d/H]
        k = self.key(self.link_norm(links)).view(len(links), self.heads, -1)  # [L, H, d/H]
        scores = torch.einsum("che,lhe->chl", q, k) / math.sqrt(q.shape[-1])
        return torch.softmax(scores, dim=-1)

    def forward(self, items: Tensor, links: Tensor) -> CandidateWeights:
        """Item vectors [C, d], raw links [L, d] -> CandidateWeights."""
        return CandidateWeights(
            A=self.attention(items, links),
            G=self.hidden_item(items) if self.head == "mlp" else None,
            w=items if self.head == "dot" else None,
            b=self.bias(items).squeeze(-1),
        )

    def fold(self) -> Tensor:
        """fold [H, d, F] with T_u[h, l] = P[u, l] @ fold[h]."""
        d = self.value.weight.shape[1]
        value = self.value.weight.view(self.heads, -1, d)  # [H, d/H, d]
        out = self.out.weight.view(d, self.heads, -1).transpose(0, 1)  # [H, d, d/H]
        folded = (out @ value).transpose(1, 2)  # [H, d, d]
        if self.head == "linear":
            return folded @ self.vector[:, None]  # [H, d, 1]
        return folded @ self.hidden_links.weight.T if self.head == "mlp" else folded

    def constants(self, F: int) -> tuple[Tensor, Tensor]:
        """g [F] and w [F]: what stands in for G and w where they are the same for all items."""
        zeros = self.bias.weight.new_zeros(F)
        return zeros, self.hidden_out if self.head == "mlp" else torch.ones_like(zeros)


class Lime(nn.Module):
    """The two public halves, `personalize_links` and `candidate_weights`, and the fold between them."""

    rank_bounds: Tensor
    time_bounds: Tensor

    def __init__(self, config: ModelConfig, vocabulary: Vocabulary, spec: FeatureSpec) -> None:
        super().__init__()
        if vocabulary.buckets != config.buckets:
            raise ConfigError(f"Lime: expected {config.buckets} buckets in the vocabulary, found {vocabulary.buckets}")
        d, L = config.width, config.links
        self.config = config
        self.tower = ItemTower(vocabulary.rows, spec.value_rows, len(spec.numeric), d)
        self.event_type = nn.Embedding(spec.event_type_rows, d)
        self.gap = nn.Embedding(len(config.time_bounds_s) + 2, d)
        self.links = nn.Parameter(torch.randn(L, d))
        self.layers = nn.ModuleList(LinkLayer(config) for _ in range(config.layers))
        self.norm = nn.LayerNorm(d)
        self.candidates = CandidateHalf(config)
        self.dropout = nn.Dropout(config.dropout)
        self.register_buffer("rank_bounds", torch.tensor(config.rank_bounds), persistent=False)
        self.register_buffer("time_bounds", torch.tensor(config.time_bounds_s), persistent=False)
        for table in (self.event_type, self.gap):
            nn.init.normal_(table.weight, std=0.02)

    def personalize_links(self, batch: HistoryBatch) -> Tensor:
        """Histories -> P [B, L, d]. An empty history gives the links as no event has touched them."""
        events = batch.events
        tokens = self.tokens(self.tower(batch.items), events)
        return self._attend(tokens, events, events.length[:, None])[:, 0]

    def links_at_cuts(self, vectors: Tensor, events: Events, cuts: Tensor) -> Tensor:
        """Item vectors [B, N, d] of windows and prefix lengths [B, Q] -> P of every prefix [B, Q, L, d]."""
        tokens = self.tokens(vectors, events)
        if len(self.layers) <= 2:
            return self._attend(tokens, events, cuts)
        # History states of a third layer depend on the cut: every prefix is a history of its own.
        B, Q = cuts.shape
        each = [t.repeat_interleave(Q, dim=0) for t in (events.event_type, events.event_ts)]
        own = Events(each[0], each[1], cuts.reshape(B * Q))
        links = self._attend(tokens.repeat_interleave(Q, dim=0), own, own.length[:, None])  # [B*Q, 1, L, d]
        return links.reshape(B, Q, *links.shape[2:])

    def candidate_weights(self, items: ItemInputs) -> CandidateWeights:
        """Items of leading shape [C] -> their cached half of the score."""
        return self.weights_of(self.tower(items))

    def weights_of(self, vectors: Tensor) -> CandidateWeights:
        """Item vectors [C, d] -> CandidateWeights."""
        weights: CandidateWeights = self.candidates(vectors, self.links)
        return weights

    def fold(self) -> Tensor:
        """[H, d, F]: T_u[h, l] = P[u, l] @ fold[h]."""
        return self.candidates.fold()

    def constants(self) -> tuple[Tensor, Tensor]:
        """g [F] and w [F] for the G and w that `candidate_weights` leaves out."""
        return self.candidates.constants(self.config.score_width)

    def tokens(self, vectors: Tensor, events: Events) -> Tensor:
        """Item vectors [B, N, d] + event type + gap -> E [B, N, d]."""
        tokens = vectors + self.event_type(events.event_type)
        if self.config.use_times:
            tokens = tokens + self.gap(gap_buckets(events.event_ts, self.time_bounds))
        dropped: Tensor = self.dropout(tokens)
        return dropped

    def _attend(self, history: Tensor, events: Events, cuts: Tensor) -> Tensor:
        """Tokens [B, N, d] through the layers, for prefixes of lengths [B, Q] -> P [B, Q, L, d].

        Right for any Q where the history states entering a layer do not depend on the cut, else for Q = 1.
        """
        indicators = self._age_indicators(events.event_ts, cuts)
        links = self.links[None, :, None]  # [1, L, 1, d], then [B, L, Q, d]
        last = len(self.layers) - 1
        for depth, layer in enumerate(cast(Iterable[LinkLayer], self.layers)):
            updated = layer.update_links(links, history, indicators)
            if depth < last:
                history = layer.update_history(history, links[:, :, 0])
            links = updated
        normed: Tensor = self.norm(links)
        return normed.transpose(1, 2)

    def _age_indicators(self, event_ts: Tensor, cuts: Tensor) -> Tensor:
        """Indicators of rank bucket, time bucket and hidden [B, R + T + 1, Q, N]: times the tables it is the bias."""
        R, T = len(self.rank_bounds) + 1, len(self.time_bounds) + 1
        (B, Q), N = cuts.shape, event_ts.shape[1]
        rank = buckets_of(rank_ages(cuts, N), self.rank_bounds)
        indicators = torch.zeros(B, R + T + 1, Q, N, dtype=self.links.dtype, device=event_ts.device)
        indicators.scatter_(1, rank[:, None], 1.0)
        if self.config.use_times:
            time = buckets_of(time_ages(event_ts, cuts), self.time_bounds)
            indicators.scatter_(1, time[:, None] + R, 1.0)
        indicators[:, -1] = ~visible(cuts, N, self.config.max_history)
        return indicators
