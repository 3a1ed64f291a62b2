"""LIME written plainly, nothing shared, folded or batched: what the fast paths are compared with (arXiv 2510.18239)."""

import math

import torch
from torch import Tensor
from torch.nn import functional as fn

from lime_model.batches import HistoryBatch
from lime_model.encoders.link_layer import LinkLayer
from lime_model.model import Lime


def dense_layer(layer: LinkLayer, states: Tensor, links: int, bias: Tensor) -> Tensor:
    """One XOR layer as full attention over [Z; E] [L + n, d] with a mask; `bias` [H, L, n] on links to history."""
    is_link = torch.arange(len(states)) < links
    mask = is_link[:, None] ^ is_link[None, :]
    normed = layer.norm(states)
    heads = []
    for h in range(layer.heads):
        e = states.shape[1] // layer.heads
        rows = slice(h * e, (h + 1) * e)
        q, k, v = (fn.linear(normed, part.weight[rows]) for part in (layer.query, layer.key, layer.value))
        scores = q @ k.T / math.sqrt(e)
        scores[:links, links:] += bias[h]
        scores = scores.masked_fill(~mask, float("-inf"))
        # a row with no unmasked key: zero attention output
        heads.append(torch.softmax(scores, -1).nan_to_num(0.0) @ v)
    states = states + fn.linear(torch.cat(heads, 1), layer.out.weight)
    hidden = torch.relu(layer.ffn_in(layer.ffn_norm(states)))
    after: Tensor = states + layer.ffn_out(hidden)
    return after


def age_bias(model: Lime, layer: LinkLayer, event_ts: list[int]) -> Tensor:
    """[H, L, n] for a history that ends with its last event."""
    config, n = model.config, len(event_ts)
    bias = torch.zeros(config.heads, config.attending_links, n)
    for i, ts in enumerate(event_ts):
        rank = sum(bound <= n - 1 - i for bound in config.rank_bounds)
        bias[:, :, i] += layer.bias.rank[:, :, rank]
        if config.use_times:
            seconds = (event_ts[-1] - ts) // 1_000_000
            bias[:, :, i] += layer.bias.time[:, :, sum(bound <= seconds for bound in config.time_bounds_s)]
    return bias


def seen_tokens(model: Lime, batch: HistoryBatch, row: int, length: int) -> tuple[Tensor, list[int]]:
    """Tokens [n, d] and times of what a prefix of one row sees: its last N - 1 events."""
    config = model.config
    ts: list[int] = batch.events.event_ts[row, :length].tolist()
    vectors = model.tower(batch.items.take(torch.tensor(row)))[:length]
    tokens = vectors + model.event_type(batch.events.event_type[row, :length])
    if config.use_times:
        gaps = [0]
        for before, after in zip(ts, ts[1:], strict=False):
            seconds = (after - before) // 1_000_000
            gaps.append(1 + sum(bound <= seconds for bound in config.time_bounds_s))
        tokens = tokens + model.gap(torch.tensor(gaps[:length], dtype=torch.int64))
    kept = slice(max(0, length - (config.max_history - 1)), length)
    return tokens[kept], ts[kept]


def xor_links(model: Lime, tokens: Tensor, ts: list[int]) -> Tensor:
    """Tokens [n, d] through LIME-XOR's layers -> links [L, d], not normalised."""
    links = model.config.attending_links
    states = torch.cat([model.encoder.links, tokens])
    for layer in model.encoder.layers:
        assert isinstance(layer, LinkLayer)
        states = dense_layer(layer, states, links, age_bias(model, layer, ts))
    return states[:links]


def personalized_links(model: Lime, batch: HistoryBatch, row: int, length: int) -> Tensor:
    """LIME-XOR's P [L, d] of the first `length` events of one row."""
    links: Tensor = model.encoder.norm(xor_links(model, *seen_tokens(model, batch, row, length)))
    return links


def pair_score(model: Lime, P: Tensor, vector: Tensor) -> Tensor:
    """The unfolded score of links [L, d] and one item vector [d]."""
    half, d = model.candidates, model.config.width
    e = d // model.config.heads
    mixed = []
    for h in range(model.config.heads):
        rows = slice(h * e, (h + 1) * e)
        q = half.query.weight[rows] @ half.item_norm(vector)
        k = half.link_norm(model.encoder.keys()) @ half.key.weight[rows].T  # [L, e]
        A = torch.softmax(k @ q / math.sqrt(e), 0)
        mixed.append((A[:, None] * (P @ half.value.weight[rows].T)).sum(0))
    z = half.out.weight @ torch.cat(mixed)
    if half.head == "dot":
        raw = z @ vector
    elif half.head == "linear":
        raw = z @ half.vector
    else:
        raw = half.hidden_out @ torch.relu(half.hidden_links.weight @ z + half.hidden_item(vector))
    score: Tensor = raw + half.bias(vector)[0]
    return score
