"""The GPU's kernel without a GPU: its source compiled for this CPU, blocks of one thread, one after another."""

import ctypes
import os
import platform
import subprocess
import sys
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from tempfile import TemporaryDirectory, mkdtemp

import torch

from lime_model.candidates import Candidates
from lime_model.scoring.cuda import CudaScorer, LaunchShape
from lime_model.scoring.cuda_program import Program
from lime_model.scoring.library import carried
from setup import BUILDS

HERE = Path(__file__).parent
ROOT = HERE.parents[2]
MACHINE = platform.machine()
BUILT = TemporaryDirectory(prefix="lime-emulated-")  # gone with this process
LOOP = """
extern "C" void run_NAME(int columns, int rows, const arguments *a) {
  for (blockIdx.y = 0; blockIdx.y < rows; blockIdx.y++)
    for (blockIdx.x = 0; blockIdx.x < columns; blockIdx.x++) NAME(*a);
}
"""


def emulated(candidates: Candidates, k: int) -> CudaScorer:
    """Small tiles and few users at once, so that a few of either are several."""
    shape = LaunchShape(threads=1, each=3, users=3, users_at_once=5, chunk=4, first_tile=16, largest_tile=64)
    return CudaScorer(candidates, k, torch.device("cpu"), shape, EmulatedProgram)


class EmulatedProgram(Program):
    """Works on tensors in this process's memory."""

    def __init__(self, source: str, macros: Mapping[str, int], device: torch.device) -> None:
        assert device.type == "cpu" and macros["THREADS"] == 1
        self._library = ctypes.CDLL(str(_compiled(source, tuple(macros.items()))))

    def launch(self, name: str, grid: tuple[int, int], threads: int, arguments: ctypes.Structure) -> None:
        """Run all blocks of the grid."""
        self._library[f"run_{name}"](*grid, ctypes.byref(arguments))


@lru_cache(maxsize=64)
def _compiled(source: str, macros: tuple[tuple[str, int], ...]) -> Path:
    folder = Path(mkdtemp(dir=BUILT.name))
    loops = "".join(LOOP.replace("NAME", name) for name in ("fold_links", "score_users"))
    (folder / "score.cpp").write_text(f'#include "{HERE}/gpu_on_cpu.h"\n{source}\n{loops}')
    given = [f"-D{name}={value}" for name, value in macros]
    target, processor = BUILDS[f"lime-{MACHINE}-{carried()[0]}"]
    plain = ["-x", "c++", "-std=c++17", "-nostdinc++", "-nostdlib++", "-fno-exceptions", "-fno-rtti"]  # no library
    options = ["-target", target, f"-mcpu={processor}", "-O1", "-ffp-contract=off", "-shared", "-fPIC", *plain, *given]
    command = [sys.executable, "-m", "ziglang", "cc", *options, "score.cpp", "-o", "score.so"]
    cache = str(ROOT / "build" / "zig")
    env = {**os.environ, "ZIG_GLOBAL_CACHE_DIR": cache, "ZIG_LOCAL_CACHE_DIR": cache}
    subprocess.run(command, cwd=folder, env=env, check=True)
    return folder / "score.so"
