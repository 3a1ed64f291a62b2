import json
import struct
from dataclasses import fields, replace
from pathlib import Path

import numpy as np
import pytest
import safetensors.torch
import torch
from torch import Tensor

from lime_model.batches import CandidateWeights
from lime_model.candidate_writer import CandidateWriter
from lime_model.candidates import Candidates, ScoreHead, candidates_of
from lime_model.packed import GROUP, read_header, read_only
from schemas.errors import BadNumberError, ModelArtifactError

HEAD = ScoreHead(torch.randn(2, 8, 6), torch.randn(6), torch.randn(6), True, "digest")
IDS = ["b", "ä", "a", "\U0001f600", "\uffff", ""]
KINDS = {"both": (True, True), "G": (True, False), "w": (False, True), "neither": (False, False)}


def weights(n: int = 6, kind: str = "both") -> CandidateWeights:
    g = torch.Generator().manual_seed(n)
    own_g, own_w = KINDS[kind]
    G, w = (torch.randn(n, 6, generator=g) if own else None for own in (own_g, own_w))
    return CandidateWeights(torch.rand(n, 2, 4, generator=g), G, w, torch.arange(n).float())


def part(of: CandidateWeights, start: int, end: int) -> CandidateWeights:
    rows = (None if values is None else values[start:end] for values in (of.A, of.G, of.w, of.b))
    return CandidateWeights(*rows)  # type: ignore[arg-type]  # A and b are there


def equal(a: CandidateWeights, b: CandidateWeights) -> bool:
    pairs = [(a.A, b.A), (a.G, b.G), (a.w, b.w), (a.b, b.b)]
    return all(x is y if x is None or y is None else torch.equal(x, y) for x, y in pairs)


def write(file: Path, of: CandidateWeights, block: int = 32, head: ScoreHead = HEAD) -> Path:
    n = len(of.b)
    with CandidateWriter(file, head.header(n, 4, of.G is not None, of.w is not None), head) as writer:
        for start in range(0, n, block):
            writer.append(part(of, start, start + block), lambda row, start=start: f"item {start + row}")  # type: ignore[misc]
        writer.finish()
    return file


def ids(n: int) -> tuple[Tensor, Tensor]:
    """`000000`, `000001`...: bytes and offsets."""
    text = "".join(f"{i:06d}" for i in range(n)).encode()
    return torch.frombuffer(bytearray(text), dtype=torch.uint8), torch.arange(n + 1) * 6


def test_items_are_in_utf8_byte_order_with_their_own_weights() -> None:
    made = candidates_of(IDS, weights(), HEAD)
    assert [made.item_id(i) for i in range(len(made))] == ["", "a", "b", "ä", "\uffff", "\U0001f600"]
    assert made.rows(0, 6).b.tolist() == [5, 2, 0, 1, 4, 3]
    assert equal(made.rows(2, 1), part(weights(), 0, 1))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("n", [1, 15, 16, 17, 64, 65, 131])
def test_a_written_file_is_what_is_packed_in_memory(tmp_path: Path, n: int, kind: str) -> None:
    made = candidates_of([f"{i:06d}" for i in range(n)], weights(n, kind), HEAD)
    found = Candidates.load(write(tmp_path / "c.lime", weights(n, kind)), *ids(n))
    for field in fields(Candidates):
        before, after = getattr(made, field.name), getattr(found, field.name)
        assert torch.equal(before, after) if isinstance(before, Tensor) else before == after, field.name
    assert equal(found.rows(0, n), weights(n, kind))


