"""Invariant 3: cached weights and folded links give the score of the plain model, for every head."""

import math

import pytest
import torch

from lime_model.batches import Events, HistoryBatch, ItemInputs
from lime_model.config import ModelConfig
from lime_model.features import FeatureSpec
from lime_model.model import Lime
from lime_model.vocabulary import Vocabulary

TOLERANCE = 1e-5


def small(head: str, layers: int = 2) -> Lime:
    torch.manual_seed(5)
    values = {"width": 8, "links": 3, "heads": 2, "layers": layers, "ffn_width": 8, "mlp_width": 6, "head": head}
    config = ModelConfig.from_json({**values, "max_history": 9, "dropout": 0.0})
    vocabulary = Vocabulary.build({f"i{n}": 5 for n in range(9)}, config.buckets)
    return Lime(config, vocabulary, FeatureSpec((), (), ("like",))).eval()


def inputs(*shape: int) -> ItemInputs:
    ids = torch.randint(1, 10, shape)
    return ItemInputs(ids, torch.zeros(*shape, 0, dtype=torch.int64), torch.zeros(*shape, 0), torch.zeros(*shape, 0))


def histories(users: int, events: int) -> HistoryBatch:
    times = torch.arange(events, dtype=torch.int64).expand(users, events) * 86_400_000_000
    length = torch.randint(1, events + 1, (users,))
    return HistoryBatch(inputs(users, events), Events(torch.ones(users, events, dtype=torch.int64), times, length))


@pytest.mark.parametrize("head", ["linear", "dot", "mlp"])
def test_folded_scores_equal_the_unfolded_model(head: str) -> None:
    model = small(head)
    candidates = inputs(7)
    with torch.inference_mode():
        P = model.personalize_links(histories(4, 6))
        weights = model.candidate_weights(candidates)
        folded = model.score_all(P, weights)
        plain = unfolded(model, P, candidates)
    torch.testing.assert_close(folded, plain, rtol=TOLERANCE, atol=TOLERANCE)


def unfolded(model: Lime, P: torch.Tensor, items: ItemInputs) -> torch.Tensor:
    """Candidates attend over links: softmax(q k) v per head, output projection, head on [z; c]. [B, C]"""
    half, c = model.candidates, model.tower(items)
    d, H = model.config.width, model.config.heads
    q = half.query(half.item_norm(c)).view(len(c), H, d // H)
    k = half.key(half.link_norm(model.encoder.links)).view(-1, H, d // H)
    A = torch.softmax(torch.einsum("che,lhe->chl", q, k) / math.sqrt(d // H), -1)
    v = half.value(P).view(len(P), -1, H, d // H)
    z = half.out(torch.einsum("chl,blhe->bche", A, v).flatten(2))  # [B, C, d]
    b = half.bias(c).squeeze(-1)
    if half.head == "dot":
        return (z * c).sum(-1) + b
    if half.head == "linear":
        return z @ half.vector + b
    return torch.relu(half.hidden_links(z) + half.hidden_item(c)) @ half.hidden_out + b


def test_links_at_cuts_of_one_pass_equal_each_truncated_history() -> None:
    model = small("dot")
    batch = histories(3, 8)
    events = Events(batch.events.event_type, batch.events.event_ts, torch.full((3,), 8))
    cuts = torch.tensor([[1, 4, 8], [2, 5, 6], [3, 7, 8]])
    with torch.inference_mode():
        shared = model.links_at_cuts(model.tower(batch.items), events, cuts)
        for user in range(3):
            for number, cut in enumerate(cuts[user].tolist()):
                items = batch.items.take(torch.zeros(1, dtype=torch.int64))
                items = ItemInputs(*(t[user : user + 1, :cut] for t in vars(batch.items).values()))
                prefix = Events(
                    events.event_type[user : user + 1, :cut], events.event_ts[user : user + 1, :cut],
                    torch.tensor([cut]),
                )  # fmt: skip
                alone = model.personalize_links(HistoryBatch(items, prefix))[0]
                torch.testing.assert_close(shared[user, number], alone, rtol=1e-4, atol=1e-5)
