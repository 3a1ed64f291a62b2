"""What every scorer must do, whoever computes: the blocked torch one, and each build of the kernel that runs here."""

from collections.abc import Callable

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from lime_model.batches import CandidateWeights
from lime_model.candidates import Candidates, ScoreHead, candidates_of
from lime_model.scoring import open_scorer
from lime_model.scoring.blocked import BlockedScorer, ScoreShapes
from lime_model.scoring.cuda import CudaScorer
from lime_model.scoring.kernel import KernelScorer
from lime_model.scoring.library import carried
from lime_model.scoring.lists import Eligible, Scorer, pack
from schemas.errors import BadNumberError, ConfigError, InputError
from tests.lime_model.scoring.emulated import emulated
from tests.lime_model.scoring.made import (
    HEADS,
    D,
    H,
    everything,
    exact,
    excluded,
    links,
    lists,
    made,
    nothing,
    only,
)

Opened = Callable[[Candidates, int], Scorer]


def blocked(candidates: Candidates, k: int) -> Scorer:
    """Small blocks, so that a few candidates are several."""
    return BlockedScorer(candidates, k, ScoreShapes(users_per_block=4, candidates_per_block=16))


def kernel(build: str) -> Opened:
    """One build."""
    return lambda candidates, k: KernelScorer(candidates, k, build)


def blocked_at_once(candidates: Candidates, k: int) -> Scorer:
    """As on a GPU without the kernel: the users of a block in one product."""
    return BlockedScorer(candidates, k, ScoreShapes(users_per_block=6, candidates_per_block=32, users_at_once=6))


def on_gpu(candidates: Candidates, k: int) -> Scorer:
    """The kernel on a real GPU."""
    return CudaScorer(candidates, k, torch.device("cuda:0"))


SCORERS = {
    "blocked": blocked,
    "blocked at once": blocked_at_once,
    **{build: kernel(build) for build in carried()},
    "gpu emulated": emulated,
    **({"gpu": on_gpu} if torch.cuda.is_available() else {}),
}


@pytest.fixture(params=SCORERS)
def opened(request: pytest.FixtureRequest) -> Opened:
    """Each scorer in turn."""
    return SCORERS[request.param]


@pytest.mark.parametrize("head", HEADS)
@pytest.mark.parametrize(("B", "C", "k"), [(9, 70, 5), (4, 16, 16), (1, 3, 10), (5, 33, 1), (3, 1, 2), (2, 700, 600)])
def test_lists_equal_brute_force(opened: Opened, head: str, B: int, C: int, k: int) -> None:
    candidates, P = made(head, C), links(B)
    found = opened(candidates, k).top_k(P, nothing(B), everything(C, B))
    expected = exact(candidates, P).sort(dim=1, descending=True)
    n = min(k, C)
    assert torch.equal(found.positions[:, :n], expected.indices[:, :n])
    torch.testing.assert_close(found.scores[:, :n].double(), expected.values[:, :n], rtol=1e-5, atol=1e-5)
    assert found.count.tolist() == [n] * B
    assert found.positions.shape == (B, k) and bool((found.positions[:, n:] == -1).all())
    assert not found.scores[:, n:].any()


def test_ties_go_to_the_smaller_item_id_across_blocks_and_zeros(opened: Opened) -> None:
    C = 50
    # b alone decides: three values only, and both zeros
    b = torch.tensor([0.0, -0.0, 1.0, -1.0])[torch.arange(C) % 4]
    flat = made("linear", C, b=b, fold=torch.zeros(H, D, 1))
    found = opened(flat, 40).top_k(links(2), nothing(2), everything(C, 2))
    ones, zeros, minus = ([i for i in range(C) if i % 4 in rest] for rest in ((2,), (0, 1), (3,)))
    assert lists(found) == [(ones + zeros + minus)[:40]] * 2
    assert not torch.signbit(found.scores[:, len(ones) : len(ones) + len(zeros)]).any()


