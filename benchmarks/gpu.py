"""The score stage's kernel on a GPU against torch in blocks on the same GPU, from links in memory to lists in memory.

A sample of the lists is compared with a CPU's: no bit may differ.
"""

import argparse
import sys
import time
from collections.abc import Callable, Sequence

import numpy as np
import torch

from benchmarks import synthetic
from benchmarks.contest import Contestant, Run, compete, middle, ratios, spread_of
from benchmarks.harness import Figure, parser, present, say
from lime_model.candidates import Candidates
from lime_model.config import Head
from lime_model.scoring.blocked import BlockedScorer
from lime_model.scoring.cuda import CudaScorer
from lime_model.scoring.kernel import KernelScorer
from lime_model.scoring.lists import TopK
from schemas.errors import EXIT_INPUT, EXIT_OK

MODULE = "benchmarks.gpu"
K, SEEN = 100, 20
SAMPLE = 500  # users whose lists a CPU makes too
GPU = torch.device("cuda:0")
_Scorer = BlockedScorer | CudaScorer | KernelScorer


def kernel(head: Head, users: int, candidates: int) -> Run:
    """The kernel on the GPU; also says how many of a sample's lists are unlike a CPU's."""
    made = _candidates(head, candidates)
    scorer = CudaScorer(made, K, GPU)
    n = min(SAMPLE, users)
    ours, theirs = (_call(one, head, n)() for one in (scorer, KernelScorer(made, K)))
    same = (ours.positions == theirs.positions) & (ours.scores.view(torch.int32) == theirs.scores.view(torch.int32))
    return _timed(scorer, head, users, float((~same.all(1)).sum()))


def blocks(head: Head, users: int, candidates: int) -> Run:
    """Torch in blocks on the GPU."""
    return _timed(BlockedScorer(_candidates(head, candidates), K, device=GPU), head, users, 0.0)


def _candidates(head: Head, count: int) -> Candidates:
    return synthetic.mlp_candidates(count) if head == "mlp" else synthetic.linear_candidates(count)


def _call(scorer: _Scorer, head: Head, users: int) -> Callable[[], TopK]:
    count = scorer.candidates.count
    P = synthetic.mlp_links(users) if head == "mlp" else synthetic.linear_links(users)
    seen, eligible = synthetic.some_seen(count, users, SEEN), synthetic.all_eligible(count, users)
    return lambda: scorer.top_k(P, seen, eligible)


def _timed(scorer: _Scorer, head: Head, users: int, unlike: float) -> Run:
    call = _call(scorer, head, users)

    def run() -> dict[str, float]:
        start = time.perf_counter()
        call()
        return {"seconds": time.perf_counter() - start, "unlike": unlike}

    return run


def figures_of(head: Head, users: int, candidates: int, rounds: int) -> list[Figure]:
    """Both on the same users and candidates."""
    size = {"head": head, "users": users, "candidates": candidates}
    contestants = [Contestant(name, f"{MODULE}:{name}", size) for name in ("kernel", "blocks")]
    results = compete(contestants, rounds)
    rates = {name: users * candidates / middle(results, name) / 1e9 for name in results}
    what = f"{head} {candidates:,}"
    said = ", ".join(f"{name} {rate:.2f}" for name, rate in rates.items())
    say(f"{what} candidates, {users:,} users, K = {K}, thousand million pairs a second: {said}")
    found = ratios(results, "kernel", "blocks")
    return [
        Figure(f"over torch, {what}", float(np.median(found)), "", None, spread_of(found)),
        Figure(f"lists unlike a CPU's, {what}", results["kernel"][0]["unlike"], "", 0.0),
    ]


def arg_parser() -> argparse.ArgumentParser:
    """The program's arguments."""
    return parser("gpu", "The scoring kernel on a GPU against torch in blocks on the same GPU.")


def main(argv: Sequence[str] | None = None) -> int:
    """Run, print, write; without a GPU, say so."""
    args = arg_parser().parse_args(argv)
    if not torch.cuda.is_available():
        say("benchmarks.gpu: expected a GPU, found none on this machine")
        return EXIT_INPUT
    sizes, rounds = (((256, 2_000),), 2) if args.quick else (((10_000, 20_000), (4_096, 300_000)), 5)
    heads: tuple[Head, ...] = ("mlp", "linear")
    figures = [
        figure
        for head in heads
        for users, candidates in sizes
        for figure in figures_of(head, users, candidates, rounds)
    ]
    present("the scoring kernel on a GPU", figures, args.json)
    return EXIT_OK


if __name__ == "__main__":
    sys.exit(main())
