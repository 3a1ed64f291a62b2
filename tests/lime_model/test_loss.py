import pytest
import torch
from torch import Tensor
from torch.nn import functional as fn

from lime_model.batches import CandidateWeights
from lime_model.config import HEADS, Head
from lime_model.features import encode_items
from lime_model.loss import full_softmax, sampled_softmax, sampling_odds
from tests.lime_model.samples import FEATURES, ITEMS, SPEC, VOCABULARY, config, history_batch, lime


def take(weights: CandidateWeights, index: Tensor) -> CandidateWeights:
    """Candidates by index."""
    G = weights.G[index] if weights.G is not None else None
    w = weights.w[index] if weights.w is not None else None
    return CandidateWeights(weights.A[index], G, w, weights.b[index])


@pytest.mark.parametrize("head", HEADS)
def test_scores_of_pairs_are_the_same_as_in_the_full_matrix(head: Head) -> None:
    model = lime(config(head=head))
    P = model.personalize_links(history_batch([3, 8, 0], 8))
    weights = model.candidate_weights(encode_items(VOCABULARY, SPEC, ITEMS, FEATURES))
    chosen = torch.tensor([5, 0, 11])
    pairs = model.score_pairs(P, take(weights, chosen))
    full = model.score_all(P, weights)[torch.arange(3), chosen]
    torch.testing.assert_close(pairs, full, rtol=1e-4, atol=1e-5)


def test_full_softmax_is_the_mean_negative_log_likelihood() -> None:
    scores, targets = torch.randn(4, 6), torch.tensor([0, 5, 2, 2])
    expected = -torch.log_softmax(scores, 1)[torch.arange(4), targets].mean()
    rows = torch.arange(4)
    torch.testing.assert_close(full_softmax(scores, rows, targets, 0.0), expected)
    smoothed = fn.cross_entropy(scores, targets, label_smoothing=0.2)
    torch.testing.assert_close(full_softmax(scores, rows, targets, 0.2), smoothed)


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_the_gradient_of_the_full_softmax_is_that_of_its_plain_form(smoothing: float) -> None:
    rows, targets = torch.tensor([0, 2, 2, 2, 3]), torch.tensor([4, 1, 1, 0, 2])  # row 1 has no target, row 2 one twice
    scores = torch.randn(4, 6, dtype=torch.float64, requires_grad=True)
    log_odds = torch.log_softmax(scores, 1)
    plain = -((1 - smoothing) * log_odds[rows, targets] + smoothing * log_odds.mean(1)[rows]).mean()
    found = full_softmax(scores, rows, targets, smoothing)
    torch.testing.assert_close(found, plain)
    (expected,), (gradient,) = torch.autograd.grad(3 * plain, scores), torch.autograd.grad(3 * found, scores)
    torch.testing.assert_close(gradient, expected)


def test_scores_of_any_size_give_a_finite_loss() -> None:
    scores = torch.tensor([[1e4, 0.0, -1e4]], requires_grad=True)
    loss = full_softmax(scores, torch.tensor([0]), torch.tensor([2]), 0.0)
    loss.backward()
    assert loss.item() == 2e4
    assert scores.grad is not None
    assert scores.grad.tolist() == [[1.0, 0.0, -1.0]]


def test_a_row_may_have_several_targets_or_none() -> None:
    scores, rows, targets = torch.randn(3, 6), torch.tensor([0, 0, 2]), torch.tensor([1, 4, 1])
    expected = fn.cross_entropy(scores[rows], targets, label_smoothing=0.1)
    torch.testing.assert_close(full_softmax(scores, rows, targets, 0.1), expected)
    sampled, odds = torch.tensor([0, 1, 4, 5]), torch.full((6,), 1 / 4)  # each counts as sampled once
    found = sampled_softmax(scores[rows, targets], scores[:, sampled], rows, targets, sampled, odds)
    left = [[0, 5], [0, 5], [0, 4, 5]]  # of the samples: what is no target of the row
    each = [
        fn.cross_entropy(scores[row, [target, *others]], torch.tensor(0))
        for row, target, others in zip(rows.tolist(), targets.tolist(), left, strict=True)
    ]
    torch.testing.assert_close(found, torch.stack(each).mean())


def test_odds_are_half_popularity_and_never_zero() -> None:
    torch.testing.assert_close(sampling_odds(torch.tensor([8, 0, 2])), torch.tensor([17 / 30, 1 / 6, 4 / 15]))


def test_sampling_everything_many_times_gives_the_full_softmax() -> None:
    torch.manual_seed(0)
    C, M = 8, 5
    scores, targets = torch.randn(M, C), torch.randint(0, C, (M,))
    odds = sampling_odds(torch.randint(1, 9, (C,)))
    sampled = torch.multinomial(odds, 200_000, replacement=True)
    own = scores[torch.arange(M), targets]
    found = sampled_softmax(own, scores[:, sampled], torch.arange(M), targets, sampled, odds)
    # the corrected sum over samples estimates the sum over candidates; the target enters as its own log-odds
    others = scores.masked_fill(fn.one_hot(targets, C).bool(), float("-inf")).logsumexp(1)
    positive = own - torch.log(odds[targets] * len(sampled))
    expected = (torch.logaddexp(positive, others) - positive).mean()
    torch.testing.assert_close(found, expected, rtol=0.01, atol=0.01)
