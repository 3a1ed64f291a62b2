"""The LIME-XOR layer (arXiv 2510.18239): links attend to the history, the history to the links, nothing
else.

The mask over [Z; E] lets p see q exactly when one is a link and the other a history item, so the layer is
two cross-attentions with shared projections, O(N * L). The dense masked form is the reference in the tests.

Link states are [B, L, Q, d] for Q cuts of one history: with the links outside the cuts the products below
need no copy of anything of size B * H * L * Q * N, which is what a training step spends its time on.
"""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as fn

from lime_model.config import ModelConfig

# Far below any score, but finite: -inf in a whole row would make NaN, in its gradient too.
HIDDEN = -1e9


class SharedDropout(nn.Module):
    """Dropout with one mask for all links: [B, L, Q, d] draws B * Q * d numbers, and drawing them is the cost."""

    def __init__(self, share: float) -> None:
        super().__init__()
        self.share = share

    def forward(self, states: Tensor) -> Tensor:
        """[B, L, Q, d] or [B, N, d] -> the same."""
        if not self.training or self.share == 0.0:
            return states
        shape = (states.shape[0], 1, *states.shape[2:]) if states.dim() == 4 else states.shape
        kept = torch.rand(shape, device=states.device) >= self.share
        return states * (kept / (1.0 - self.share))


class AgeBias(nn.Module):
    """Additive bias per head, link and age bucket on the links' attention to the history."""

    def __init__(self, config: ModelConfig) -> None:
        """Link 0 starts by seeing the last event only, the last link by seeing all alike."""
        super().__init__()
        ranks = torch.tensor([0.0, *config.rank_bounds])  # lower end of each bucket
        # Steepness 8 leaves exp(-5.5) to the event before the last.
        links = config.attending_links
        steepness = 8.0 * (torch.arange(links - 1, -1, -1) / max(1, links - 1)) ** 2
        decays = -steepness[:, None] * torch.log1p(ranks)  # [L, R]
        self.rank = nn.Parameter(decays.repeat(config.heads, 1, 1))
        times = len(config.time_bounds_s) + 1 if config.use_times else 0
        self.time = nn.Parameter(torch.zeros(config.heads, links, times)) if times else None

    def forward(self, indicators: Tensor) -> Tensor:
        """Indicators of rank bucket, time bucket and hidden [B, R + T + 1, Q, N] -> [B, H, L, Q, N]."""
        B, rows, Q, N = indicators.shape
        heads, links, _ = self.rank.shape
        hidden = self.rank.new_full((heads, links, 1), HIDDEN)
        parts = [self.rank, hidden] if self.time is None else [self.rank, self.time, hidden]
        table = torch.cat(parts, dim=-1).view(1, heads * links, rows)
        return torch.bmm(table.expand(B, -1, -1), indicators.flatten(2)).view(B, heads, links, Q, N)


class LinkLayer(nn.Module):
    """Pre-LayerNorm block: both sides update at once, from the states before the layer."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        width, ffn_width = config.width, config.ffn_width
        self.heads = config.heads
        self.ages = AgeBias(config)
        self.norm = nn.LayerNorm(width)
        # No biases: a link row that sees no key gets a zero attention output whatever the weights.
        self.query = nn.Linear(width, width, bias=False)
        self.key = nn.Linear(width, width, bias=False)
        self.value = nn.Linear(width, width, bias=False)
        self.out = nn.Linear(width, width, bias=False)
        self.ffn_norm = nn.LayerNorm(width)
        self.ffn_in = nn.Linear(width, ffn_width)
        self.ffn_out = nn.Linear(ffn_width, width)
        self.dropout = SharedDropout(config.dropout)

    def update_history(self, history: Tensor, links: Tensor) -> Tensor:
        """History [B, N, d] attends to links [B or 1, L, d] -> [B, N, d]."""
        seen = self.norm(links)
        k, v = self._split(self.key(seen)), self._split(self.value(seen))  # [B or 1, H, L, d/H]
        q = self._split(self.query(self.norm(history)))  # [B, H, N, d/H]
        weights = torch.softmax(q @ k.transpose(-2, -1) / math.sqrt(q.shape[-1]), dim=-1)  # [B, H, N, L]
        heads = (weights @ v).transpose(1, 2).flatten(2)  # [B, N, d]
        return self._add_ffn(history + self.dropout(self.out(heads)))

    def update_links(self, links: Tensor, history: Tensor, indicators: Tensor) -> Tensor:
        """Links [B, L, Q, d], or [1, L, 1, d] before any cut, attend to history [B, N, d] -> [B, L, Q, d].

        One history pass serves all Q cuts: keys and values are made once, and so are untouched queries.
        `indicators` [B, R + T + 1, Q, N] say each event's age bucket per cut, or that the cut does not see it.
        """
        B, _, Q, N = indicators.shape
        seen = self.norm(history)
        weights = self.attention(links, seen, indicators)  # [B, H, L, Q, N]
        v = self._split(self.value(seen))  # [B, H, N, d/H]
        heads = (weights.flatten(2, 3) @ v).view(B, self.heads, -1, Q, v.shape[-1])
        heads = heads.permute(0, 2, 3, 1, 4).flatten(3)  # [B, L, Q, d]
        sees = (indicators[:, -1] < 1).any(dim=-1)  # [B, Q]
        attended = self.out(heads) * sees[:, None, :, None]
        return self._add_ffn(links + self.dropout(attended))

    def attention(self, links: Tensor, seen: Tensor, indicators: Tensor) -> Tensor:
        """Of the links on the normed history: the weights of `update_links` [B, H, L, Q, N]."""
        B, N, H, L = len(indicators), indicators.shape[-1], self.heads, links.shape[1]
        k = self._split(self.key(seen))  # [B, H, N, d/H]
        q = self.query(self.norm(links)) / math.sqrt(k.shape[-1])
        q = q.view(*links.shape[:3], H, -1).permute(0, 3, 1, 2, 4).flatten(2, 3)  # [B, H, L*Q, d/H] or [1, H, L, d/H]
        scores = (q @ k.transpose(-2, -1)).view(B, H, L, -1, N)  # [B, H, L, Q or 1, N]
        return torch.softmax(scores + self.ages(indicators), dim=-1)

    def _split(self, states: Tensor) -> Tensor:
        """[B, n, d] -> [B, H, n, d/H]."""
        return states.view(*states.shape[:2], self.heads, -1).transpose(1, 2)

    def _add_ffn(self, states: Tensor) -> Tensor:
        """[..., d] -> [..., d]. ReLU, because it is exact arithmetic wherever a row stands."""
        hidden: Tensor = fn.relu(self.ffn_in(self.ffn_norm(states)))
        return states + torch.as_tensor(self.dropout(self.ffn_out(hidden)))
