from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from lime_model.batches import CandidateWeights
from lime_model.candidates import Candidates, ScoreHead, candidates_of
from lime_model.scoring import Excluded, Scorer, ScoreShapes, TopK, _keys, _score_of
from schemas.errors import BadNumberError, ConfigError, InputError

HEADS = ("linear", "dot", "mlp")
H, L, D = 2, 3, 8
SMALL = ScoreShapes(users_per_block=4, candidates_per_block=16)


def made(head: str, C: int, seed: int = 0, width: int = D) -> Candidates:
    g = torch.Generator().manual_seed(seed)
    F = {"linear": 1, "dot": width, "mlp": 5}[head]
    A = torch.softmax(torch.randn(C, H, L, generator=g), -1)
    G = torch.randn(C, F, generator=g) if head == "mlp" else None
    w = torch.randn(C, F, generator=g) if head == "dot" else None
    weights = CandidateWeights(A, G, w, torch.randn(C, generator=g))
    shared = ScoreHead(torch.randn(H, width, F, generator=g), torch.zeros(F), torch.ones(F), head == "mlp", "digest")
    return candidates_of([f"{n:05d}" for n in range(C)], weights, shared)


def links(B: int, seed: int = 1, width: int = D) -> Tensor:
    return torch.randn(B, L, width, generator=torch.Generator().manual_seed(seed))


def nothing(B: int) -> Excluded:
    return Excluded(torch.zeros(B + 1, dtype=torch.int64), torch.empty(0, dtype=torch.int64))


def excluded(rows: list[list[int]]) -> Excluded:
    return Excluded(
        torch.tensor([0, *(len(r) for r in rows)]).cumsum(0), torch.tensor([p for r in rows for p in r]).long()
    )


def exact(candidates: Candidates, P: Tensor) -> Tensor:
    """[B, C] in float64, straight from the definition."""
    T = torch.einsum("bld,hdf->bhlf", P.double(), candidates.fold.double())
    weights = candidates.weights
    hidden = torch.einsum("chl,bhlf->bcf", weights.A.double(), T)
    hidden = hidden + (weights.G if weights.G is not None else candidates.g).double()
    hidden = hidden.relu() if candidates.relu else hidden
    w = (weights.w if weights.w is not None else candidates.w).double()
    return (hidden * w).sum(-1) + weights.b.double()


def lists(found: TopK) -> list[list[int]]:
    return [row[:n].tolist() for row, n in zip(found.positions, found.count.tolist(), strict=True)]


@pytest.mark.parametrize("head", HEADS)
@pytest.mark.parametrize(("B", "C", "k"), [(9, 70, 5), (4, 16, 16), (1, 3, 10), (5, 33, 1)])
def test_lists_equal_brute_force(head: str, B: int, C: int, k: int) -> None:
    candidates, P = made(head, C), links(B)
    found = Scorer(candidates, k, SMALL).top_k(P, nothing(B), torch.ones(C, dtype=torch.bool))
    expected = exact(candidates, P).sort(dim=1, descending=True)
    n = min(k, C)
    assert torch.equal(found.positions[:, :n], expected.indices[:, :n])
    torch.testing.assert_close(found.scores[:, :n].double(), expected.values[:, :n], rtol=1e-5, atol=1e-5)
    assert found.count.tolist() == [n] * B
    assert found.positions.shape == (B, k) and bool((found.positions[:, n:] == -1).all())
    assert not found.scores[:, n:].any()


def test_ties_go_to_the_smaller_item_id_across_blocks_and_zeros() -> None:
    C = 50
    plain = made("linear", C)
    # b alone decides: three values only, and both zeros
    b = torch.tensor([0.0, -0.0, 1.0, -1.0])[torch.arange(C) % 4]
    flat = replace(plain, weights=replace(plain.weights, b=b), fold=torch.zeros(H, D, 1))
    found = Scorer(flat, 40, SMALL).top_k(links(2), nothing(2), torch.ones(C, dtype=torch.bool))
    ones, zeros, minus = ([i for i in range(C) if i % 4 in rest] for rest in ((2,), (0, 1), (3,)))
    assert lists(found) == [(ones + zeros + minus)[:40]] * 2
    assert not torch.signbit(found.scores[:, len(ones) : len(ones) + len(zeros)]).any()


def test_a_key_orders_by_score_then_position_and_gives_the_score_back() -> None:
    scores = torch.tensor([[0.0, -0.0, -1.5, 3e38, -3e38, 1e-45, -1e-45, 1.5]])
    keys = _keys(scores, 7)[0]
    assert keys.argsort(descending=True).tolist() == [3, 7, 5, 0, 1, 6, 2, 4]
    assert torch.equal(_score_of(keys), scores[0])
    assert not torch.signbit(_score_of(keys)[1])


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_filters_act_inside_the_loop_and_lists_stay_full(data: st.DataObject) -> None:
    C, B, k = data.draw(st.integers(1, 40)), data.draw(st.integers(1, 6)), data.draw(st.integers(1, 12))
    eligible = torch.tensor(data.draw(st.lists(st.booleans(), min_size=C, max_size=C)))
    rows = [sorted(data.draw(st.sets(st.integers(0, C - 1)))) for _ in range(B)]
    candidates, P = made("linear", C, seed=C), links(B)
    found = Scorer(candidates, k, SMALL).top_k(P, excluded(rows), eligible)
    scores = Scorer(candidates, C, SMALL).top_k(P, nothing(B), torch.ones(C, dtype=torch.bool))
    for user, row in enumerate(rows):
        ranked = scores.positions[user].tolist()
        allowed = [c for c in ranked if bool(eligible[c]) and c not in row]
        assert lists(found)[user] == allowed[:k]


