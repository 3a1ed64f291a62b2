"""How many singular values carry candidate-by-history attention: the target-aware transformer's, and LIME's.

A user's attention is a matrix of candidates by events, one a head. Its column means say what every candidate sees
alike; the variance is of what is left. LIME's is the candidates' attention over the links times the links' attention
over the events in the last layer, one matrix for each pair of heads: its rank cannot exceed L, and the question is
whether the transformer's would need more.
"""

import argparse
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from benchmarks.accuracy import QUICK, trained_model
from benchmarks.contenders import TRANSFORMER, contender
from benchmarks.data_set import data_of, data_parser
from benchmarks.harness import Figure, present, say, table
from benchmarks.interactions import Interactions
from benchmarks.pictures import Lines, add_picture, draw
from benchmarks.rankers import Encoded, encoded_histories, recipe_of
from benchmarks.transformer import Transformer
from lime_model.batches import ItemInputs
from lime_model.config import TrainConfig
from lime_model.encoders.links import XorEncoder
from lime_model.model import Lime
from schemas.errors import LimeError

SHARE = 0.9
USERS = 200
NAMES = ("lime-xor", TRANSFORMER)


@dataclass(frozen=True)
class Spectrum:
    """Over users and heads: the mean share of the variance that the first r directions carry, r from 1."""

    shares: tuple[float, ...]
    needed: float  # mean number of directions for SHARE
    longest: int  # most events of a history


def spectrum_of(attention: Iterable[Tensor]) -> Spectrum:
    """Matrices [heads, C, n] of users -> their mean spectrum. A history of one event has no variance: left out."""
    shares, needed, longest = [], [], 0
    for matrices in attention:
        if matrices.shape[-1] < 2:
            continue
        values = torch.linalg.svdvals(matrices - matrices.mean(1, keepdim=True)).double() ** 2
        carried = values.cumsum(-1) / values.sum(-1, keepdim=True).clamp(min=1e-30)
        needed.append((carried < SHARE).sum(-1).double().mean() + 1)
        shares.append(carried.mean(0))
        longest = max(longest, matrices.shape[-1])
    padded = torch.stack([torch.cat([row, row.new_ones(longest - len(row))]) for row in shares])
    return Spectrum(tuple(padded.mean(0).tolist()), float(torch.stack(needed).mean()), longest)


def transformer_attention(model: Transformer, histories: Encoded, items: ItemInputs) -> Iterable[Tensor]:
    """[H, C, n] a user: the candidates' attention over events, the start that stands for no event left out."""
    queries = model.weights_of(model.tower(items))[:, : model.config.width]
    for vectors, events in histories.one_by_one(model):
        P = model.links_at_cuts(vectors, events, events.length[:, None])[:, 0]
        yield model.attention(P, queries[None])[0, :, :, 1:]


def lime_attention(model: Lime, histories: Encoded, items: ItemInputs) -> Iterable[Tensor]:
    """[H * H, C, n] a user: every head of the candidates' attention times every head of the links'."""
    A = model.candidate_weights(items).A.transpose(0, 1)  # [H, C, L]
    for vectors, events in histories.one_by_one(model):
        links = link_attention(model, model.tokens(vectors, events), events.event_ts, events.length[:, None])
        yield torch.einsum("hcl,gln->hgcn", A, links).flatten(0, 1)


def link_attention(model: Lime, history: Tensor, event_ts: Tensor, cuts: Tensor) -> Tensor:
    """Tokens of one history [1, n, d] -> the last layer's attention of links over events [H, L, n]."""
    encoder = model.encoder
    if not isinstance(encoder, XorEncoder):
        raise TypeError(f"expected LIME-XOR, found {type(encoder).__name__}")
    last, links, states, ages = encoder.before_last(history, event_ts, cuts)
    return last.attention(links, last.norm(states), ages)[0, :, :, 0]


def spectra(data: Interactions, train: TrainConfig, state: Path | None, users: int) -> dict[str, Spectrum]:
    """Both models trained on the data, looked at on the same users."""
    found = {}
    for name in NAMES:
        model_config, config = contender(name, train, {})
        recipe, source = recipe_of(data, model_config, config)
        model = trained_model(name, recipe, source, state).model
        histories, items = encoded_histories(data, recipe, users)
        with torch.inference_mode():
            if isinstance(model, Transformer):
                found[name] = spectrum_of(transformer_attention(model, histories, items))
            else:
                found[name] = spectrum_of(lime_attention(model, histories, items))
    return found


def arg_parser() -> argparse.ArgumentParser:
    """The program's arguments."""
    arguments = data_parser("low_rank", "Directions that carry 90 % of the variance of candidate-by-history attention.")
    add_picture(arguments)
    return arguments


def main(argv: Sequence[str] | None = None) -> int:
    """Run, print, draw, write."""
    args = arg_parser().parse_args(argv)
    train, users = (QUICK, 5) if args.quick else (TrainConfig(), USERS)
    try:
        data = data_of(args)
    except LimeError as error:
        say(f"error: {error}")
        return error.exit_code
    found = spectra(data, train, args.state, users)
    ranks = [rank for rank in (1, 2, 4, 8, 16, 32) if rank <= max(len(at.shares) for at in found.values())]
    rows = [("share of the variance in the first", *(f"{rank}" for rank in ranks))]
    for name, at in found.items():
        rows.append((name, *(f"{at.shares[min(rank, len(at.shares)) - 1]:.3f}" for rank in ranks)))
    say("\n".join(table(rows)))
    figures = [Figure(f"{name} directions for {SHARE:.0%} of the variance", at.needed) for name, at in found.items()]
    present(f"attention of candidates over up to {found['lime-xor'].longest} events", figures, args.json)
    if args.picture:
        lines = {name: [(r + 1.0, share) for r, share in enumerate(at.shares)] for name, at in found.items()}
        draw([Lines("candidates by events", "directions", "share of the variance", lines, log_y=False)], args.picture)
    return 0


if __name__ == "__main__":
    sys.exit(main())
