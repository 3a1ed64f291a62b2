"""The score stage: exact top-k over all eligible candidates of every user, nothing of size users x candidates stored.

One interface, two ways: the compiled kernel, with the same bits on CPUs and GPUs, and blocks in torch, which run where
the kernel is missing.
"""

import logging
from importlib.util import find_spec

import torch

from lime_model.candidates import Candidates
from lime_model.scoring.blocked import BlockedScorer
from lime_model.scoring.kernel import KernelScorer
from lime_model.scoring.library import carried
from lime_model.scoring.lists import Scorer

log = logging.getLogger("lime")


def open_scorer(candidates: Candidates, k: int, device: str = "cpu") -> Scorer:
    """The kernel on a CPU it was built for or on a GPU it can be compiled for, else torch, which says so."""
    if device == "cpu" and carried():
        return KernelScorer(candidates, k)
    if device != "cpu" and compiles_for_gpus():
        from lime_model.scoring.cuda import CudaScorer  # what it imports comes with torch for CUDA only

        return CudaScorer(candidates, k, torch.device(device))
    log.warning("no compiled kernel for this machine is installed: torch scores, several times slower")
    return BlockedScorer(candidates, k, device=torch.device(device))


def compiles_for_gpus() -> bool:
    """Whether this torch is for NVIDIA's GPUs and brought their run-time compiler."""
    return torch.version.cuda is not None and find_spec("cuda") is not None and find_spec("cuda.bindings") is not None
