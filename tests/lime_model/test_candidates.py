from dataclasses import replace
from pathlib import Path

import pytest
import torch

from lime_model.batches import CandidateWeights
from lime_model.candidates import Candidates, ScoreHead, candidates_of
from schemas.errors import BadNumberError, ModelArtifactError

HEAD = ScoreHead(torch.randn(2, 8, 6), torch.randn(6), torch.randn(6), True, "digest")
IDS = ["b", "ä", "a", "\U0001f600", "\uffff", ""]


def weights(n: int = 6, own: bool = True) -> CandidateWeights:
    torch.manual_seed(0)
    G, w = (torch.randn(n, 6), torch.randn(n, 6)) if own else (None, None)
    return CandidateWeights(torch.rand(n, 2, 4), G, w, torch.arange(n).float())


@pytest.mark.parametrize("own", [True, False])
def test_a_saved_cache_is_the_same_cache(tmp_path: Path, own: bool) -> None:
    made = candidates_of(IDS, weights(own=own), HEAD)
    made.save(tmp_path / "c.safetensors")
    found = Candidates.load(tmp_path / "c.safetensors")
    assert found.item_ids() == made.item_ids()
    assert (found.relu, found.model_digest) == (True, "digest")
    for name in ("A", "G", "w", "b"):
        before, after = getattr(made.weights, name), getattr(found.weights, name)
        assert (before is None and after is None) or torch.equal(before, after)
    assert all(torch.equal(getattr(made, name), getattr(found, name)) for name in ("fold", "g", "w"))


def test_items_are_in_utf8_byte_order_with_their_own_weights() -> None:
    made = candidates_of(IDS, weights(), HEAD)
    assert made.item_ids() == ["", "a", "b", "ä", "\uffff", "\U0001f600"]
    assert made.weights.b.tolist() == [5, 2, 0, 1, 4, 3]
    assert [made.item_id(i) for i in range(len(made))] == made.item_ids()


def test_a_loaded_cache_is_mapped_not_read(tmp_path: Path) -> None:
    file = tmp_path / "c.safetensors"
    n = 50_000
    large = CandidateWeights(torch.rand(n, 2, 16), None, torch.rand(n, 64), torch.rand(n))
    ids = [f"{i:06d}" for i in range(n)]
    candidates_of(ids, large, HEAD).save(file)
    found = Candidates.load(file)
    assert bool((found.weights.b >= 0).all())
    mapped = [line for line in Path("/proc/self/maps").read_text().splitlines() if str(file) in line]
    assert mapped, "the file is not in this process's memory map"


@pytest.mark.parametrize("ids", [["a", "a", "b", "c", "d", "e"], ["a", "b"]])
def test_ids_that_are_not_one_per_row_are_refused(ids: list[str]) -> None:
    with pytest.raises(ModelArtifactError, match="6 distinct"):
        candidates_of(ids, weights(), HEAD)


@pytest.mark.parametrize("name", ["A", "G", "w", "b"])
@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_row_that_is_not_finite_is_named(name: str, value: float) -> None:
    damaged = weights()
    getattr(damaged, name).view(6, -1)[3, 0] = value
    with pytest.raises(BadNumberError, match=f"{name} of row 5, item '\U0001f600'"):
        candidates_of(IDS, damaged, HEAD)


def test_a_constant_that_is_not_finite_is_named() -> None:
    with pytest.raises(BadNumberError, match="fold"):
        candidates_of(IDS, weights(), replace(HEAD, fold=torch.full((2, 8, 6), float("nan"))))


def test_a_damaged_file_is_named(tmp_path: Path) -> None:
    file = tmp_path / "c.safetensors"
    with pytest.raises(ModelArtifactError, match=r"c\.safetensors"):
        Candidates.load(file)
    file.write_bytes(b"\x00" * 40)
    with pytest.raises(ModelArtifactError, match=r"c\.safetensors"):
        Candidates.load(file)


def test_a_safetensors_file_of_something_else_is_refused(tmp_path: Path) -> None:
    import safetensors.torch

    safetensors.torch.save_file({"A": torch.ones(1)}, tmp_path / "x.safetensors")
    with pytest.raises(ModelArtifactError, match="fold"):
        Candidates.load(tmp_path / "x.safetensors")
