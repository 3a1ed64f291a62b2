"""A model of the family: users to personalised links, items to cached weights, and what folds them together.

LIME-XOR and LIME-MHA (arXiv 2510.18239), ELASTIC (arXiv 2408.09380), and the yardsticks that serve through the same
two halves.
"""

import torch
from torch import Tensor, nn

from lime_model.ages import gap_buckets
from lime_model.batches import CandidateWeights, Events, HistoryBatch, ItemInputs
from lime_model.candidate_half import CandidateHalf, DotHalf
from lime_model.config import DOT_KINDS, ModelConfig
from lime_model.encoders import make_encoder
from lime_model.features import FeatureSpec
from lime_model.folded import FoldedHead, score_all, score_pairs
from lime_model.items import ItemTower
from lime_model.tasks import TypeTasks
from lime_model.vocabulary import Vocabulary
from schemas.errors import ConfigError


class Lime(nn.Module):
    """The two public halves, `personalize_links` and `candidate_weights`, and the fold between them.

    What `config.kind` names reads the histories; everything else is the same for the whole family.
    """

    time_bounds: Tensor

    def __init__(self, config: ModelConfig, vocabulary: Vocabulary, spec: FeatureSpec) -> None:
        super().__init__()
        if vocabulary.buckets != config.buckets:
            raise ConfigError(f"Lime: expected {config.buckets} buckets in the vocabulary, found {vocabulary.buckets}")
        d = config.width
        self.config = config
        self.tower = ItemTower(vocabulary.rows, spec.value_rows, len(spec.numeric), d)
        self.event_type = nn.Embedding(spec.event_type_rows, d)
        self.gap = nn.Embedding(len(config.time_bounds_s) + 2, d)
        self.encoder = make_encoder(config)
        self.candidates = DotHalf(config) if config.kind in DOT_KINDS else CandidateHalf(config, spec)
        self.dropout = nn.Dropout(config.dropout)
        self.register_buffer("time_bounds", torch.tensor(config.time_bounds_s), persistent=False)
        for table in (self.event_type, self.gap):
            nn.init.normal_(table.weight, std=0.02)

    def personalize_links(self, batch: HistoryBatch) -> Tensor:
        """Histories -> P [B, L, d]. An empty history gives the links as no event has touched them."""
        events = batch.events
        links: Tensor = self.links_at_cuts(self.tower(batch.items), events, events.length[:, None])
        return links[:, 0]

    def links_at_cuts(self, vectors: Tensor, events: Events, cuts: Tensor) -> Tensor:
        """Item vectors [B, N, d] of windows and prefix lengths [B, Q] -> P of every prefix [B, Q, L, d]."""
        links: Tensor = self.encoder(self.tokens(vectors, events), events.event_ts, cuts)
        return links

    def candidate_weights(self, items: ItemInputs) -> CandidateWeights:
        """Items of leading shape [C] -> their cached half of the score."""
        return self.weights_of(self.tower(items))

    def weights_of(self, vectors: Tensor, mix: Tensor | None = None) -> CandidateWeights:
        """Item vectors [C, d] -> CandidateWeights of the ranked score, or of another mix of outputs (see tasks.py)."""
        weights: CandidateWeights = self.candidates(vectors, self.encoder.keys(), mix)
        return weights

    @property
    def tasks(self) -> TypeTasks | None:
        """What is learnt beside the next event."""
        return self.candidates.tasks if isinstance(self.candidates, CandidateHalf) else None

    def fold(self) -> Tensor:
        """[H, d, F]: T_u[h, l] = P[u, l] @ fold[h]."""
        return self.candidates.fold()

    def constants(self) -> tuple[Tensor, Tensor]:
        """g [F] and w [F] for the G and w that `candidate_weights` leaves out."""
        return self.candidates.constants()

    def folded_head(self) -> FoldedHead:
        """Fold, constants and activation."""
        g, w = self.constants()
        return FoldedHead(self.fold(), g, w, self.config.head == "mlp")

    def score_all(self, P: Tensor, weights: CandidateWeights) -> Tensor:
        """Links [M, L, d] against every candidate -> [M, C]."""
        return score_all(P, weights, self.folded_head())

    def score_pairs(self, P: Tensor, weights: CandidateWeights) -> Tensor:
        """Links [M, L, d] each against its own candidate of M -> [M]."""
        return score_pairs(P, weights, self.folded_head())

    @property
    def units_per_pair(self) -> int:
        """Numbers that `score_all` holds of a pair at once."""
        return self.config.score_width if self.config.head == "mlp" else 1

    def tokens(self, vectors: Tensor, events: Events) -> Tensor:
        """Item vectors [B, N, d] + event type + gap -> E [B, N, d]."""
        tokens = vectors + self.event_type(events.event_type)
        if self.config.use_times:
            tokens = tokens + self.gap(gap_buckets(events.event_ts, self.time_bounds))
        dropped: Tensor = self.dropout(tokens)
        return dropped
