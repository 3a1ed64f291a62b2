"""The score stage: exact top-k over all eligible candidates of every user, nothing of size users x candidates stored.

One interface, two ways: the compiled kernel, and blocks in torch, which run where the kernel is missing and on GPUs.
"""

import logging

import torch

from lime_model.candidates import Candidates
from lime_model.scoring.blocked import BlockedScorer
from lime_model.scoring.kernel import KernelScorer
from lime_model.scoring.library import carried
from lime_model.scoring.lists import Scorer

log = logging.getLogger("lime")


def open_scorer(candidates: Candidates, k: int, device: str = "cpu") -> Scorer:
    """The kernel on a CPU it was built for, else torch, which says so."""
    if device == "cpu" and carried():
        return KernelScorer(candidates, k)
    if device == "cpu":
        log.warning("no compiled kernel for this machine is installed: torch scores, several times slower")
    return BlockedScorer(candidates, k, device=torch.device(device))
