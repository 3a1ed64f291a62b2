"""The model package: one folder (or one zip of it) named by its digest, checked byte by byte when it is
loaded.

config.json, weights.safetensors, vocabulary.json and feature_spec.json make the model digest. manifest.json
(where it came from) and golden.safetensors (what it must answer) have checksums of their own in
checksums.json.
"""

import hashlib
import json
import os
import shutil
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import safetensors.torch
from safetensors import SafetensorError

from lime_model.config import ModelConfig
from lime_model.features import FeatureSpec
from lime_model.golden import golden_case, replay_golden_case
from lime_model.loaded import ModelPackage
from lime_model.model import Lime
from lime_model.vocabulary import Vocabulary
from schemas.errors import ConfigError, LimeError, ModelArtifactError

__all__ = ["ModelPackage", "in_memory_package", "load_package", "model_digest", "save_package", "zip_package"]

FORMAT = 2  # 1 knew LIME-XOR only
DIGESTED = ("config.json", "weights.safetensors", "vocabulary.json", "feature_spec.json")
BESIDE = ("manifest.json", "golden.safetensors")
CHECKSUMS = "checksums.json"

Result = TypeVar("Result")


def model_digest(files: Mapping[str, bytes]) -> str:
    """SHA-256 over names and SHA-256 of config, weights, vocabulary and feature spec: 64 hex digits."""
    lines = "".join(f"{name} {_sha256(files[name])}\n" for name in DIGESTED)
    return _sha256(lines.encode())


def in_memory_package(
    model: Lime, vocabulary: Vocabulary, spec: FeatureSpec, manifest: Mapping[str, Any]
) -> ModelPackage:
    """A trained model as a package that is not on disk yet."""
    files = _content(model, vocabulary, spec)
    return ModelPackage(model.config, model.eval(), vocabulary, spec, manifest, model_digest(files))


def save_package(
    root: Path, model: Lime, vocabulary: Vocabulary, spec: FeatureSpec, manifest: Mapping[str, Any]
) -> Path:
    """Write `root/<digest>/` and return it. A package that is already there is checked and left as it is."""
    if not isinstance(manifest.get("trained_until"), str):
        raise ConfigError(f"manifest.json: expected trained_until, found {sorted(manifest)}")
    package = in_memory_package(model, vocabulary, spec, manifest)
    target = root / package.digest
    if target.exists():
        load_package(target)
        return target
    files = _content(model, vocabulary, spec)
    files["manifest.json"] = (json.dumps(dict(manifest), sort_keys=True, indent=1) + "\n").encode()
    files["golden.safetensors"] = golden_case(package)
    files[CHECKSUMS] = _checksums(files, package.digest)
    unfinished = root / f".{package.digest}.{os.getpid()}.tmp"
    shutil.rmtree(unfinished, ignore_errors=True)
    unfinished.mkdir(parents=True)
    for name, content in files.items():
        (unfinished / name).write_bytes(content)
    unfinished.rename(target)
    return target


def zip_package(folder: Path, target: Path) -> Path:
    """One file for SparkContext.addFile; the same folder makes the same bytes."""
    with zipfile.ZipFile(target, "w", zipfile.ZIP_STORED) as archive:
        for name in (*DIGESTED, *BESIDE, CHECKSUMS):
            archive.writestr(zipfile.ZipInfo(name), (folder / name).read_bytes())
    return target


def load_package(path: Path) -> ModelPackage:
    """A folder or a zip -> ModelPackage, after every checksum, the digest and the golden case have held."""
    files = _read_zip(path) if path.is_file() else _read_folder(path)
    digest = _verify(files)
    config = _parsed("config.json", lambda: ModelConfig.from_json(json.loads(files["config.json"])))
    vocabulary = _parsed("vocabulary.json", lambda: Vocabulary.from_json(json.loads(files["vocabulary.json"])))
    spec = _parsed("feature_spec.json", lambda: FeatureSpec.from_json(json.loads(files["feature_spec.json"])))
    manifest: dict[str, Any] = _parsed("manifest.json", lambda: json.loads(files["manifest.json"]))
    model = Lime(config, vocabulary, spec)
    _parsed(
        "weights.safetensors",
        lambda: model.load_state_dict(safetensors.torch.load(files["weights.safetensors"])),
    )
    package = ModelPackage(config, model.eval(), vocabulary, spec, manifest, digest)
    replay_golden_case(package, files["golden.safetensors"])
    return package


def _content(model: Lime, vocabulary: Vocabulary, spec: FeatureSpec) -> dict[str, bytes]:
    weights = {name: value.detach().cpu().contiguous() for name, value in model.state_dict().items()}
    return {
        "config.json": model.config.dumps().encode(),
        "weights.safetensors": safetensors.torch.save(weights),
        "vocabulary.json": vocabulary.dumps().encode(),
        "feature_spec.json": spec.dumps().encode(),
    }


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def _checksums(files: Mapping[str, bytes], digest: str) -> bytes:
    sums = {name: _sha256(files[name]) for name in (*DIGESTED, *BESIDE)}
    return (json.dumps({"format": FORMAT, "digest": digest, "sha256": sums}, sort_keys=True, indent=1) + "\n").encode()


def _verify(files: Mapping[str, bytes]) -> str:
    """The digest, after checksums.json is found to be exactly what these files make."""
    stated = _parsed(CHECKSUMS, lambda: dict(json.loads(files[CHECKSUMS])))
    if stated.get("format") != FORMAT:
        raise ModelArtifactError(f"{CHECKSUMS}: expected package format {FORMAT}, found {stated.get('format')}")
    listed = stated.get("sha256")
    sums: dict[str, Any] = listed if isinstance(listed, dict) else {}
    for name in (*DIGESTED, *BESIDE):
        found = _sha256(files[name])
        if sums.get(name) != found:
            raise ModelArtifactError(f"{name}: expected sha256 {sums.get(name)}, found {found}")
    digest = model_digest(files)
    if files[CHECKSUMS] != _checksums(files, digest):
        raise ModelArtifactError(f"{CHECKSUMS}: expected model digest {digest}, found {stated.get('digest')}")
    return digest


def _read_folder(path: Path) -> dict[str, bytes]:
    files = {}
    for name in (*DIGESTED, *BESIDE, CHECKSUMS):
        try:
            files[name] = (path / name).read_bytes()
        except OSError as error:
            raise ModelArtifactError(f"{path / name}: expected a file of the package, found {error}") from error
    return files


def _read_zip(path: Path) -> dict[str, bytes]:
    try:
        with zipfile.ZipFile(path) as archive:
            return {name: archive.read(name) for name in (*DIGESTED, *BESIDE, CHECKSUMS)}
    except (zipfile.BadZipFile, KeyError, OSError, EOFError, NotImplementedError, RuntimeError) as error:
        raise ModelArtifactError(f"{path}: expected a zip of a model package, found {error}") from error


def _parsed(name: str, parse: Callable[[], Result]) -> Result:
    """Whatever a damaged file makes its parser raise, say which file it was."""
    try:
        return parse()
    except ModelArtifactError:
        raise
    except (LimeError, ValueError, KeyError, TypeError, RuntimeError, SafetensorError) as error:
        raise ModelArtifactError(f"{name}: expected a readable part of a model package, found {error}") from error