@pytest.mark.parametrize("head", HEADS)
def test_a_pairs_score_has_the_same_bits_in_any_batch_block_or_order(head: str) -> None:
    C, B, shapes = 200, 37, ScoreShapes(16, 64)
    candidates, P = made(head, C, width=64), links(B, width=64)
    everything = torch.ones(C, dtype=torch.bool)
    whole = Scorer(candidates, C, shapes).top_k(P, nothing(B), everything)
    order = torch.randperm(B, generator=torch.Generator().manual_seed(3))
    for rows in (order, order[:5], order[:1]):
        part = Scorer(candidates, C, shapes).top_k(P[rows], nothing(len(rows)), everything)
        assert torch.equal(part.positions, whole.positions[rows]) and torch.equal(part.scores, whole.scores[rows])
    # the same items at other positions, among fewer candidates
    kept = torch.arange(1, C, 3)
    weights = candidates.weights
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
    moved = Scorer(fewer, len(kept), shapes).top_k(P, nothing(B), torch.ones(len(kept), dtype=torch.bool))
    by_item = torch.zeros(B, C).scatter(1, whole.positions, whole.scores)
    assert torch.equal(torch.zeros(B, len(kept)).scatter(1, moved.positions, moved.scores), by_item[:, kept])


def test_two_threads_give_the_bits_of_one() -> None:
    candidates, P = made("dot", 500, width=64), links(40, width=64)
    found = []
    for threads in (1, 2):
        torch.set_num_threads(threads)
        found.append(Scorer(candidates, 50, ScoreShapes()).top_k(P, nothing(40), torch.ones(500, dtype=torch.bool)))
    assert torch.equal(found[0].scores, found[1].scores) and torch.equal(found[0].positions, found[1].positions)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
def test_links_that_are_not_finite_are_named_by_row(value: float) -> None:
    P = links(7)
    P[5, 0, 0] = value
    with pytest.raises(BadNumberError, match="user row 5"):
        Scorer(made("dot", 9), 3, SMALL).top_k(P, nothing(7), torch.ones(9, dtype=torch.bool))


def test_candidates_that_are_not_finite_are_refused_before_work() -> None:
    candidates = made("dot", 9)
    candidates.weights.b[4] = float("nan")
    with pytest.raises(BadNumberError, match="row 4, item '00004'"):
        Scorer(candidates, 3, SMALL)


def test_a_score_that_overflows_is_named_not_dropped() -> None:
    with pytest.raises(BadNumberError, match="user row 1"):
        P = links(2)
        P[1] *= 1e38
        Scorer(made("dot", 9), 3, SMALL).top_k(P, nothing(2), torch.ones(9, dtype=torch.bool))


def test_nothing_eligible_and_nobody_asked_are_empty_lists() -> None:
    scorer = Scorer(made("dot", 9), 3, SMALL)
    assert lists(scorer.top_k(links(2), nothing(2), torch.zeros(9, dtype=torch.bool))) == [[], []]
    assert scorer.top_k(links(0), nothing(0), torch.ones(9, dtype=torch.bool)).positions.shape == (0, 3)


def test_inputs_of_another_size_are_refused() -> None:
    scorer = Scorer(made("dot", 9), 3, SMALL)
    with pytest.raises(InputError, match=r"eligible \[9\]"):
        scorer.top_k(links(2), nothing(2), torch.ones(8, dtype=torch.bool))
    with pytest.raises(InputError, match=r"offsets \[3\]"):
        scorer.top_k(links(2), nothing(1), torch.ones(9, dtype=torch.bool))
    with pytest.raises(InputError, match=r"0\.\.8"):
        scorer.top_k(links(2), excluded([[9], []]), torch.ones(9, dtype=torch.bool))


@pytest.mark.parametrize("shapes", [(0, 4), (4, 0)])
def test_empty_blocks_are_refused(shapes: tuple[int, int]) -> None:
    with pytest.raises(ConfigError, match="per_block"):
        ScoreShapes(*shapes)


def test_a_list_of_no_items_is_refused() -> None:
    with pytest.raises(ConfigError, match="k: expected at least 1"):
        Scorer(made("dot", 9), 0, SMALL)


def test_block_shapes_are_part_of_the_numerics_id() -> None:
    ids = {Scorer(made("dot", 9), 3, s).numerics_id for s in (SMALL, ScoreShapes(5, 16), ScoreShapes(4, 17))}
    assert len(ids) == 3


def test_memory_is_flat_in_candidates_and_users(monkeypatch: pytest.MonkeyPatch) -> None:
    sizes: list[int] = []
    inner = Scorer._scores

    def watched(self: Scorer, P: Tensor, first: int) -> Tensor:
        found = inner(self, P, first)
        sizes.append(found.numel())
        return found

    monkeypatch.setattr(Scorer, "_scores", watched)
    for B, C in ((3, 20), (30, 200)):
        Scorer(made("dot", C), 3, SMALL).top_k(links(B), nothing(B), torch.ones(C, dtype=torch.bool))
    assert set(sizes) == {4 * 16}
