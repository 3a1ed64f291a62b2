import json
import shutil
from pathlib import Path

import pytest
import torch

from lime_model.config import HEADS, Head
from lime_model.features import FeatureSpec
from lime_model.frozen import FrozenShapes, LinkPredictor
from lime_model.package import DIGESTED, _checksums, load_package, model_digest, save_package, zip_package
from lime_model.vocabulary import Vocabulary
from schemas.errors import ConfigError, ModelArtifactError
from tests.lime_model.samples import ITEMS, SPEC, VOCABULARY, config, histories, lime

MANIFEST = {"trained_until": "2026-01-01T00:00:00+00:00", "seed": 1}
ALL = (*DIGESTED, "manifest.json", "golden.safetensors", "checksums.json")


def saved(root: Path, seed: int = 0, head: Head = "dot") -> Path:
    return save_package(root, lime(config(head=head), seed), VOCABULARY, SPEC, MANIFEST)


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return saved(tmp_path_factory.mktemp("packages"))


@pytest.fixture
def folder(original: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(original, tmp_path / "copy"))


@pytest.mark.parametrize("head", HEADS)
def test_a_loaded_package_answers_like_the_model_that_was_saved(tmp_path: Path, head: Head) -> None:
    package = load_package(saved(tmp_path, head=head))
    assert package.config == config(head=head)
    assert (package.vocabulary, package.spec, package.manifest) == (VOCABULARY, SPEC, MANIFEST)
    before = lime(config(head=head)).state_dict()
    assert all(torch.equal(value, before[name]) for name, value in package.model.state_dict().items())
    assert not package.model.training


def test_the_folder_is_named_by_the_digest_and_holds_nothing_else(original: Path) -> None:
    assert original.name == load_package(original).digest
    assert sorted(path.name for path in original.iterdir()) == sorted(ALL)
    assert [path.name for path in original.parent.iterdir()] == [original.name]


def test_the_digest_covers_the_weights_and_not_the_manifest(tmp_path: Path, original: Path) -> None:
    later = save_package(tmp_path, lime(config()), VOCABULARY, SPEC, {**MANIFEST, "seed": 2})
    assert later.name == original.name
    assert saved(tmp_path, seed=1).name != original.name


def test_saving_again_leaves_a_whole_package_and_refuses_a_damaged_one(tmp_path: Path) -> None:
    first = saved(tmp_path)
    before = (first / "manifest.json").stat().st_mtime_ns
    assert saved(tmp_path) == first and (first / "manifest.json").stat().st_mtime_ns == before
    (first / "config.json").unlink()
    with pytest.raises(ModelArtifactError, match=r"config\.json"):
        saved(tmp_path)


def test_a_manifest_must_say_until_when_it_was_trained(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="trained_until"):
        save_package(tmp_path, lime(config()), VOCABULARY, SPEC, {"seed": 1})


def test_a_zip_is_the_same_package_and_the_same_bytes_every_time(original: Path, tmp_path: Path) -> None:
    one, two = (zip_package(original, tmp_path / name) for name in ("a.zip", "b.zip"))
    assert one.read_bytes() == two.read_bytes()
    assert load_package(one).digest == original.name
    shapes = FrozenShapes(rows_per_call=4, length_buckets=(4,), items_per_call=8)
    found = [
        LinkPredictor(load_package(p), shapes, torch.device("cpu")).predict(histories([3, 8])) for p in (one, original)
    ]
    assert torch.equal(found[0], found[1])


@pytest.mark.parametrize("name", ALL)
def test_a_missing_file_is_named(folder: Path, name: str) -> None:
    (folder / name).unlink()
    with pytest.raises(ModelArtifactError, match=name):
        load_package(folder)


@pytest.mark.parametrize("name", ALL)
@pytest.mark.parametrize("where", [0.0, 0.3, 0.7, 1.0])
def test_a_changed_byte_is_named_with_what_was_expected_and_found(folder: Path, name: str, where: float) -> None:
    content = bytearray((folder / name).read_bytes())
    content[int(where * (len(content) - 1))] ^= 1
    (folder / name).write_bytes(content)
    with pytest.raises(ModelArtifactError, match=r"expected .*found"):
        load_package(folder)


@pytest.mark.parametrize("name", [n for n in ALL if n != "checksums.json"])
def test_a_file_of_another_package_is_refused(folder: Path, tmp_path: Path, name: str) -> None:
    vocabulary, spec = (
        Vocabulary((*ITEMS[:9], "other"), 4),
        FeatureSpec(SPEC.categorical, SPEC.numeric, ("a", "b", "c")),
    )
    other = save_package(tmp_path / "other", lime(config(links=3), 5), vocabulary, spec, {**MANIFEST, "seed": 9})
    shutil.copy(other / name, folder / name)
    with pytest.raises(ModelArtifactError, match=name):
        load_package(folder)


def test_a_package_that_answers_differently_is_refused_even_with_right_checksums(folder: Path, tmp_path: Path) -> None:
    other = saved(tmp_path / "other", seed=5)
    shutil.copy(other / "golden.safetensors", folder / "golden.safetensors")
    files = {name: (folder / name).read_bytes() for name in ALL}
    (folder / "checksums.json").write_bytes(_checksums(files, model_digest(files)))
    with pytest.raises(ModelArtifactError, match=r"golden\.safetensors: links: expected the stored answer"):
        load_package(folder)


def test_another_package_format_is_refused(folder: Path) -> None:
    stated = json.loads((folder / "checksums.json").read_text())
    (folder / "checksums.json").write_text(json.dumps({**stated, "format": 1}))
    with pytest.raises(ModelArtifactError, match=r"checksums\.json: expected package format 2, found 1"):
        load_package(folder)


def test_a_truncated_file_and_a_file_that_is_no_zip_are_refused(folder: Path, tmp_path: Path) -> None:
    archive = zip_package(folder, tmp_path / "p.zip")
    content = archive.read_bytes()
    archive.write_bytes(content[: len(content) // 2])
    with pytest.raises(ModelArtifactError, match=r"p\.zip"):
        load_package(archive)
    with pytest.raises(ModelArtifactError, match="nowhere"):
        load_package(tmp_path / "nowhere")


@pytest.mark.parametrize("where", [0.2, 0.5, 0.8])
def test_a_changed_byte_in_a_zip_is_found(folder: Path, tmp_path: Path, where: float) -> None:
    archive = zip_package(folder, tmp_path / "p.zip")
    content = bytearray(archive.read_bytes())
    content[int(where * len(content))] ^= 4
    archive.write_bytes(content)
    with pytest.raises(ModelArtifactError, match=r"expected .*found"):
        load_package(archive)
