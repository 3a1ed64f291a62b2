"""Where a training run stands, on disk: enough to go on to the same weights, replaced atomically."""

import hashlib
import os
import pickle
from dataclasses import dataclass, field, fields
from pathlib import Path

import torch
from torch import Tensor, nn

from lime_model.recipe import Recipe
from lime_model.windows import WindowSet
from schemas.errors import ModelArtifactError


@dataclass
class Progress:
    """Counters and the best weights so far."""

    step: int = 0
    best_step: int = 0
    best_ndcg: float = -1.0
    stale: int = 0  # validations since the best
    seconds: float = 0.0  # of training, over all sittings
    best: dict[str, Tensor] = field(default_factory=dict)

    def seen(self, ndcg: float, model: nn.Module) -> None:
        """Take note of one validation."""
        if ndcg > self.best_ndcg:
            self.best_step, self.best_ndcg, self.stale = self.step, ndcg, 0
            self.best = {name: value.clone() for name, value in model.state_dict().items()}
        else:
            self.stale += 1


def fingerprint(recipe: Recipe, windows: WindowSet) -> str:
    """Names the run: another config, vocabulary or data set never resumes this one's checkpoint."""
    digest = hashlib.sha256()
    for text in (recipe.model.dumps(), recipe.train.dumps(), recipe.vocabulary.dumps(), recipe.spec.dumps()):
        digest.update(text.encode() + b"\0")
    for part in fields(windows):
        value = getattr(windows, part.name)
        digest.update(value.cpu().numpy().tobytes() if isinstance(value, Tensor) else "\0".join(value).encode())
    return digest.hexdigest()[:16]


class Checkpoint:
    """One file, saved after a step and restored before the next."""

    def __init__(
        self,
        path: Path,
        model: nn.Module,
        average: nn.Module,
        optimizer: torch.optim.Optimizer,
        progress: Progress,
    ) -> None:
        self.path, self.model, self.average = path, model, average
        self.optimizer, self.progress = optimizer, progress

    def save(self) -> None:
        state = {
            "model": self.model.state_dict(),
            "average": self.average.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "progress": vars(self.progress),
        }
        self.path.parent.mkdir(parents=True, exist_ok=True)
        unfinished = self.path.with_suffix(".tmp")
        torch.save(state, unfinished)
        os.replace(unfinished, self.path)  # noqa: PTH105 - atomic: a kill leaves the old checkpoint

    def restore(self) -> bool:
        """True when there was a checkpoint of this very run."""
        if not self.path.exists():
            return False
        try:
            device = next(self.model.parameters()).device
            state = torch.load(self.path, map_location=device, weights_only=True)
        except (OSError, RuntimeError, EOFError, ValueError, KeyError, pickle.UnpicklingError) as error:
            raise ModelArtifactError(
                f"{self.path.name}: expected a checkpoint, found {error}; delete it to start over"
            ) from error
        self.model.load_state_dict(state["model"])
        self.average.load_state_dict(state["average"])
        self.optimizer.load_state_dict(state["optimizer"])
        for name, value in state["progress"].items():
            setattr(self.progress, name, value)
        return True
