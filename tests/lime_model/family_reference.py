"""Every encoder of the family for one history, written plainly: one event, head and slot after another."""

import math

import torch
from torch import Tensor
from torch.nn import functional as fn

from lime_model.batches import HistoryBatch
from lime_model.encoders.causal import HstuEncoder, SasrecEncoder
from lime_model.encoders.full import FullLayer, MhaEncoder
from lime_model.encoders.links import ElasticEncoder, LinkEncoder
from lime_model.encoders.memory import InterestMemory
from lime_model.encoders.two_tower import TwoTowerEncoder
from lime_model.model import Lime
from tests.lime_model.reference import age_bias, dense_layer, seen_tokens, xor_links


def plain_links(model: Lime, batch: HistoryBatch, row: int, length: int) -> Tensor:
    """P [L, d] of the first `length` events of one row, for any kind."""
    tokens, ts = seen_tokens(model, batch, row, length)
    encoder = model.encoder
    if isinstance(encoder, TwoTowerEncoder):
        mean = tokens.sum(0) / max(1, len(tokens))
        return encoder.norm(mean + encoder.out(torch.relu(encoder.hidden(mean))))[None]
    if isinstance(encoder, SasrecEncoder | HstuEncoder):
        states = _sasrec(encoder, tokens) if isinstance(encoder, SasrecEncoder) else _hstu(encoder, tokens, ts)
        return encoder.norm(states[-1] if len(states) else encoder.start)[None]
    assert isinstance(encoder, LinkEncoder)
    if isinstance(encoder, MhaEncoder):
        links = _mha(model, tokens, ts)
    else:
        links = (_elastic if isinstance(encoder, ElasticEncoder) else xor_links)(model, tokens, ts)
    if encoder.memory is not None:
        links = torch.cat([links, read_memory(encoder.memory, tokens)[None]])
    found: Tensor = encoder.norm(links)
    return found


def _elastic(model: Lime, tokens: Tensor, ts: list[int]) -> Tensor:
    """Dispatchers aggregate the events; then the events, as they were, attend to the dispatchers as they are now."""
    L = model.config.attending_links
    states = torch.cat([model.encoder.links, tokens])
    for layer in model.encoder.layers:
        bias = age_bias(model, layer, ts)
        dispatchers = dense_layer(layer, states, L, bias)[:L]
        events = dense_layer(layer, torch.cat([dispatchers, states[L:]]), L, bias)[L:]
        states = torch.cat([dispatchers, events])
    return states[:L]


def _mha(model: Lime, tokens: Tensor, ts: list[int]) -> Tensor:
    """Dense attention without a mask."""
    L = model.config.attending_links
    states = torch.cat([model.encoder.links, tokens])
    for layer in model.encoder.layers:
        assert isinstance(layer, FullLayer)
        seen, bias, e = layer.norm(states), age_bias(model, layer, ts), states.shape[1] // layer.heads
        heads = []
        for h in range(layer.heads):
            q, k, v = (fn.linear(seen, p.weight[h * e : (h + 1) * e]) for p in (layer.query, layer.key, layer.value))
            scores = q @ k.T / math.sqrt(e)
            scores[:L, L:] += bias[h]
            heads.append(torch.softmax(scores, -1) @ v)
        states = states + fn.linear(torch.cat(heads, 1), layer.out.weight)
        states = states + layer.ffn_out(torch.relu(layer.ffn_in(layer.ffn_norm(states))))
    return states[:L]


def read_memory(memory: InterestMemory, tokens: Tensor) -> Tensor:
    """[d]: every slot is scored, the best are read."""
    means = [tokens[-span:].mean(0) if len(tokens) else tokens.new_zeros(tokens.shape[1]) for span in memory.spans]
    levels = [torch.relu(level(mean)) for level, mean in zip(memory.levels, means, strict=True)]
    first, second = memory.query_norm(memory.query(torch.cat(levels))).chunk(2)
    side = memory.halves.shape[1]
    scores = torch.stack(
        [memory.halves[0, a] @ first + memory.halves[1, b] @ second for a in range(side) for b in range(side)]
    )
    best = scores.argsort(descending=True)[: memory.reads]
    return torch.softmax(scores[best], 0) @ memory.slots.weight[best]


def _sasrec(encoder: SasrecEncoder, tokens: Tensor) -> Tensor:
    states = tokens + encoder.positions.weight[: len(tokens)]
    for layer in encoder.layers:
        q, k, v = layer.qkv(layer.norm(states)).chunk(3, -1)
        e, rows = states.shape[1] // layer.heads, []
        for i in range(len(states)):
            heads = [slice(h * e, (h + 1) * e) for h in range(layer.heads)]
            attended = [
                torch.softmax(k[: i + 1, part] @ q[i, part] / math.sqrt(e), 0) @ v[: i + 1, part] for part in heads
            ]
            rows.append(torch.cat(attended))
        states = states + layer.out(torch.stack(rows)) if rows else states
        states = states + layer.ffn_out(torch.relu(layer.ffn_in(layer.ffn_norm(states))))
    return states


def _hstu(encoder: HstuEncoder, tokens: Tensor, ts: list[int]) -> Tensor:
    states, bias = tokens, encoder.bias
    for layer in encoder.layers:
        gate, v, q, k = fn.silu(layer.uvqk(layer.norm(states))).chunk(4, -1)
        e, rows = states.shape[1] // layer.heads, []
        for i in range(len(states)):
            row = []
            for h in range(layer.heads):
                part, total = slice(h * e, (h + 1) * e), states.new_zeros(e)
                for j in range(i + 1):
                    seconds = (ts[i] - ts[j]) // 1_000_000
                    relative = bias.rank[sum(int(bound) <= i - j for bound in bias.rank_bounds)]
                    if bias.time is not None:
                        relative = relative + bias.time[sum(int(bound) <= seconds for bound in bias.time_bounds)]
                    total = total + fn.silu(q[i, part] @ k[j, part] + relative) * layer.scale * v[j, part]
                row.append(total)
            rows.append(torch.cat(row))
        states = states + layer.out(gate * layer.attended_norm(torch.stack(rows))) if rows else states
    return states
