"""Losses over scores: of the next event full softmax, or sampled with log-Q correction; of binary tasks log loss."""

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as fn


def full_softmax(scores: Tensor, rows: Tensor, targets: Tensor, smoothing: float) -> Tensor:
    """Scores [M, C], and R pairs of a row and its target candidate -> mean over pairs.

    A row may have several targets; each is a softmax of its own over all candidates.
    """
    loss: Tensor = _FullSoftmax.apply(scores, rows, targets, smoothing)  # type: ignore[no-untyped-call]
    return loss


class _FullSoftmax(torch.autograd.Function):
    """The gradient is written in two passes over [M, C]; torch's own chain takes eight, and they cost a step more than
    its products do.
    """

    @staticmethod
    def forward(ctx: Any, scores: Tensor, rows: Tensor, targets: Tensor, smoothing: float) -> Tensor:
        top = scores.amax(1, keepdim=True)
        odds = (scores - top).exp_()
        total = odds.sum(1)
        ctx.save_for_backward(odds, total, rows, targets)
        ctx.smoothing = smoothing
        own = scores[rows, targets] * (1.0 - smoothing) + (scores.mean(1) * smoothing)[rows]
        return ((top[:, 0] + total.log())[rows] - own).mean()

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None, None]:
        odds, total, rows, targets = ctx.saved_tensors
        each = grad / len(rows)
        share = torch.bincount(rows, minlength=len(odds)).to(odds.dtype) * each  # [M] of a row's pairs
        found = odds * (share / total)[:, None]
        found -= (share * (ctx.smoothing / odds.shape[1]))[:, None]
        found.index_put_((rows, targets), -(1.0 - ctx.smoothing) * each.expand(len(rows)), accumulate=True)
        return found, None, None, None


def type_loss(outputs: Tensor, types: Tensor, own: Tensor) -> Tensor:
    """Outputs [R, T] of the binary tasks, their event types [T], and the types that R events have -> mean log loss."""
    return fn.binary_cross_entropy_with_logits(outputs, (own[:, None] == types).to(outputs.dtype))


def sampling_odds(counts: Tensor) -> Tensor:
    """Odds of each candidate as a negative [C]: half by training count, half uniform, so that none is never seen."""
    counts = counts.double()
    return (0.5 * counts / counts.sum() + 0.5 / len(counts)).float()


def sampled_softmax(
    positive: Tensor, negative: Tensor, rows: Tensor, targets: Tensor, sampled: Tensor, odds: Tensor
) -> Tensor:
    """R positives, and negatives [M, S] sampled with `odds` [C], corrected by log-Q -> mean over pairs.

    `rows` and `targets` [R] are each positive's row and candidate. A sample that is one of its row's targets is left
    out; a target counts as sampled once, like any candidate.
    """
    expected = torch.log(odds * len(sampled))
    own = torch.zeros(len(negative), len(odds), dtype=torch.bool, device=negative.device)
    own[rows, targets] = True
    others = (negative - expected[sampled]).masked_fill(own[:, sampled], float("-inf")).logsumexp(1)[rows]
    return fn.softplus(others - (positive - expected[targets])).mean()
