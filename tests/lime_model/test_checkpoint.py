from pathlib import Path

import pytest
import torch
from torch import nn

from lime_model.checkpoint import Checkpoint, Progress, fingerprint
from lime_model.config import TrainConfig
from lime_model.recipe import Recipe
from lime_model.windows import windows_of
from schemas.errors import ModelArtifactError
from tests.lime_model.samples import SPEC, VOCABULARY, config, walks


def checkpoint(path: Path, seed: int) -> Checkpoint:
    torch.manual_seed(seed)
    model = nn.Linear(2, 2)
    return Checkpoint(path, model, nn.Linear(2, 2), torch.optim.AdamW(model.parameters(), lr=0.1), Progress())


def test_what_was_saved_is_restored(tmp_path: Path) -> None:
    first = checkpoint(tmp_path / "deep" / "c.pt", 1)
    first.model(torch.ones(1, 2)).sum().backward()
    first.optimizer.step()
    first.progress.step = 7
    first.progress.seen(0.5, first.average)
    first.save()
    second = checkpoint(tmp_path / "deep" / "c.pt", 2)
    assert second.restore()
    assert torch.equal(second.model.state_dict()["weight"], first.model.state_dict()["weight"])
    assert second.optimizer.state_dict()["state"][0]["step"] == 1
    assert (second.progress.step, second.progress.best_step, second.progress.best_ndcg) == (7, 7, 0.5)
    assert torch.equal(second.progress.best["weight"], first.average.state_dict()["weight"])
    assert [path.name for path in (tmp_path / "deep").iterdir()] == ["c.pt"]


def test_without_a_file_there_is_nothing_to_restore(tmp_path: Path) -> None:
    assert not checkpoint(tmp_path / "c.pt", 1).restore()


def test_a_damaged_file_is_named(tmp_path: Path) -> None:
    (tmp_path / "c.pt").write_bytes(b"not a checkpoint")
    with pytest.raises(ModelArtifactError, match=r"c\.pt: expected a checkpoint"):
        checkpoint(tmp_path / "c.pt", 1).restore()


def test_only_a_better_validation_is_kept() -> None:
    progress, model = Progress(step=1), nn.Linear(1, 1)
    for ndcg in (0.2, 0.1, 0.2):
        progress.seen(ndcg, model)
        progress.step += 1
    assert (progress.best_step, progress.best_ndcg, progress.stale) == (1, 0.2, 2)


def test_another_config_or_data_set_is_another_run() -> None:
    recipe = Recipe(config(), TrainConfig(), VOCABULARY, SPEC)
    other = Recipe(config(), TrainConfig(seed=9), VOCABULARY, SPEC)
    names = {fingerprint(made, windows_of(rows)) for made in (recipe, other) for rows in (walks(3), walks(4), walks(3))}
    assert len(names) == 4
