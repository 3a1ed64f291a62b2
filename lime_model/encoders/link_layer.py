"""The LIME-XOR layer (arXiv 2510.18239): links attend to the history, the history to the links, nothing
else.

The mask over [Z; E] lets p see q exactly when one is a link and the other a history item, so the layer is
two cross-attentions with shared projections, O(N * L). The dense masked form is the reference in the tests.

Link states are [B, L, Q, d] for Q cuts of one history: with the links outside the cuts the products below
need no copy of anything of size B * H * L * Q * N, which is what a training step spends its time on.
"""

import math
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as fn

from lime_model.ages import Ages, buckets_of
from lime_model.config import ModelConfig
from lime_model.encoders.base import HIDDEN


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


def shifted_rows(rows: Tensor, starts: Tensor, width: int) -> Tensor:
    """Rows [R, M] read from each of n starts on -> [R, n, width]."""
    read: Tensor = _ShiftedRows.apply(rows, starts, width)  # type: ignore[no-untyped-call]
    return read


class _ShiftedRows(torch.autograd.Function):
    """A gather whose gradient adds whole slices, one a distinct start: torch's own adds number by number."""

    @staticmethod
    def forward(ctx: Any, rows: Tensor, starts: Tensor, width: int) -> Tensor:
        ctx.save_for_backward(starts)
        ctx.length = rows.shape[1]
        # index_select would first copy the view, which is quadratic in a long history
        return rows.unfold(1, width, 1)[:, starts]

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None]:
        (starts,) = ctx.saved_tensors
        width, total = grad.shape[2], grad.new_zeros(len(grad), ctx.length)
        distinct, place = starts.unique(return_inverse=True)
        sums = fn.one_hot(place).to(grad.dtype).T @ grad  # [R, starts, width]
        for number, start in enumerate(distinct.tolist()):
            total[:, start : start + width] += sums[:, number]
        return total, None, None


class AgeBias(nn.Module):
    """Additive bias per head, link and age bucket on the links' attention to the history; it hides what is not seen.

    The bias of ranks is one row a head and link, by rank from the end: a cut reads it from another place on. That of
    times is a table times one-hot buckets.
    """

    rank_bounds: Tensor

    def __init__(self, config: ModelConfig) -> None:
        """Link 0 starts by seeing the last event only, the last link by seeing all alike."""
        super().__init__()
        self.seen = config.max_history - 1
        ranks = torch.tensor([0.0, *config.rank_bounds])  # lower end of each bucket
        # Steepness 8 leaves exp(-5.5) to the event before the last.
        links = config.attending_links
        steepness = 8.0 * (torch.arange(links - 1, -1, -1) / max(1, links - 1)) ** 2
        decays = -steepness[:, None] * torch.log1p(ranks)  # [L, R]
        self.rank = nn.Parameter(decays.repeat(config.heads, 1, 1))
        times = len(config.time_bounds_s) + 1 if config.use_times else 0
        self.time = nn.Parameter(torch.zeros(config.heads, links, times)) if times else None
        self.register_buffer("rank_bounds", torch.tensor(config.rank_bounds), persistent=False)

    def forward(self, ages: Ages) -> Tensor:
        """Ages of B histories of N events at Q cuts -> [B, H, L, Q, N]."""
        (B, Q, N), (H, L, _) = ages.hidden.shape, self.rank.shape
        rank = torch.arange(N - 1, -1, -1, device=ages.cuts.device)  # of events that end at a cut of N
        row = self.rank[..., buckets_of(rank, self.rank_bounds)].masked_fill(rank >= self.seen, HIDDEN)
        # a shorter cut reads further right, where the events after it are hidden
        rows = fn.pad(row.flatten(0, 1), (0, N), value=HIDDEN)  # [H * L, 2 N]
        shifted = shifted_rows(rows, N - ages.cuts.flatten(), N)
        bias = shifted.view(H, L, B, Q, N).permute(2, 0, 1, 3, 4)
        if self.time is None or ages.times is None:
            return bias
        table = self.time.flatten(0, 1).expand(B, -1, -1)  # [B, H * L, T]
        return bias + torch.bmm(table, ages.times.flatten(2)).view(B, H, L, Q, N)


