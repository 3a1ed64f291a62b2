"""What a night reads is not as it should be: raw files and the model package."""

import shutil
from collections.abc import Callable
from pathlib import Path

import torch

from benchmarks.faults.rig import NIGHT, OtherwiseError, Outcome, Rig
from lime_model.package import load_package, save_package
from schemas.errors import EXIT_INPUT
from schemas.events_quarantine import EVENTS_QUARANTINE

EVENTS = f"events/{NIGHT}.tsv"
CUT, REFUSED = 1, 2  # lines of the day's file: cut in the middle, refused by any night


def truncated_file(rig: Rig, seed: int) -> Outcome:
    """The day's events end in the middle of a line; later the whole file is there."""
    whole = _events(rig).read_bytes()
    _events(rig).write_bytes(whole[: len(whole) // 2])
    _published(rig)
    _events(rig).write_bytes(whole)
    _published(rig)
    how = "publishes without the rest, the cut line in quarantine; whole again: complete"
    return _with_more_refused(rig, how, CUT)


def duplicated_file(rig: Rig, seed: int) -> Outcome:
    """The day's events were sent twice: every line again in the file."""
    heading, lines = _events(rig).read_text().split("\n", 1)
    _events(rig).write_text(f"{heading}\n{lines}{lines}")
    _published(rig)
    return _with_more_refused(rig, "every event counts once, a refused line at both its places", REFUSED)


def late_file(rig: Rig, seed: int) -> Outcome:
    """The day's events come after its night was published."""
    away = _events(rig).rename(rig.work / "away")
    _published(rig)
    away.rename(_events(rig))
    _published(rig)
    return Outcome("publishes without it; the same night again takes it in", rig.wrong_rows())


def empty_catalogue(rig: Rig, seed: int) -> Outcome:
    """The catalogue has a heading and no line."""
    return _refused(rig, rig.work / "items.tsv", lambda content: content.split(b"\n", 1)[0] + b"\n", "source items")


def empty_file(rig: Rig, seed: int) -> Outcome:
    """The day's events are a file without a byte."""
    return _refused(rig, _events(rig), lambda content: b"", EVENTS)


def corrupted_package(rig: Rig, seed: int) -> Outcome:
    """A byte of the model's weights is another one."""
    weights = _package(rig) / "weights.safetensors"
    return _refused(rig, weights, lambda content: content[:-1] + bytes([content[-1] ^ 1]), "weights.safetensors")


def swapped_package(rig: Rig, seed: int) -> Outcome:
    """Under the package's name lies another one, whole in itself."""
    package = _package(rig)
    kept = shutil.move(package, rig.work / "kept")
    other = load_package(Path(kept))
    with torch.no_grad():
        next(other.model.parameters()).add_(0.5)
    save_package(package.parent, other.model, other.vocabulary, other.spec, other.manifest).rename(package)
    how = rig.refusal(rig.start("nightly"), EXIT_INPUT, "expected the digest in its name")
    shutil.rmtree(package)
    shutil.move(kept, package)
    return Outcome(f"{how}; put back: {rig.finish()}", rig.wrong_rows())


def _events(rig: Rig) -> Path:
    return rig.work / EVENTS


def _package(rig: Rig) -> Path:
    (package,) = (rig.lake / "models").iterdir()
    return package


def _with_more_refused(rig: Rig, how: str, lines: int) -> Outcome:
    """Everything as in an undisturbed night, but for exactly so many more lines in quarantine."""
    wrong = rig.wrong_rows(EVENTS_QUARANTINE.name)
    refused = rig.wrong_rows() - wrong
    if refused != lines:
        raise OtherwiseError(f"expected {lines} more lines in quarantine, found {refused} rows that differ")
    return Outcome(how, wrong)


def _published(rig: Rig) -> None:
    """The night, whatever was served of it before; raises OtherwiseError where it fails."""
    process = rig.start("nightly", "--date", NIGHT)
    if code := process.finish():
        raise OtherwiseError(f"expected exit 0, found exit {code}: {process.said[-1000:]}")


def _refused(rig: Rig, file: Path, change: Callable[[bytes], bytes], words: str) -> Outcome:
    """The night with other bytes in a file, then with the old ones."""
    content = file.read_bytes()
    file.write_bytes(change(content))
    how = rig.refusal(rig.start("nightly"), EXIT_INPUT, words)
    file.write_bytes(content)
    return Outcome(f"{how}; put back: {rig.finish()}", rig.wrong_rows())
