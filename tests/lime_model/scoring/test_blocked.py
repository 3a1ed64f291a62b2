import pytest
import torch
from torch import Tensor

from lime_model.batches import CandidateWeights
from lime_model.folded import FoldedHead, score_all
from lime_model.scoring.blocked import BlockedScorer, ScoreShapes, _Block, _keys, _score_of
from schemas.errors import ConfigError
from tests.lime_model.scoring.made import everything, links, made, nothing

SMALL = ScoreShapes(users_per_block=4, candidates_per_block=16)


def test_a_key_orders_by_score_then_position_and_gives_the_score_back() -> None:
    scores = torch.tensor([[0.0, -0.0, -1.5, 3e38, -3e38, 1e-45, -1e-45, 1.5]])
    keys = _keys(scores, 7)[0]
    assert keys.argsort(descending=True).tolist() == [3, 7, 5, 0, 1, 6, 2, 4]
    assert torch.equal(_score_of(keys), scores[0])
    assert not torch.signbit(_score_of(keys)[1])


def test_two_threads_give_the_bits_of_one() -> None:
    candidates, P = made("dot", 500, width=64), links(40, width=64)
    found = []
    before = torch.get_num_threads()
    try:
        for threads in (1, 2):
            torch.set_num_threads(threads)
            found.append(BlockedScorer(candidates, 50).top_k(P, nothing(40), everything(500, 40)))
    finally:
        torch.set_num_threads(before)
    assert torch.equal(found[0].scores, found[1].scores) and torch.equal(found[0].positions, found[1].positions)


@pytest.mark.parametrize("shapes", [(0, 8), (4, 0), (4, 12), (4, 8, 0), (4, 8, 3)])
def test_blocks_that_cannot_be_are_refused(shapes: tuple[int, ...]) -> None:
    with pytest.raises(ConfigError, match="ScoreShapes"):
        ScoreShapes(*shapes)


def test_block_shapes_are_part_of_the_numerics_id() -> None:
    shapes = (SMALL, ScoreShapes(5, 16), ScoreShapes(4, 24), ScoreShapes(4, 16, 2))
    assert len({BlockedScorer(made("dot", 9), 3, s).numerics_id for s in shapes}) == 4


def test_memory_is_flat_in_candidates_and_users(monkeypatch: pytest.MonkeyPatch) -> None:
    sizes: list[int] = []
    inner = BlockedScorer._scores

    def watched(self: BlockedScorer, P: Tensor, block: _Block) -> Tensor:
        found = inner(self, P, block)
        sizes.append(found.numel())
        return found

    monkeypatch.setattr(BlockedScorer, "_scores", watched)
    for B, C in ((3, 20), (30, 200)):
        BlockedScorer(made("dot", C), 3, SMALL).top_k(links(B), nothing(B), everything(C, B))
    assert set(sizes) == {4 * 16}


def test_the_mlp_head_takes_so_many_users_in_one_product(monkeypatch: pytest.MonkeyPatch) -> None:
    sizes: list[int] = []

    def watched(P: Tensor, weights: CandidateWeights, head: FoldedHead) -> Tensor:
        sizes.append(len(P))
        return score_all(P, weights, head)

    monkeypatch.setattr("lime_model.scoring.blocked.score_all", watched)
    shapes = ScoreShapes(users_per_block=4, candidates_per_block=16, users_at_once=2)
    BlockedScorer(made("mlp", 20), 3, shapes).top_k(links(5), nothing(5), everything(20, 5))
    assert sizes == [2] * 8  # two blocks of users, filled up, by two of candidates
