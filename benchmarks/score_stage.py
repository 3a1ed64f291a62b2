"""The whole score stage inside Spark, Delta write included, against Spark ALS on the same factors and the kernel alone.

The stage is the job of a night: it reads users, links and seen items from Delta, finds the packed candidates on the
host, scores, and writes `recommendations`. ALS is MLlib's own `recommendForAllUsers`, which writes Parquet and
filters nothing. The same lists, ready-made, written by the same code, are what a stage can hardly be faster than.
"""

import argparse
import json
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pyarrow as pa

from benchmarks import synthetic
from benchmarks.contest import Contestant, Results, Run, compete, middle, ratios, spread_of
from benchmarks.harness import Figure, parser, present, say
from benchmarks.scored_lake import factors, make_lake, night_of
from jobs import score_candidates
from jobs.candidates import cache_folders, packed_folder
from jobs.lake import Lake
from jobs.packages import require_package
from jobs.stage import Night
from lime_model.config import Head
from lime_model.package import load_package
from lime_model.scoring.kernel import KernelScorer
from schemas.recommendations import RECOMMENDATIONS

MODULE = "benchmarks.score_stage"
K = 100
TARGETS = {"linear over als": 30.0, "mlp over als": 2.5, "stage over kernel": 0.85}


def stage(root: str, head: Head) -> Run:
    """The score job, a run of its own each time; the first call also packs the candidates."""
    night = night_of(root, head, K)

    def run() -> dict[str, float]:
        start = time.perf_counter()
        score_candidates.run(night.of(night.logical_date), in_full=True)
        return {"seconds": time.perf_counter() - start}

    return run


def write(root: str, head: Head) -> Run:
    """The lists that the stage has made, ready in files that tasks map, into `recommendations` of another lake."""
    night = night_of(root, head, K)
    spark, tasks, folder = night.lake.spark, night.config.score.partitions, Path(root, "ready")
    copy = Lake(spark, f"{root}/copy")

    def run() -> dict[str, float]:
        if not folder.is_dir():  # the stage's first call has made them by now
            folder.mkdir()
            made = night.lake.read(RECOMMENDATIONS).repartition(tasks)
            made.mapInArrow(_saved(folder), made.schema).write.format("noop").mode("overwrite").save()
        start = time.perf_counter()
        ready = spark.range(0, tasks, 1, tasks).mapInArrow(_ready(folder), RECOMMENDATIONS.struct)
        copy.overwrite(RECOMMENDATIONS, ready, night.of(night.logical_date).stamp("write"))
        return {"seconds": time.perf_counter() - start}

    return run


Task = Callable[[Iterable[pa.RecordBatch]], Iterator[pa.RecordBatch]]


