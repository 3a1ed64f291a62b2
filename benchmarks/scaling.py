"""Cost of a pair and private memory of a worker as items and users grow fifty- and a hundredfold, one core each.

A worker maps the packed candidates, as in the score stage, and gets its users in batches of Spark's size.
"""

import argparse
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import torch

from benchmarks import synthetic
from benchmarks.contest import Contestant, Results, Run, compete, middle, spread_of
from benchmarks.harness import Figure, parser, present, say, table
from lime_model.candidate_writer import CandidateWriter
from lime_model.candidates import Candidates, ScoreHead
from lime_model.scoring.kernel import KernelScorer

MODULE = "benchmarks.scaling"
K, SEEN, BATCH = 100, 20, 10_000  # spark.sql.execution.arrow.maxRecordsPerBatch
ENOUGH = 200_000_000  # pairs of a timed call: with the MLP head a second's work
BLOCK = 50_000  # candidates made and written at once
FEW_USERS, FEW_ITEMS = 1_000, 20_000
ITEMS, USERS = (20_000, 100_000, 300_000, 1_000_000), (1_000, 10_000, 100_000)


def worker(file: str, head: str, items: int, users: int) -> Run:
    """A call scores so many users, batch by batch, a few of them again and again; making the links is not timed."""
    ids = torch.zeros(0, dtype=torch.uint8), torch.zeros(items + 1, dtype=torch.int64)  # the kernel reads no ids
    scorer = KernelScorer(Candidates.load(Path(file), *ids), K)
    make = synthetic.mlp_links if head == "mlp" else synthetic.linear_links

    again = -(-ENOUGH // (users * items))  # a process that waited for its turn is slow for a while

    def run() -> dict[str, float]:
        seconds = 0.0
        for start in [*range(0, users, BATCH)] * again:
            n = min(BATCH, users - start)
            P, seen = make(n, start + 10), synthetic.some_seen(items, n, SEEN)
            eligible = synthetic.all_eligible(items, n)
            begun = time.perf_counter()
            scorer.top_k(P, seen, eligible)
            seconds += time.perf_counter() - begun
        return {"seconds": seconds / again, "private_mb": private_mb()}

    return run


def private_mb() -> float:
    """Memory of this process that no file backs, in MB.

    What it maps of the candidates is the host's, one copy for all, though the kernel counts it as private while only
    one process has it mapped.
    """
    lines = Path("/proc/self/smaps_rollup").read_text().splitlines()
    return sum(int(line.split()[1]) for line in lines if line.startswith("Anonymous:")) / 1024


def write_candidates(file: Path, head: str, count: int) -> None:
    """A packed file, block by block."""
    make = synthetic.mlp_candidates if head == "mlp" else synthetic.linear_candidates
    first = make(16)
    constants = ScoreHead(first.fold, first.g, first.w, first.relu, "synthetic")
    header = constants.header(count, first.links, first.G is not None, first.W is not None)
    with CandidateWriter(file, header, constants) as writer:
        for start in range(0, count, BLOCK):
            n = min(BLOCK, count - start)
            writer.append(make(n, seed=start + 1).rows(0, n), str)
        writer.finish()


def scaling_figures(items: Sequence[int], users: Sequence[int], rounds: int, target: bool) -> list[Figure]:
    """Every size in a process of its own, asked in turn."""
    few_users, few_items = min(users), min(items)
    sizes = [(count, few_users) for count in items] + [(few_items, count) for count in users if count != few_users]
    figures: list[Figure] = []
    with tempfile.TemporaryDirectory(prefix="lime-scaling-") as folder:
        for head in ("mlp", "linear"):
            for count in items:
                write_candidates(Path(f"{folder}/{head}-{count}.lime"), head, count)
            contestants = [
                Contestant(
                    f"{count:,} items, {n:,} users",
                    f"{MODULE}:worker",
                    {"file": f"{folder}/{head}-{count}.lime", "head": head, "items": count, "users": n},
                )
                for count, n in sizes
            ]
            results = compete(contestants, rounds)
            figures += _figures(
                head, results, dict(zip(results, (float(c * n) for c, n in sizes), strict=True)), target
            )
    return figures


def _figures(head: str, results: Results, pairs: dict[str, float], target: bool) -> list[Figure]:
    costs = {name: middle(results, name) / pairs[name] * 1e9 for name in results}
    memory = {name: middle(results, name, "private_mb") for name in results}
    cheapest = min(costs.values())
    rows = [(name, f"{costs[name]:.2f}", f"{costs[name] / cheapest:.2f}", f"{memory[name]:.0f}") for name in results]
    say("\n".join(table([(f"{head} head", "ns a pair", "over cheapest", "private MB"), *rows])))
    goals = {"mlp dearest over cheapest": 1.15, "mlp memory largest over smallest": 1.25} if target else {}
    return [
        _figure(f"{head} dearest over cheapest", list(costs.values()), goals),
        _figure(f"{head} memory largest over smallest", list(memory.values()), goals),
    ]


def _figure(claim: str, values: list[float], goals: dict[str, float]) -> Figure:
    return Figure(claim, max(values) / min(values), "", goals.get(claim), spread_of(values))


def arg_parser() -> argparse.ArgumentParser:
    """The program's arguments."""
    return parser("scaling", "Cost of a pair and memory of a worker as items and users grow.")


def main(argv: Sequence[str] | None = None) -> int:
    """Run, print, write."""
    args = arg_parser().parse_args(argv)
    items, users, rounds = ((1_000, 3_000), (50, 100), 1) if args.quick else (ITEMS, USERS, 3)
    figures = scaling_figures(items, users, rounds, not args.quick)
    present("scaling of the scoring kernel", figures, args.json)
    return 0


if __name__ == "__main__":
    sys.exit(main())
