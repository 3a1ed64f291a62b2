"""Lists merged from last night's against lists scored in full: the same items and the same bits, over many nights."""

from dataclasses import dataclass

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from lime_model.batches import CandidateWeights
from lime_model.candidates import Candidates, ScoreHead, candidates_of
from lime_model.scoring import open_scorer
from lime_model.scoring.incremental import Kept, SubsetScorer, merge_lists
from lime_model.scoring.lists import Eligible, Excluded, TopK, pack
from tests.lime_model.scoring.made import HEADS, everything, excluded, links, lists, made, nothing

USERS, ITEMS, K, RESERVE, NIGHTS = 6, 90, 5, 4, 20
WIDTH = K + RESERVE


@dataclass(frozen=True)
class World:
    """One night: who is a candidate, with which weights, who may get what."""

    candidates: Candidates
    items: list[int]  # the item of each position
    weights: Tensor  # [ITEMS]: a number that stands for an item's weights
    allowed: Tensor  # [USERS, ITEMS] bool: classes are users here
    held: Tensor  # [USERS, ITEMS] bool: seen or denied
    P: Tensor

    @property
    def filters(self) -> tuple[Excluded, Eligible]:
        rows = [[p for p, item in enumerate(self.items) if self.held[u, item]] for u in range(USERS)]
        return excluded(rows), Eligible(pack(self.allowed[:, self.items]), torch.arange(USERS))


Floor = tuple[float, int] | None
"""(score, item)."""

Kind = tuple[str, bool]
"""A head, and whether scores are one of four."""


def world(kind: Kind, there: Tensor, weights: Tensor, allowed: Tensor, held: Tensor, P: Tensor) -> World:
    """An item's weights follow from its number in `weights`."""
    head, ties = kind
    items = torch.nonzero(there).flatten().tolist()
    whole = made(head, ITEMS)
    rows = whole.rows(0, ITEMS)
    turned = (torch.arange(ITEMS) + weights)[items] % ITEMS
    b = (weights[items] % 4).float() if ties else rows.b[turned]
    G = None if ties or rows.G is None else rows.G[turned]
    w = None if rows.w is None else rows.w[turned]
    fold = torch.zeros_like(whole.fold) if ties else whole.fold
    shared = ScoreHead(fold, whole.g, whole.w, whole.relu, "digest")
    found = CandidateWeights(rows.A[turned], G, w, b)
    packed = candidates_of([f"{item:05d}" for item in items], found, shared)
    return World(packed, items, weights, allowed, held, P)


def next_night(before: World, kind: Kind, g: torch.Generator) -> World:
    """Items come, go and change, pairs become eligible and not, some users get new links."""

    def flipped(values: Tensor, share: float) -> Tensor:
        return values ^ (torch.rand(values.shape, generator=g) < share)

    there = torch.zeros(ITEMS, dtype=torch.bool)
    there[before.items] = True
    weights = before.weights + (torch.rand(ITEMS, generator=g) < 0.03) * torch.randint(1, 50, (ITEMS,), generator=g)
    moved = (torch.rand(USERS, generator=g) < 0.15).float()[:, None, None]
    P = before.P + moved * torch.randn(before.P.shape, generator=g)
    allowed, held = flipped(before.allowed, 0.01), flipped(before.held, 0.02)
    return world(kind, flipped(there, 0.03), weights, allowed, held, P)


def kept_of(top: TopK, floors: list[Floor], before: World, now: World) -> Kept:
    """Last night's lists and floors (score, item) in tonight's positions."""
    place = {item: position for position, item in enumerate(now.items)}

    def position(item: int) -> int:
        return place.get(item, -1 - sum(other < item for other in now.items))

    rows = [[position(before.items[p]) if p >= 0 else -1 for p in row] for row in top.positions.tolist()]
    floor_scores = [floor[0] if floor else -torch.inf for floor in floors]
    floor_positions = [position(floor[1]) if floor else -1 for floor in floors]
    return Kept(torch.tensor(rows), top.scores, torch.tensor(floor_scores), torch.tensor(floor_positions))


def floors_of(top: TopK, cut: Tensor, now: World, before: list[Floor]) -> list[Floor]:
    """The last entry of lists that were cut off, else the floor there was."""
    return [
        (float(top.scores[u, -1]), now.items[int(top.positions[u, -1])]) if cut[u] else before[u] for u in range(USERS)
    ]


def changed_pairs(before: World, now: World) -> Tensor:
    """[ITEMS] bool: the item's weights or anybody's eligibility for it changed."""
    there = torch.zeros(2, ITEMS, dtype=torch.bool)
    there[0, before.items], there[1, now.items] = True, True
    pairs = (before.allowed & ~before.held) != (now.allowed & ~now.held)
    return (there[0] != there[1]) | (before.weights != now.weights) | pairs.any(0)


def full_lists(now: World) -> TopK:
    return open_scorer(now.candidates, WIDTH).top_k(now.P, *now.filters)