def test_a_zero_of_negative_zeros_is_a_positive_one(opened: Opened) -> None:
    """Every term is -1 x 0: without a care for it the score is -0, which would stand below +0."""
    C, F = 40, 5
    zero = torch.tensor([0.0, -0.0])[torch.arange(C) % 2]
    weights = CandidateWeights(torch.full((C, H, 3), 1 / 3), torch.full((C, F), -1.0), None, zero)
    head = ScoreHead(torch.zeros(H, D, F), torch.zeros(F), torch.full((F,), -1.0), True, "digest")
    found = opened(candidates_of([f"{n:02d}" for n in range(C)], weights, head), 30).top_k(
        links(2), nothing(2), everything(C, 2)
    )
    assert lists(found) == [list(range(30))] * 2
    assert not torch.signbit(found.scores).any()


@pytest.mark.parametrize("k", [1, 20, 200, 300])
def test_all_scores_equal_gives_the_first_items(opened: Opened, k: int) -> None:
    flat = made("linear", 200, b=torch.full((200,), 0.5), fold=torch.zeros(H, D, 1))
    found = opened(flat, k).top_k(links(3), nothing(3), everything(200, 3))
    assert lists(found) == [list(range(min(k, 200)))] * 3


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_filters_act_inside_the_loop_and_lists_stay_full(data: st.DataObject) -> None:
    C, B, k = data.draw(st.integers(1, 40)), data.draw(st.integers(1, 6)), data.draw(st.integers(1, 12))
    eligible = torch.tensor(
        data.draw(st.lists(st.lists(st.booleans(), min_size=C, max_size=C), min_size=1, max_size=3))
    )
    class_of = torch.tensor(data.draw(st.lists(st.integers(0, len(eligible) - 1), min_size=B, max_size=B)))
    rows = [sorted(data.draw(st.sets(st.integers(0, C - 1)))) for _ in range(B)]
    candidates, P = made(data.draw(st.sampled_from(HEADS)), C, seed=C), links(B)
    for opened in SCORERS.values():
        found = opened(candidates, k).top_k(P, excluded(rows), Eligible(pack(eligible), class_of))
        scores = opened(candidates, C).top_k(P, nothing(B), everything(C, B))
        for user, row in enumerate(rows):
            ranked = scores.positions[user].tolist()
            allowed = [c for c in ranked if bool(eligible[class_of[user]][c]) and c not in row]
            assert lists(found)[user] == allowed[:k]


@pytest.mark.parametrize("head", HEADS)
def test_a_pairs_score_has_the_same_bits_in_any_batch_block_or_order(opened: Opened, head: str) -> None:
    C, B = 200, 137
    candidates, P = made(head, C, width=64), links(B, width=64)
    whole = opened(candidates, C).top_k(P, nothing(B), everything(C, B))
    order = torch.randperm(B, generator=torch.Generator().manual_seed(3))
    for rows in (order, order[:5], order[:1]):
        part = opened(candidates, C).top_k(P[rows], nothing(len(rows)), everything(C, len(rows)))
        assert torch.equal(part.positions, whole.positions[rows]) and torch.equal(part.scores, whole.scores[rows])
    # the same items at other positions, among fewer candidates
    kept = torch.arange(1, C, 3)
    weights = candidates.rows(0, C)
    fewer = candidates_of(
        [candidates.item_id(int(c)) for c in kept],
        CandidateWeights(
            weights.A[kept],
            weights.G[kept] if weights.G is not None else None,
            weights.w[kept] if weights.w is not None else None,
            weights.b[kept],
        ),
        ScoreHead(candidates.fold, candidates.g, candidates.w, candidates.relu, "digest"),
    )
    moved = opened(fewer, len(kept)).top_k(P, nothing(B), everything(len(kept), B))
    by_item = torch.zeros(B, C).scatter(1, whole.positions, whole.scores)
    assert torch.equal(torch.zeros(B, len(kept)).scatter(1, moved.positions, moved.scores), by_item[:, kept])


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
def test_links_that_are_not_finite_are_named_by_row(opened: Opened, value: float) -> None:
    P = links(7)
    P[5, 0, 0] = value
    with pytest.raises(BadNumberError, match="user row 5"):
        opened(made("dot", 9), 3).top_k(P, nothing(7), everything(9, 7))


