"""The scoring kernel alone: its linear head against exact inner-product search, its MLP head against a core's limits.

FAISS gets all queries in one call, no threshold is carried over to the kernel's next call, and both give sorted lists.
"""

import argparse
import ctypes
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from benchmarks import synthetic
from benchmarks.contest import Contestant, Run, compete, middle, ratios, spread_of
from benchmarks.harness import Figure, parser, present, say
from lime_model.scoring.kernel import KernelScorer
from lime_model.scoring.library import carried
from lime_model.scoring.lists import Excluded

MODULE = "benchmarks.kernel"
K = 100
SEEN = 100
MLP_FLOPS = 2 * synthetic.RANK * 64 + 2 * 64
OVER_FAISS, OF_SGEMM, OF_PEAK = 1.5, 0.80, 0.75  # targets
NEAR = 1e-5  # relative difference of two float64 scores up to which either order is right


def kernel_linear(users: int, candidates: int, threads: int, lists: str = "") -> Run:
    """The kernel on all cores: a thread takes an equal part of the users.

    Each is bound to a core of its own: two that wake together otherwise share one for a whole call, in some rounds.
    FAISS is as fast either way.
    """
    scorer = KernelScorer(synthetic.linear_candidates(candidates), K)
    P = synthetic.linear_links(users)
    parts = [slice(users * i // threads, users * (i + 1) // threads) for i in range(threads)]

    def part(rows: slice) -> torch.Tensor:
        n = rows.stop - rows.start
        nothing = Excluded(torch.zeros(n + 1, dtype=torch.int64), torch.empty(0, dtype=torch.int64))
        return scorer.top_k(P[rows], nothing, synthetic.all_eligible(candidates, n)).positions

    cores = sorted(os.sched_getaffinity(0))[:threads]
    pool = ThreadPoolExecutor(threads, initializer=lambda: os.sched_setaffinity(0, {cores.pop()}))
    return _timed(lambda: torch.cat(list(pool.map(part, parts))).numpy(), lists)


def faiss_flat(users: int, candidates: int, threads: int, blas_threshold: int, lists: str = "") -> Run:
    """FAISS IndexFlatIP; `blas_threshold` 0 leaves its default."""
    import faiss

    faiss.omp_set_num_threads(threads)
    if blas_threshold:
        faiss.cvar.distance_compute_blas_threshold = blas_threshold
    index = faiss.IndexFlatIP(synthetic.RANK)
    index.add(synthetic.linear_candidates(candidates).rows(0, candidates).A.flatten(1).numpy())
    queries = synthetic.linear_links(users).flatten(1).numpy()
    return _timed(lambda: index.search(queries, K)[1], lists)


def implicit_topk(users: int, candidates: int, threads: int) -> Run:
    """implicit's `topk`, which its recommenders score with."""
    from implicit.cpu.topk import topk

    items = synthetic.linear_candidates(candidates).rows(0, candidates).A.flatten(1).numpy()
    queries = synthetic.linear_links(users).flatten(1).numpy()
    return _timed(lambda: topk(items, queries, K, num_threads=threads)[0])


def kernel_mlp(users: int, candidates: int, build: str) -> Run:
    """The MLP head on one core, every user with 100 seen candidates."""
    scorer = KernelScorer(synthetic.mlp_candidates(candidates), K, build)
    P, seen = synthetic.mlp_links(users), synthetic.some_seen(candidates, users, SEEN)
    eligible = synthetic.all_eligible(candidates, users)
    return _timed(lambda: scorer.top_k(P, seen, eligible).positions.numpy())


def sgemm(library: str, size: int) -> Run:
    """One square product of torch or NumPy, on as many threads as the process may use."""
    a = np.random.default_rng(0).standard_normal((size, size), np.float32)
    if library == "numpy":
        return _timed(lambda: a @ a)
    tensor = torch.from_numpy(a)
    return _timed(lambda: (tensor @ tensor).numpy())


def fma_peak(rounds: int) -> Run:
    """A loop of fused multiply-adds in registers, compiled for this processor."""
    folder = tempfile.mkdtemp(prefix="lime-peak-")
    library = Path(folder) / "peak.so"
    source = Path(__file__).with_name("fma_peak.c")
    flags = ["-O3", "-mcpu=native", "-shared", "-fPIC"]
    cache = {"ZIG_GLOBAL_CACHE_DIR": folder, "ZIG_LOCAL_CACHE_DIR": folder}
    command = [sys.executable, "-m", "ziglang", "cc", *flags, str(source), "-o", str(library)]
    subprocess.run(command, env={**os.environ, **cache}, check=True)
    function = ctypes.CDLL(str(library)).fma_peak
    function.restype, function.argtypes = ctypes.c_double, [ctypes.c_int64]

    def run() -> dict[str, float]:
        start = time.perf_counter()
        operations = function(rounds)
        return {"seconds": time.perf_counter() - start, "operations": operations}

    return run


def _timed(call: Callable[[], NDArray[np.generic]], lists: str = "") -> Run:
    def run() -> dict[str, float]:
        start = time.perf_counter()
        found = call()
        seconds = time.perf_counter() - start
        if lists:
            np.save(lists, found)
        return {"seconds": seconds}

    return run


def differing_lists(ours: NDArray[np.int64], theirs: NDArray[np.int64], candidates: int) -> int:
    """Users whose lists differ where float64 scores do not call it a tie."""
    A = synthetic.linear_candidates(candidates).rows(0, candidates).A.flatten(1).double().numpy()
    P = synthetic.linear_links(len(ours)).flatten(1).double().numpy()
    wrong = 0
    for user in np.nonzero((ours != theirs).any(1))[0]:
        one, other = (A[rows[user]] @ P[user] for rows in (ours, theirs))
        wrong += bool((np.abs(one - other) > NEAR * np.abs(one)).any())
    return wrong


def linear_figures(candidates: int, users: int, rounds: int, target: bool) -> list[Figure]:
    """The kernel, FAISS in both of its ways, and implicit, over the same users and candidates on all cores."""
    threads = len(os.sched_getaffinity(0))
    size = {"users": users, "candidates": candidates, "threads": threads}
    with tempfile.TemporaryDirectory(prefix="lime-lists-") as folder:
        files = {name: f"{folder}/{name}.npy" for name in ("kernel", "faiss")}
        contestants = [
            Contestant("kernel", f"{MODULE}:kernel_linear", {**size, "lists": files["kernel"]}),
            *(
                Contestant(
                    f"faiss {way}", f"{MODULE}:faiss_flat",
                    {**size, "blas_threshold": threshold, "lists": files["faiss"]}, threads,
                )
                for way, threshold in (("default", 0), ("blas", 20))
            ),
            Contestant("implicit", f"{MODULE}:implicit_topk", size, threads),
        ]  # fmt: skip
        results = compete(contestants, rounds)
        wrong = differing_lists(np.load(files["kernel"]), np.load(files["faiss"]), candidates)
    rates = {name: users * candidates / middle(results, name) / 1e6 for name in results}
    say(
        f"{candidates:,} candidates, {users:,} users, K = {K}, {threads} threads, million pairs a second: "
        + _said(rates)
    )
    faiss = min(("faiss default", "faiss blas"), key=lambda name: middle(results, name))
    return [
        _ratio(f"over faiss {candidates:,}", ratios(results, "kernel", faiss), OVER_FAISS if target else None),
        _ratio(f"over implicit {candidates:,}", ratios(results, "kernel", "implicit"), None),
        Figure(f"lists unlike faiss {candidates:,}", float(wrong), "", 0.0),
    ]


def mlp_figures(candidates: int, users: int, rounds: int, size: int, target: bool) -> list[Figure]:
    """The MLP head on one core beside the best matrix product and the best that registers allow.

    A build that screens does a part of the operations; all of them are counted, as for the one that scores every pair.
    """
    plain = next(name for name in carried() if name != "amx")
    builds = {"mlp": carried()[0], "plain mlp": plain}
    contestants = [
        *(
            Contestant(name, f"{MODULE}:kernel_mlp", {"users": users, "candidates": candidates, "build": build})
            for name, build in builds.items()
        ),
        *(
            Contestant(f"{name} sgemm", f"{MODULE}:sgemm", {"library": name, "size": size})
            for name in ("torch", "numpy")
        ),
        Contestant("fma peak", f"{MODULE}:fma_peak", {"rounds": 20_000 * size}),
    ]
    results = compete(contestants, rounds)
    flops = {
        **dict.fromkeys(builds, float(users * candidates * MLP_FLOPS)),
        "torch sgemm": 2.0 * size**3,
        "numpy sgemm": 2.0 * size**3,
        "fma peak": middle(results, "fma peak", "operations"),
    }
    rates = {name: flops[name] / middle(results, name) / 1e9 for name in results}
    say(f"one core, GFLOP/s (builds: {_listed(builds)}): {_said(rates)}")
    best = max(("torch sgemm", "numpy sgemm"), key=rates.__getitem__)
    limits = (("sgemm", best, OF_SGEMM), ("fma peak", "fma peak", OF_PEAK))
    return [
        _ratio(
            f"{name} share of {limit}",
            ratios(results, name, other, (flops[name], flops[other])),
            goal if target else None,
        )
        for name in builds
        for limit, other, goal in limits
    ]


def _ratio(claim: str, values: Sequence[float], target: float | None) -> Figure:
    return Figure(claim, float(np.median(values)), "", target, spread_of(values))


def _listed(builds: dict[str, str]) -> str:
    return ", ".join(f"{name} {build}" for name, build in builds.items())


def _said(values: dict[str, float]) -> str:
    return ", ".join(f"{name} {value:,.0f}" for name, value in values.items())


def arg_parser() -> argparse.ArgumentParser:
    """The program's arguments."""
    return parser("kernel", "The scoring kernel against FAISS, implicit, matrix products and the processor's limit.")


def main(argv: Sequence[str] | None = None) -> int:
    """Run, print, write."""
    args = arg_parser().parse_args(argv)
    sizes, users, rounds = ((2_000,), 256, 2) if args.quick else ((20_000, 200_000), 8_192, 7)
    figures = []
    for candidates in sizes:
        figures += linear_figures(candidates, users, rounds, not args.quick)
    mlp = (500, 64, 2, 256) if args.quick else (20_000, 512, 7, 2_048)
    figures += mlp_figures(*mlp, not args.quick)
    present("the scoring kernel", figures, args.json)
    return 0


if __name__ == "__main__":
    sys.exit(main())