@settings(max_examples=200, deadline=None)
@given(seed=st.integers(0, 2**31), head=st.sampled_from(HEADS), ties=st.booleans())
def test_twenty_nights_of_churn_merged_equal_twenty_nights_scored_in_full(seed: int, head: str, ties: bool) -> None:
    g, kind = torch.Generator().manual_seed(seed), (head, ties)
    there = torch.rand(ITEMS, generator=g) < 0.8
    allowed, held = torch.rand(USERS, ITEMS, generator=g) < 0.9, torch.rand(USERS, ITEMS, generator=g) < 0.2
    before = world(kind, there, torch.zeros(ITEMS, dtype=torch.int64), allowed, held, links(USERS))
    kept = full_lists(before)
    floors = floors_of(kept, kept.count == WIDTH, before, [None] * USERS)
    merged_lists = 0
    for _ in range(NIGHTS):
        now = next_night(before, kind, g)
        rescored = torch.nonzero(changed_pairs(before, now)[now.items]).flatten()
        fresh = SubsetScorer(now.candidates, rescored, WIDTH, "cpu").top_k(now.P, *now.filters)
        merged = merge_lists(kept_of(kept, floors, before, now), fresh, rescored, *now.filters, K)
        new_links = (now.P != before.P).flatten(1).any(1)
        in_full, full = merged.unknown | new_links, full_lists(now)
        merged_lists += int((~in_full).sum())
        for u in torch.nonzero(~in_full).flatten().tolist():
            n = min(int(full.count[u]), K)
            assert merged.top.positions[u, :n].tolist() == full.positions[u, :n].tolist()
            assert merged.top.scores[u, :n].equal(full.scores[u, :n])
            assert int(merged.top.count[u]) >= n
        kept = chosen(in_full, full, merged.top)
        cut = torch.where(in_full, full.count == WIDTH, merged.cut)
        floors = floors_of(kept, cut, now, [None if in_full[u] else floors[u] for u in range(USERS)])
        before = now
    assert merged_lists > USERS, "nearly everything was scored in full: the test shows nothing"


def chosen(first: Tensor, one: TopK, other: TopK) -> TopK:
    """Row by row."""
    pick = first[:, None]
    return TopK(
        torch.where(pick, one.positions, other.positions),
        torch.where(pick, one.scores, other.scores),
        torch.where(first, one.count, other.count),
    )


@pytest.mark.parametrize("head", HEADS)
@pytest.mark.parametrize("picked", [[], [3], [0, 1, 15, 16, 63, 64, 88], list(range(89))])
def test_a_subset_scores_as_the_whole_does(head: str, picked: list[int]) -> None:
    whole, P, positions = made(head, 89), links(USERS), torch.tensor(picked, dtype=torch.int64)
    held = excluded([[3, 64], [], [0, 1, 2, 3], [88], [], []])
    allowed = torch.rand(2, 89, generator=torch.Generator().manual_seed(4)) < 0.7
    eligible = Eligible(pack(allowed), torch.tensor([0, 1, 0, 1, 0, 1]))
    inside = torch.zeros(89, dtype=torch.bool)
    inside[positions] = True
    expected = open_scorer(whole, 8).top_k(P, held, Eligible(pack(allowed & inside), eligible.class_of))
    found = SubsetScorer(whole, positions, 8, "cpu").top_k(P, held, eligible)
    assert lists(found) == lists(expected)
    assert found.scores.equal(expected.scores)
    ids = [whole.subset(positions).item_id(n) for n in range(len(picked))]
    assert ids == [whole.item_id(p) for p in picked]


def test_an_entry_below_the_floor_never_enters_even_where_there_is_room() -> None:
    """Of the kept 1, 2 and 3 the best is gone; something unknown lies below the floor, maybe above the new one."""
    candidates, one_user = made("linear", 10), everything(10, 1)
    scores = torch.tensor([[3.0, 2.0, 1.0]])
    kept = Kept(torch.tensor([[-1, 2, 3]]), scores, torch.tensor([1.0]), torch.tensor([3]))

    def merged(score: float, position: int, k: int) -> tuple[list[int], bool, bool]:
        fresh = TopK(torch.tensor([[position, -1, -1]]), torch.tensor([[score, 0.0, 0.0]]), torch.tensor([1]))
        found = merge_lists(kept, fresh, torch.tensor([position]), nothing(1), one_user, k)
        return lists(found.top)[0], bool(found.cut), bool(found.unknown)

    assert len(candidates) == 10
    assert merged(0.5, 7, k=2) == ([2, 3], False, False)
    assert merged(0.5, 7, k=3) == ([2, 3], False, True)
    assert merged(1.5, 7, k=3) == ([2, 7, 3], True, False)
    assert merged(1.0, 7, k=3) == ([2, 3], False, True), "a tie behind the floor's item"
    assert merged(1.0, 1, k=3) == ([2, 1, 3], True, False), "a tie before it"


@pytest.mark.parametrize(("position", "listed"), [(3, True), (4, False)])
def test_a_floor_whose_item_is_gone_still_parts_those_before_it_from_those_behind(position: int, listed: bool) -> None:
    kept = Kept(torch.tensor([[0, -5]]), torch.tensor([[2.0, 1.0]]), torch.tensor([1.0]), torch.tensor([-5]))
    fresh = TopK(torch.tensor([[position, -1]]), torch.tensor([[1.0, 0.0]]), torch.tensor([1]))
    found = merge_lists(kept, fresh, torch.tensor([position]), nothing(1), everything(10, 1), 2)
    assert lists(found.top)[0] == ([0, position] if listed else [0])