def test_a_score_that_overflows_is_named_not_dropped(opened: Opened) -> None:
    P = links(2)
    P[1] *= 1e38
    with pytest.raises(BadNumberError, match="user row 1"):
        opened(made("dot", 9), 3).top_k(P, nothing(2), everything(9, 2))


def test_nothing_eligible_and_nobody_asked_are_empty_lists(opened: Opened) -> None:
    scorer = opened(made("dot", 9), 3)
    assert lists(scorer.top_k(links(2), nothing(2), only(torch.zeros(9, dtype=torch.bool), 2))) == [[], []]
    assert scorer.top_k(links(0), nothing(0), everything(9, 0)).positions.shape == (0, 3)


def test_inputs_that_do_not_fit_are_refused(opened: Opened) -> None:
    scorer = opened(made("dot", 9), 3)
    with pytest.raises(InputError, match=r"masks: expected \[classes, 8\]"):
        scorer.top_k(links(2), nothing(2), everything(65, 2))
    with pytest.raises(InputError, match=r"class_of: expected 0\.\.0"):
        scorer.top_k(links(2), nothing(2), Eligible(everything(9, 2).masks, torch.tensor([0, 1])))
    with pytest.raises(InputError, match=r"offsets: expected \[3\]"):
        scorer.top_k(links(2), nothing(1), everything(9, 2))
    with pytest.raises(InputError, match=r"0\.\.8"):
        scorer.top_k(links(2), excluded([[9], []]), everything(9, 2))
    with pytest.raises(InputError, match="ascending within a user"):
        scorer.top_k(links(2), excluded([[1], [3, 2]]), everything(9, 2))
    with pytest.raises(InputError, match=rf"links: expected \[2, 3, {D}\]"):
        scorer.top_k(links(2, width=4), nothing(2), everything(9, 2))
    # a step down between users is none within one
    assert len(lists(scorer.top_k(links(3), excluded([[8], [], [0]]), everything(9, 3)))) == 3


def test_a_list_of_no_items_is_refused(opened: Opened) -> None:
    with pytest.raises(ConfigError, match="k: expected at least 1"):
        opened(made("dot", 9), 0)


@pytest.mark.parametrize("head", HEADS)
def test_torch_and_the_kernel_agree_within_their_tolerance(head: str) -> None:
    C, B = 900, 40
    candidates, P = made(head, C, width=64), links(B, width=64)
    by_torch = BlockedScorer(candidates, C).top_k(P, nothing(B), everything(C, B))
    by_kernel = open_scorer(candidates, C).top_k(P, nothing(B), everything(C, B))
    one, other = (torch.zeros(B, C).scatter(1, top.positions, top.scores) for top in (by_torch, by_kernel))
    difference = (one - other).abs().max().item()
    assert difference < 1e-5 * other.abs().max().item() * 10, f"largest difference {difference}"


def test_without_a_kernel_torch_scores_and_says_so(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("lime_model.scoring.carried", tuple)
    with caplog.at_level("WARNING", "lime"):
        scorer = open_scorer(made("mlp", 30), 4)
    assert isinstance(scorer, BlockedScorer) and scorer.numerics_id.startswith("torch-blocked-3;")
    assert "no compiled kernel" in caplog.text


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU here")
@pytest.mark.parametrize("head", HEADS)
def test_torch_on_a_gpu_gives_the_scores_of_the_cpu_within_the_tolerance(head: str) -> None:
    C, B = 900, 40
    candidates, P = made(head, C, width=64), links(B, width=64)
    by_gpu = BlockedScorer(candidates, C, device=torch.device("cuda:0"))
    assert "device=" in by_gpu.numerics_id
    found = by_gpu.top_k(P, nothing(B), everything(C, B))
    by_cpu = open_scorer(candidates, C).top_k(P, nothing(B), everything(C, B))
    one, other = (torch.zeros(B, C).scatter(1, top.positions, top.scores) for top in (found, by_cpu))
    torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-4)