def test_a_candidate_is_a_lane_of_its_group_and_lanes_after_the_last_are_zero() -> None:
    of = weights(70)
    made = candidates_of([f"{i:06d}" for i in range(70)], of, HEAD)
    assert made.A.shape == (8, 8, GROUP)
    assert made.b.shape == (8, GROUP)
    assert made.G is not None
    for c in (0, 15, 16, 69):
        assert torch.equal(made.A[c // GROUP, :, c % GROUP], of.A[c].flatten())
        assert of.G is not None
        assert torch.equal(made.G[c // GROUP, :, c % GROUP], of.G[c])
    assert not made.A[4, :, 6:].any()
    assert not made.A[5:].any()


@pytest.mark.parametrize(("first", "count"), [(0, 7), (5, 20), (16, 16), (31, 2), (60, 100), (69, 1), (70, 5)])
def test_rows_are_any_block_of_candidates(first: int, count: int) -> None:
    made = candidates_of([f"{i:06d}" for i in range(70)], weights(70), HEAD)
    assert equal(made.rows(first, count), part(weights(70), first, first + count))


@pytest.mark.parametrize("kind", KINDS)
def test_bounds_are_the_largest_absolute_values_of_every_block(tmp_path: Path, kind: str) -> None:
    of = weights(100, kind)
    of.A[40, 1, 2] = -9.0
    of.b[99] = -1000.0
    found = Candidates.load(write(tmp_path / "c.lime", of), *ids(100))
    assert torch.equal(found.A_max, of.A.flatten(1).abs().amax(0))
    assert found.A_max[6] == 9.0
    assert found.b_max.tolist() == [1000.0]
    assert torch.equal(found.G_max, HEAD.g.abs() if of.G is None else of.G.abs().amax(0))
    assert torch.equal(found.W_max, HEAD.w.abs() if of.w is None else of.w.abs().amax(0))


def test_sections_are_aligned_in_file_and_memory_and_their_header_says_where(tmp_path: Path) -> None:
    file = write(tmp_path / "c.lime", weights(70))
    whole = file.read_bytes()
    (length,) = struct.unpack_from("<Q", whole, 8)
    header = json.loads(whole[16 : 16 + length])
    assert whole[:8] == b"LIMECAND"
    assert (16 + length) % 64 == 0
    assert {name: header[name] for name in ("layout", "count", "heads", "links", "width", "hidden", "relu")} == {
        "layout": "lime-candidates-1", "count": 70, "heads": 2, "links": 4, "width": 8, "hidden": 6, "relu": True,
    }  # fmt: skip
    found = Candidates.load(file, *ids(70))
    for name, section in header["sections"].items():
        values: Tensor = getattr(found, name)
        assert section["offset"] % 64 == 0
        assert values.data_ptr() % 64 == 0
        stored = np.frombuffer(whole, "<f4", values.numel(), section["offset"]).reshape(section["shape"])
        assert np.array_equal(stored, values.numpy())


def test_the_same_rows_are_the_same_bytes_whatever_the_block(tmp_path: Path) -> None:
    a, b = (write(tmp_path / f"{block}", weights(100), block).read_bytes() for block in (16, 64))
    assert a == b


def test_a_loaded_file_is_mapped_shared_and_read_only(tmp_path: Path) -> None:
    file = write(tmp_path / "c.lime", weights(5_000), 4096)
    found = Candidates.load(file, *ids(5_000))
    assert found.count == 5_000
    lines = [line for line in Path("/proc/self/maps").read_text().splitlines() if str(file) in line]
    assert [line.split()[1] for line in lines] == ["r--s"]


def test_a_read_only_array_becomes_a_tensor_without_a_warning(recwarn: pytest.WarningsRecorder) -> None:
    assert read_only(np.frombuffer(b"\x01\x02", np.uint8)).tolist() == [1, 2]
    assert not recwarn.list


@pytest.mark.parametrize("listed", [["a", "a", "b", "c", "d", "e"], ["a", "b"]])
def test_ids_that_are_not_one_per_row_are_refused(listed: list[str]) -> None:
    with pytest.raises(ModelArtifactError, match="6 distinct"):
        candidates_of(listed, weights(), HEAD)


@pytest.mark.parametrize("name", ["A", "G", "w", "b"])
@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf"), -2e15])
def test_a_row_that_is_not_finite_is_named(tmp_path: Path, name: str, value: float) -> None:
    damaged = weights()
    getattr(damaged, name).view(6, -1)[3, 0] = value
    with pytest.raises(BadNumberError, match=f"{name.upper() if name == 'w' else name} of row 5, item '\U0001f600'"):
        candidates_of(IDS, damaged, HEAD)
    late = weights(50)
    getattr(late, name).view(50, -1)[37, 0] = value
    getattr(late, name).view(50, -1)[41, 0] = value
    with pytest.raises(BadNumberError, match="of row 37, item 'item 37'"):
        write(tmp_path / "c.lime", late)


@pytest.mark.parametrize("name", ["fold", "g", "w"])
def test_a_constant_that_is_not_finite_is_named(tmp_path: Path, name: str) -> None:
    bad = replace(HEAD, **{name: torch.full_like(getattr(HEAD, name), float("nan"))})
    with pytest.raises(BadNumberError, match=f"candidates: {name}: "):
        candidates_of(IDS, weights(), bad)
    with pytest.raises(BadNumberError, match=f"candidates: {name}: "):
        write(tmp_path / "c.lime", weights(), head=bad)


def test_a_file_that_was_not_finished_is_no_candidate_file(tmp_path: Path) -> None:
    file = tmp_path / "c.lime"
    with CandidateWriter(file, HEAD.header(6, 4, True, True), HEAD) as writer:
        writer.append(weights(), str)
    with pytest.raises(ModelArtifactError, match="LIMECAND"):
        read_header(file)


def test_rows_that_do_not_fit_the_header_are_refused(tmp_path: Path) -> None:
    with CandidateWriter(tmp_path / "c", HEAD.header(70, 4, True, True), HEAD) as writer:
        writer.append(weights(17), str)
        with pytest.raises(ModelArtifactError, match="whole groups of 16, found 16 after 17"):
            writer.append(weights(16), str)
        with pytest.raises(ModelArtifactError, match="expected 70 rows, found 17"):
            writer.finish()
    with (
        CandidateWriter(tmp_path / "d", HEAD.header(6, 5, True, True), HEAD) as writer,
        pytest.raises(ModelArtifactError, match="A: expected shape"),
    ):
        writer.append(weights(), str)


def without(file: Path, count: int) -> None:
    file.write_bytes(file.read_bytes()[:-count])


def rewrite(file: Path, before: bytes, after: bytes) -> None:
    file.write_bytes(file.read_bytes().replace(before, after, 1))


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda file: file.unlink(), "expected a packed candidate file, found .*No such file"),
        (lambda file: file.write_bytes(b""), "begins with LIMECAND, found 0 bytes"),
        (lambda file: without(file, 1), r"expected \d+ bytes, found \d+"),
        (lambda file: file.write_bytes(file.read_bytes() + b"\0"), r"expected \d+ bytes, found \d+"),
        (lambda file: rewrite(file, b"LIMECAND", b"LIMECANE"), "begins with LIMECAND, found 4096 bytes"),
        (lambda file: rewrite(file, b"candidates-1", b"candidates-9"), "expected layout .*-1, found .*-9"),
        (lambda file: rewrite(file, b'"count": 70', b'"count": 20'), "expected sections"),
        (lambda file: rewrite(file, b'"heads"', b'"other"'), "expected a header"),
        (lambda file: rewrite(file, b'{"layout"', b'["layout"'), "expected a JSON header"),
        (lambda file: safetensors.torch.save_file({"A": torch.ones(2000)}, file), "begins with LIMECAND"),
    ],
)  # fmt: skip
def test_a_damaged_or_foreign_file_is_named(tmp_path: Path, damage: object, message: str) -> None:
    file = write(tmp_path / "c.lime", weights(70))
    damage(file)  # type: ignore[operator]
    with pytest.raises(ModelArtifactError, match=rf"c\.lime: .*{message}"):
        Candidates.load(file, *ids(70))


def test_ids_of_other_candidates_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelArtifactError, match="expected 70 item ids, found 69"):
        Candidates.load(write(tmp_path / "c.lime", weights(70)), *ids(69))
