"""Items to cached weights, and the fold of what users bring: no user-dependent tensor ever gets here."""

import math

import torch
from torch import Tensor, nn

from lime_model.batches import CandidateWeights
from lime_model.config import ModelConfig
from lime_model.features import FeatureSpec
from lime_model.tasks import TypeTasks


class CandidateHalf(nn.Module):
    """Attention of a candidate over the raw links, and the head (arXiv 2510.18239)."""

    def __init__(self, config: ModelConfig, spec: FeatureSpec) -> None:
        super().__init__()
        d, F = config.width, config.score_width
        self.heads, self.head, self.score_width = config.heads, config.head, F
        self.item_norm, self.link_norm = nn.LayerNorm(d), nn.LayerNorm(d)
        self.query = nn.Linear(d, d, bias=False)
        self.key = nn.Linear(d, d, bias=False)
        # No biases on V and O: they would be one constant in G, and a dot head's G stays zero.
        self.value = nn.Linear(d, d, bias=False)
        self.out = nn.Linear(d, d, bias=False)
        for carried in (self.value, self.out):  # so that a dot head starts as a similarity of items
            nn.init.eye_(carried.weight)
        self.bias = nn.Linear(d, 1)  # b: a function of the item vector
        if self.head == "linear":
            self.vector = nn.Parameter(torch.randn(d) * d**-0.5)
        elif self.head == "mlp":
            self.hidden_links = nn.Linear(d, F, bias=False)  # W_1z
            self.hidden_item = nn.Linear(d, F)  # W_1c, b_1
            self.hidden_out = nn.Parameter(torch.randn(F) * F**-0.5)  # w_2
        self.tasks = TypeTasks(config, spec) if config.task_types else None

    def attention(self, items: Tensor, links: Tensor) -> Tensor:
        """Item vectors [C, d], raw links [L, d] -> A [C, H, L]."""
        q = self.query(self.item_norm(items)).view(len(items), self.heads, -1)  # [C, H, d/H]
        k = self.key(self.link_norm(links)).view(len(links), self.heads, -1)  # [L, H, d/H]
        scores = torch.einsum("che,lhe->chl", q, k) / math.sqrt(q.shape[-1])
        return torch.softmax(scores, dim=-1)

    def forward(self, items: Tensor, links: Tensor, mix: Tensor | None) -> CandidateWeights:
        """Item vectors [C, d], raw links [L, d] -> CandidateWeights, of the ranked score or of another mix of tasks."""
        w, b = items if self.head == "dot" else None, self.bias(items).squeeze(-1)
        if self.tasks is not None:
            chosen = self.tasks.ranking if mix is None else mix
            b = self.tasks.mixed(b, items, chosen)
            if w is not None or mix is not None:  # else `constants` has it
                w = ((self._next_event() if w is None else w) * self.tasks.gain(chosen)).expand(len(items), -1)
        G = self.hidden_item(items) if self.head == "mlp" else None
        return CandidateWeights(self.attention(items, links), G, w, b)

    def fold(self) -> Tensor:
        """fold [H, d, F] with T_u[h, l] = P[u, l] @ fold[h]."""
        d = self.value.weight.shape[1]
        value = self.value.weight.view(self.heads, -1, d)  # [H, d/H, d]
        out = self.out.weight.view(d, self.heads, -1).transpose(0, 1)  # [H, d, d/H]
        folded = (out @ value).transpose(1, 2)  # [H, d, d]
        if self.head == "linear":
            return folded @ self.vector[:, None]  # [H, d, 1]
        return folded @ self.hidden_links.weight.T if self.head == "mlp" else folded

    def constants(self) -> tuple[Tensor, Tensor]:
        """g [F] and w [F]: what stands in for G and w where they are the same for all items."""
        w = self._next_event()
        if self.tasks is not None:
            w = w * self.tasks.gain(self.tasks.ranking)
        return torch.zeros_like(w), w

    def _next_event(self) -> Tensor:
        """w [F] of the next event's output, where it is the same for all items."""
        return self.hidden_out if self.head == "mlp" else self.bias.weight.new_ones(self.score_width)


class DotHalf(nn.Module):
    """Of models whose user is one vector: the score is its dot product with the item's."""

    identity: Tensor

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.register_buffer("identity", torch.eye(config.width)[None], persistent=False)

    def forward(self, items: Tensor, links: None, mix: None) -> CandidateWeights:
        """Item vectors [C, d] -> CandidateWeights with H = L = 1 and A = 1."""
        return CandidateWeights(A=items.new_ones(len(items), 1, 1), G=None, w=items, b=items.new_zeros(len(items)))

    def fold(self) -> Tensor:
        """[1, d, d]."""
        return self.identity

    def constants(self) -> tuple[Tensor, Tensor]:
        """g [F]: zeros. w [F] is never used, every item has its own."""
        zeros = self.identity.new_zeros(self.identity.shape[-1])
        return zeros, zeros