def _saved(folder: Path) -> Task:
    def save(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        rows = list(batches)
        with pa.ipc.new_file(str(folder / f"{_task()}.arrow"), rows[0].schema) as file:
            for batch in rows:
                file.write_batch(batch)
        yield from ()

    return save


def _ready(folder: Path) -> Task:
    def read(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        for _ in batches:  # Spark ends a task whose input is left
            continue
        with pa.memory_map(str(folder / f"{_task()}.arrow")) as file:
            yield from pa.ipc.open_file(file).read_all().to_batches()

    return read


def _task() -> int:
    from pyspark import TaskContext

    context = TaskContext.get()
    assert context is not None
    return context.partitionId()


def als(root: str, users: int, folder: str) -> Run:
    """`recommendForAllUsers` on the linear head's factors, for so many users; blocks of MLlib's default size."""
    from pyspark.ml.recommendation import ALSModel

    night = night_of(root, "linear", K)
    _save_als(night_of(root, "linear", K), f"{folder}/als-{users}", users)
    model = ALSModel.load(f"{folder}/als-{users}")

    def run() -> dict[str, float]:
        start = time.perf_counter()
        model.recommendForAllUsers(K).write.mode("overwrite").parquet(f"{folder}/als-{users}-lists")
        return {"seconds": time.perf_counter() - start}

    night.lake.spark.sparkContext.setLogLevel("ERROR")  # MLlib warns of missing native BLAS on every call
    return run


def _save_als(night: Night, path: str, users: int) -> None:
    """A model as MLlib saves one, with the lake's factors in it."""
    user_factors, item_factors = factors(night)
    known = {"rank": synthetic.RANK}
    params = {
        "coldStartStrategy": "nan",
        "userCol": "user",
        "predictionCol": "prediction",
        "itemCol": "item",
        "blockSize": 4096,
    }
    metadata = {
        "class": "org.apache.spark.ml.recommendation.ALSModel", "timestamp": 0, "uid": "als",
        "sparkVersion": night.lake.spark.version, "paramMap": {}, "defaultParamMap": params, **known,
    }  # fmt: skip
    night.lake.spark.createDataFrame([(json.dumps(metadata),)], "value string").coalesce(1).write.mode(
        "overwrite"
    ).text(f"{path}/metadata")
    user_factors.where(f"id < {users}").write.mode("overwrite").parquet(f"{path}/userFactors")
    item_factors.write.mode("overwrite").parquet(f"{path}/itemFactors")


def kernel(head: Head, users: int, items: int, threads: int) -> Run:
    """The kernel alone on all cores, from links in memory to lists in memory, as many seen items as in the stage."""
    candidates = synthetic.mlp_candidates(items) if head == "mlp" else synthetic.linear_candidates(items)
    scorer = KernelScorer(candidates, K)
    n = users // threads
    P = synthetic.mlp_links(n) if head == "mlp" else synthetic.linear_links(n)
    seen, eligible = synthetic.some_seen(items, n, 20), synthetic.all_eligible(items, n)
    pool = ThreadPoolExecutor(threads)

    def run() -> dict[str, float]:
        start = time.perf_counter()
        list(pool.map(lambda _: scorer.top_k(P, seen, eligible), range(threads)))
        return {"seconds": time.perf_counter() - start}

    return run


def stage_figures(users: int, items: int, als_users: tuple[int, int], rounds: int, target: bool) -> list[Figure]:
    """All on the same tables; the second number of ALS users is scored once, to show that its rate holds."""
    threads = len(os.sched_getaffinity(0))
    with tempfile.TemporaryDirectory(prefix="lime-score-stage-") as folder:
        heads: tuple[Head, ...] = ("linear", "mlp")
        packing = [_prepare(f"{folder}/{head}", head, users, items) for head in heads]
        contestants = [
            *(Contestant(f"stage {h}", f"{MODULE}:stage", {"root": f"{folder}/{h}", "head": h}) for h in heads),
            *(
                Contestant(
                    f"kernel {h}", f"{MODULE}:kernel", {"head": h, "users": users, "items": items, "threads": threads}
                )
                for h in heads
            ),
            Contestant("write", f"{MODULE}:write", {"root": f"{folder}/linear", "head": "linear"}),
            Contestant("als", f"{MODULE}:als", {"root": f"{folder}/linear", "users": als_users[0], "folder": folder}),
        ]
        results = compete(contestants, rounds)
        more = Contestant("als", f"{MODULE}:als", {"root": f"{folder}/linear", "users": als_users[1], "folder": folder})
        all_users = compete([more], 1)
    return [*_figures(results, all_users, users, items, als_users, target), *packing]


def _figures(
    results: Results, all_users: Results, users: int, items: int, als_users: tuple[int, int], target: bool
) -> list[Figure]:
    pairs = {"als": als_users[0] * items} | {name: users * items for name in results if name != "als"}
    rates = {name: pairs[name] / middle(results, name) / 1e6 for name in results}
    rates[f"als, {als_users[1]:,} users"] = als_users[1] * items / middle(all_users, "als") / 1e6
    say(f"{users:,} users, {items:,} items, K = {K}; million pairs a second (median seconds)")
    for name, rate in rates.items():
        seconds = middle(results, name) if name in results else middle(all_users, "als")
        say(f"  {name:<22} {rate:8,.0f}  ({seconds:.1f} s)")
    outside = middle(results, "stage linear") - middle(results, "kernel linear")
    say(f"  of the linear stage {outside:.1f} s are not the kernel's")
    ready = middle(results, "write")
    fastest = {head: middle(results, f"kernel {head}") + ready for head in ("linear", "mlp")}
    over_als = pairs["kernel linear"] / fastest["linear"] / 1e6 / rates["als"]
    say(
        f"  its lists, ready-made, are written in {ready:.1f} s: a stage of that and the kernel alone would reach "
        f"linear over als {over_als:.1f}, stage over kernel {middle(results, 'kernel mlp') / fastest['mlp']:.2f}"
    )

    def over(claim: str, fast: str, slow: str) -> Figure:
        found = ratios(results, fast, slow, (pairs[fast], pairs[slow]))
        median = float(np.median(found))
        return Figure(claim, median, "", TARGETS[claim] if target else None, spread_of(found))

    return [
        over("linear over als", "stage linear", "als"),
        over("mlp over als", "stage mlp", "als"),
        over("stage over kernel", "stage mlp", "kernel mlp"),
        Figure("linear seconds outside the kernel", outside, "s"),
        Figure("seconds to write ready-made lists", ready, "s"),
    ]


def _prepare(root: str, head: Head, users: int, items: int) -> Figure:
    """The lake, made by a process that ends, for its session must not weigh on the contest; how long packing took."""
    name = f"cache build seconds, {head}"
    made = compete(
        [Contestant(name, f"{MODULE}:lake", {"root": root, "head": head, "users": users, "items": items})], 1
    )
    return Figure(name, middle(made, name), "s")


def lake(root: str, head: Head, users: int, items: int) -> Run:
    """Make the tables while preparing; a call packs the candidates as if nobody had before."""
    make_lake(root, head, users, items)
    night = night_of(root, head, K)
    package = load_package(require_package(night))

    def run() -> dict[str, float]:
        shutil.rmtree(f"{root}/candidate_cache", ignore_errors=True)
        start = time.perf_counter()
        packed_folder(night, package, cache_folders(night.lake))
        return {"seconds": time.perf_counter() - start}

    return run


def arg_parser() -> argparse.ArgumentParser:
    """The program's arguments."""
    return parser("score_stage", "The whole score stage inside Spark against Spark ALS and the kernel alone.")


def main(argv: Sequence[str] | None = None) -> int:
    """Run, print, write."""
    args = arg_parser().parse_args(argv)
    size = (200, 500, (50, 100), 1) if args.quick else (50_000, 50_000, (20_000, 50_000), 5)
    figures = stage_figures(*size, not args.quick)
    present("the score stage inside Spark", figures, args.json)
    return 0


if __name__ == "__main__":
    sys.exit(main())
