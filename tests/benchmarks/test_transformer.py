import math

import torch
from torch import Tensor

from benchmarks.transformer import Transformer
from lime_model.features import encode_items
from tests.lime_model.samples import FEATURES, ITEMS, SPEC, VOCABULARY, config, history_batch

ITEM_INPUTS = encode_items(VOCABULARY, SPEC, ITEMS, FEATURES)
CUTS = torch.tensor([[0, 1, 5, 7], [7, 2, 3, 6]])


def model() -> Transformer:
    """Random weights, so that no bias is zero."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(2)
        made = Transformer(config(kind="sasrec", links=1), VOCABULARY, SPEC)
        with torch.no_grad():
            for parameter in made.parameters():
                parameter.add_(torch.randn_like(parameter) * 0.2)
    return made.eval()


def plain_score(made: Transformer, states: Tensor, ts: list[int], vector: Tensor) -> Tensor:
    """One candidate over the states [1 + n, d] of a prefix: the first is the start's."""
    n, d, count = len(ts), 8, 2
    normed = made.event_norm(states)
    k, v = made.key_value(normed).chunk(2, -1)
    q, heads = made.query(made.item_norm(vector)), []
    ranks, times = made.config.rank_bounds, made.config.time_bounds_s
    for h in range(count):
        part, scores = slice(h * d // count, (h + 1) * d // count), []
        for i in range(1 + n):
            score = k[i, part] @ q[part] / math.sqrt(d // count)
            if i:
                seconds, bias = (ts[-1] - ts[i - 1]) // 1_000_000, made.age_bias
                assert bias.time is not None
                score = score + bias.rank[h, 0, sum(bound <= n - i for bound in ranks)]
                score = score + bias.time[h, 0, sum(bound <= seconds for bound in times)]
            scores.append(score)
        heads.append(torch.softmax(torch.stack(scores), 0) @ v[:, part])
    mixed = made.out(torch.cat(heads)) + normed[-1]
    mixed = mixed + made.ffn_out(torch.relu(made.ffn_in(made.ffn_norm(mixed))))
    found: Tensor = made.out_norm(mixed) @ vector + made.item_bias(vector)[0]
    return found


def test_scores_at_any_cut_equal_attention_over_the_prefix_alone() -> None:
    made, batch = model(), history_batch([7, 7], 7)
    vectors, candidates = made.tower(batch.items), made.tower(ITEM_INPUTS)
    kept = made.links_at_cuts(vectors, batch.events, CUTS)
    tokens = made.tokens(vectors, batch.events)
    for row in range(2):
        for q, cut in enumerate(CUTS[row].tolist()):
            ts = batch.events.event_ts[row, :cut]
            states = made.encoder.states(tokens[row : row + 1, :cut], ts[None])[0]
            states = torch.cat([made.encoder.start[None], states])
            expected = torch.stack([plain_score(made, states, ts.tolist(), vector) for vector in candidates])
            found = made.score_all(kept[row, q][None], made.weights_of(candidates))[0]
            torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)


def test_scores_of_pairs_are_those_of_the_full_matrix() -> None:
    made, batch = model(), history_batch([7, 4, 0], 7)
    kept = made.links_at_cuts(made.tower(batch.items), batch.events, batch.events.length[:, None])[:, 0]
    weights, chosen = made.weights_of(made.tower(ITEM_INPUTS)), torch.tensor([5, 0, 11])
    full = made.score_all(kept, weights)[torch.arange(3), chosen]
    torch.testing.assert_close(made.score_pairs(kept, weights[chosen]), full, rtol=1e-4, atol=1e-5)
