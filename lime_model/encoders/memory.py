"""Interest memory retrieval (arXiv 2408.09380): product keys choose a few slots of a large bank of learnt interests.

Our adaptation: the query comes from means of the history over spans that grow by four, each through its own
projection and then one over all of them, the pooled hierarchical query network; what is read is one link more.
"""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as fn

from lime_model.config import ModelConfig
from lime_model.encoders.base import mean_of_last

SPANS = (1, 4, 16)  # events; the last level is the whole history


class InterestMemory(nn.Module):
    """M slots behind two lists of sqrt(M) keys: choosing costs O(sqrt(M)), not O(M)."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        d, side = config.width, math.isqrt(config.memory_slots)
        self.spans = (*(span for span in SPANS if span < config.max_history - 1), config.max_history - 1)
        self.reads = config.memory_reads
        self.levels = nn.ModuleList(nn.Linear(d, d) for _ in self.spans)
        self.query = nn.Linear(len(self.spans) * d, d)
        self.query_norm = nn.LayerNorm(d)
        self.halves = nn.Parameter(torch.randn(2, side, d // 2) * (d // 2) ** -0.5)
        self.slots = nn.Embedding(side * side, d)
        nn.init.normal_(self.slots.weight, std=d**-0.5)
        self.key = nn.Parameter(torch.randn(d))  # what candidates attend to in the memory's stead

    def forward(self, tokens: Tensor, cuts: Tensor) -> Tensor:
        """Tokens [B, N, d] and prefix lengths [B, Q] -> the pooled interests read for each prefix [B, Q, d]."""
        pooled = [
            fn.relu(level(mean_of_last(tokens, cuts, span)))
            for level, span in zip(self.levels, self.spans, strict=True)
        ]
        query = self.query_norm(self.query(torch.cat(pooled, dim=-1)))  # [B, Q, d]
        scores, places = self.choose(query)
        read: Tensor = (torch.softmax(scores, dim=-1)[..., None] * self.slots(places)).sum(-2)
        return read

    def choose(self, query: Tensor) -> tuple[Tensor, Tensor]:
        """The best slots of queries [..., d]: scores and places [..., reads].

        A slot's score is the sum of its two keys' scores, so the best slots are among the pairs of the best keys.
        """
        side = self.halves.shape[1]
        first, second = (
            torch.topk(half @ keys.T, self.reads)
            for half, keys in zip(query.chunk(2, dim=-1), self.halves, strict=True)
        )
        pairs = first.values[..., :, None] + second.values[..., None, :]  # [..., reads, reads]
        best = torch.topk(pairs.flatten(-2), self.reads)
        row = first.indices.gather(-1, best.indices // self.reads)
        column = second.indices.gather(-1, best.indices % self.reads)
        return best.values, row * side + column
