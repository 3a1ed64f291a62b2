"""Next-event losses over scores: full softmax, or sampled softmax with log-Q correction."""

import torch
from torch import Tensor
from torch.nn import functional as fn


def full_softmax(scores: Tensor, targets: Tensor, smoothing: float) -> Tensor:
    """Scores [M, C] and target candidates [M] -> scalar."""
    return fn.cross_entropy(scores, targets, label_smoothing=smoothing)


def sampling_odds(counts: Tensor) -> Tensor:
    """Odds of each candidate as a negative [C]: half by training count, half uniform, so that none is never seen."""
    counts = counts.double()
    return (0.5 * counts / counts.sum() + 0.5 / len(counts)).float()


def sampled_softmax(positive: Tensor, negative: Tensor, targets: Tensor, sampled: Tensor, odds: Tensor) -> Tensor:
    """Positives [M], negatives [M, S] sampled with `odds` [C], corrected by log-Q -> scalar.

    A sample that is the row's own target is left out; the target counts as sampled once, like any candidate.
    """
    expected = torch.log(odds * len(sampled))
    corrected = negative - expected[sampled]
    corrected = corrected.masked_fill(sampled[None, :] == targets[:, None], float("-inf"))
    logits = torch.cat([(positive - expected[targets])[:, None], corrected], dim=1)
    return fn.cross_entropy(logits, torch.zeros_like(targets))