class LinkLayer(nn.Module):
    """Pre-LayerNorm block: both sides update at once, from the states before the layer."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        width, ffn_width = config.width, config.ffn_width
        self.heads = config.heads
        self.bias = AgeBias(config)
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
        for carried in (self.value, self.out):  # a link starts as a mean of the events it attends to
            nn.init.eye_(carried.weight)

    def update_history(self, history: Tensor, links: Tensor) -> Tensor:
        """History [B, N, d] attends to links [B or 1, L, d] -> [B, N, d]."""
        seen = self.norm(links)
        k, v = self._split(self.key(seen)), self._split(self.value(seen))  # [B or 1, H, L, d/H]
        q = self._split(self.query(self.norm(history)))  # [B, H, N, d/H]
        weights = torch.softmax(q @ k.transpose(-2, -1) / math.sqrt(q.shape[-1]), dim=-1)  # [B, H, N, L]
        heads = (weights @ v).transpose(1, 2).flatten(2)  # [B, N, d]
        return self._add_ffn(history + self.dropout(self.out(heads)))

    def update_links(self, links: Tensor, history: Tensor, ages: Ages) -> Tensor:
        """Links [B, L, Q, d], or [1, L, 1, d] before any cut, attend to history [B, N, d] -> [B, L, Q, d].

        One history pass serves all Q cuts: keys and values are made once, and so are untouched queries.
        """
        attended = self.attended(links, self.norm(history), ages) * ages.sees[:, None, :, None]
        return self._add_ffn(links + self.dropout(attended))

    def attended(self, links: Tensor, seen: Tensor, ages: Ages) -> Tensor:
        """What links [B or 1, L, Q or 1, d] take from normed states [B, N, d] -> [B, L, Q, d]."""
        weights = self.attention(links, seen, ages)  # [B, H, L, Q, N]
        v = self._split(self.value(seen))  # [B, H, N, d/H]
        B, H, L, Q, _ = weights.shape
        heads = (weights.flatten(2, 3) @ v).view(B, H, L, Q, v.shape[-1])
        taken: Tensor = self.out(heads.permute(0, 2, 3, 1, 4).flatten(3))
        return taken

    def attention(self, links: Tensor, seen: Tensor, ages: Ages) -> Tensor:
        """Of the links on normed states: the weights of `attended` [B, H, L, Q, N].

        The states are those of the history, with others before them in LIME-MHA: these have no age.
        """
        (B, N, _), H, L = seen.shape, self.heads, links.shape[1]
        k = self._split(self.key(seen))  # [B, H, N, d/H]
        q = self.query(self.norm(links)) / math.sqrt(k.shape[-1])
        q = q.view(*links.shape[:3], H, -1).permute(0, 3, 1, 2, 4).flatten(2, 3)  # [B, H, L*Q, d/H] or [1, H, L, d/H]
        scores = (q @ k.transpose(-2, -1)).view(B, H, L, -1, N)  # [B, H, L, Q or 1, N]
        bias = self.bias(ages)
        ageless = N - bias.shape[-1]
        return torch.softmax(scores + (fn.pad(bias, (ageless, 0)) if ageless else bias), dim=-1)

    def _split(self, states: Tensor) -> Tensor:
        """[B, n, d] -> [B, H, n, d/H]."""
        return states.view(*states.shape[:2], self.heads, -1).transpose(1, 2)

    def _add_ffn(self, states: Tensor) -> Tensor:
        """[..., d] -> [..., d]. ReLU, because it is exact arithmetic wherever a row stands."""
        hidden: Tensor = fn.relu(self.ffn_in(self.ffn_norm(states)))
        return states + torch.as_tensor(self.dropout(self.ffn_out(hidden)))
