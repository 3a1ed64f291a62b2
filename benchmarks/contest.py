"""Contestants in processes of their own, asked in turn: A B C A B C, so that a machine's moods meet all of them alike.

A contestant is a function `module:name` that prepares and returns what is timed. Every process is started and warmed up
first, its first call discarded, and waits, idle, while another one runs.
"""

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from importlib import import_module
from statistics import median
from typing import Any, TextIO

Run = Callable[[], Mapping[str, float]]  # one timed call: at least `seconds`
# numerical libraries choose their own code here, whatever this shell prescribes for others
PRESCRIBED = ("OPENBLAS_CORETYPE", "OPENBLAS_L2_SIZE")


@dataclass(frozen=True)
class Contestant:
    """A name to print, `module:function`, its arguments, and the threads that its libraries may use."""

    name: str
    function: str
    options: Mapping[str, Any] = field(default_factory=dict)
    threads: int = 1


Results = Mapping[str, Sequence[Mapping[str, float]]]


def compete(contestants: Sequence[Contestant], rounds: int) -> Results:
    """Name -> what each of its counted calls gave, in order of the rounds."""
    results: dict[str, list[Mapping[str, float]]] = {c.name: [] for c in contestants}
    with ExitStack() as stack:
        asks = {c.name: stack.enter_context(_process(c)) for c in contestants}
        for ask in asks.values():
            ask()  # warm-up, discarded
        for _ in range(rounds):
            for name, ask in asks.items():
                results[name].append(ask())
    return results


def ratios(results: Results, fast: str, slow: str, work: tuple[float, float] = (1.0, 1.0)) -> list[float]:
    """Round by round, how many times the slow one's seconds per unit of work are the fast one's."""
    pairs = zip(results[fast], results[slow], strict=True)
    return [(s["seconds"] / work[1]) / (f["seconds"] / work[0]) for f, s in pairs]


def middle(results: Results, name: str, key: str = "seconds") -> float:
    """The median over the rounds."""
    return median(call[key] for call in results[name])


def spread_of(values: Sequence[float]) -> dict[str, Any]:
    """What goes beside a median."""
    return {"min": min(values), "max": max(values), "rounds": len(values)}


@contextmanager
def _process(contestant: Contestant) -> Iterator[Callable[[], Mapping[str, float]]]:
    """A contestant's process, and the function that asks it for one call."""
    kept = {name: value for name, value in os.environ.items() if name not in PRESCRIBED}
    limits = {f"{library}_NUM_THREADS": str(contestant.threads) for library in ("OMP", "OPENBLAS", "MKL")}
    command = [sys.executable, "-m", "benchmarks.contest", contestant.function, json.dumps(dict(contestant.options))]
    with subprocess.Popen(
        command, env={**kept, **limits}, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        yield lambda: _asked(contestant.name, process.stdin, process.stdout)  # type: ignore[arg-type]
        process.stdin.close()


def _asked(name: str, stdin: TextIO, stdout: TextIO) -> Mapping[str, float]:
    stdin.write("go\n")
    stdin.flush()
    line = stdout.readline()
    if not line:
        raise RuntimeError(f"contestant {name}: expected the figures of a call, and its process ended")
    answer: Mapping[str, float] = json.loads(line)
    return answer


def _serve(function: str, options: Mapping[str, Any]) -> None:
    """A contestant's side: one JSON line a call; whatever else is printed goes to standard error."""
    answers, sys.stdout = sys.stdout, sys.stderr
    module, name = function.split(":")
    run: Run = getattr(import_module(module), name)(**options)
    for _ in sys.stdin:
        answers.write(json.dumps(run()) + "\n")
        answers.flush()


if __name__ == "__main__":
    _serve(sys.argv[1], json.loads(sys.argv[2]))
