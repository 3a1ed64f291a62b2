import json

import pytest
import safetensors.torch
import torch

from lime_model.golden import TOLERANCE, golden_case, replay_golden_case
from schemas.errors import ModelArtifactError
from tests.lime_model.samples import package

PACKAGE = package()
CASE = golden_case(PACKAGE)


def changed(name: str, amount: float) -> bytes:
    tensors = safetensors.torch.load(CASE)
    tensors[name].view(-1)[0] += amount
    size = int.from_bytes(CASE[:8], "little")
    return safetensors.torch.save(tensors, metadata=json.loads(CASE[8 : 8 + size])["__metadata__"])


def test_the_case_replays_on_its_own_package_and_is_the_same_each_time() -> None:
    replay_golden_case(PACKAGE, CASE)
    assert golden_case(PACKAGE) == CASE


def test_it_holds_an_empty_a_full_and_an_overlong_history_and_an_unknown_item_and_type() -> None:
    tensors = safetensors.torch.load(CASE)
    assert tensors["offsets"].diff().tolist() == [0, 1, 5, PACKAGE.config.max_history + 1]
    header = json.loads(CASE[8 : 8 + int.from_bytes(CASE[:8], "little")])
    strings = json.loads(header["__metadata__"]["strings"])
    assert any(item not in PACKAGE.vocabulary for item in strings["item_ids"])
    assert any(name not in PACKAGE.spec.event_types for name in strings["event_types"])


@pytest.mark.parametrize("name", ["links", "A", "w", "b", "fold"])
def test_an_answer_beyond_the_tolerance_is_refused_and_within_it_is_not(name: str) -> None:
    replay_golden_case(PACKAGE, changed(name, TOLERANCE / 2))
    with pytest.raises(ModelArtifactError, match=f"golden.safetensors: {name}"):
        replay_golden_case(PACKAGE, changed(name, 0.05))


def test_an_answer_that_is_not_a_number_is_refused() -> None:
    with pytest.raises(ModelArtifactError, match="links"):
        replay_golden_case(PACKAGE, changed("links", float("nan")))


def test_another_model_does_not_pass() -> None:
    with pytest.raises(ModelArtifactError, match="golden.safetensors"):
        replay_golden_case(package(seed=1), CASE)


def test_a_case_without_its_parts_is_refused() -> None:
    tensors = safetensors.torch.load(CASE)
    with pytest.raises(ModelArtifactError, match="with strings"):
        replay_golden_case(PACKAGE, safetensors.torch.save(tensors))
    with pytest.raises(ModelArtifactError, match="with strings"):
        replay_golden_case(PACKAGE, b"nothing")
    with pytest.raises(ModelArtifactError, match="golden"):
        replay_golden_case(PACKAGE, safetensors.torch.save({"links": torch.ones(1)}))
