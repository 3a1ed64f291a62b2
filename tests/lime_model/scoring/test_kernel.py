"""The compiled kernel: the same bits from every build, and never the torch path by mistake."""

import os
import platform
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
import torch
from torch import Tensor

from lime_model.scoring import open_scorer
from lime_model.scoring.kernel import KernelScorer, find_positions
from lime_model.scoring.library import carried, runnable
from setup import BUILDS, FLAGS, NATIVE
from tests.lime_model.scoring.made import HEADS, everything, links, made, nothing

ROOT = Path(__file__).parents[3]
CHECK = Path(__file__).with_name("kernel_check.c")
MACHINE = platform.machine()


def test_the_compiled_kernel_is_what_scores_here() -> None:
    assert [name for name in carried() if name != "amx"] == [name for name in runnable() if name != "amx"] != []
    assert open_scorer(made("mlp", 5), 2).numerics_id == "kernel=lime-1"


@pytest.mark.parametrize("head", HEADS)
@pytest.mark.parametrize("rows", [{"L": 3}, {"L": 16, "F": 64}, {"L": 21, "F": 48}])
@pytest.mark.parametrize("k", [20, 90])
def test_every_build_that_runs_here_gives_the_same_bits(head: str, rows: dict[str, int], k: int) -> None:
    C, B = 2000, 130
    candidates, P = made(head, C, width=64, **rows), links(B, width=64, L=rows["L"])
    found = [KernelScorer(candidates, k, build).top_k(P, nothing(B), everything(C, B)) for build in carried()]
    for top in found[1:]:
        assert torch.equal(top.positions, found[0].positions)
        assert torch.equal(top.scores.view(torch.int32), found[0].scores.view(torch.int32))


def test_lists_of_thousands_are_those_of_the_next_build() -> None:
    """What a user's list needs beside it grows with K too."""
    C, B, k = 480_000, 32, 6000
    candidates, P = made("linear", C, L=16), links(B, L=16)
    found = [KernelScorer(candidates, k, build).top_k(P, nothing(B), everything(C, B)) for build in carried()[:2]]
    assert torch.equal(found[0].positions, found[-1].positions)
    assert torch.equal(found[0].scores.view(torch.int32), found[-1].scores.view(torch.int32))


@pytest.mark.parametrize("build", carried())
def test_a_build_that_is_named_runs_in_a_fresh_process(build: str) -> None:
    """Nobody asked before which builds there are: one that needs leave to run asks for it itself."""
    code = (
        "from lime_model.scoring.kernel import KernelScorer\n"
        "from tests.lime_model.scoring.made import everything, links, made, nothing\n"
        f"scorer = KernelScorer(made('mlp', 2000, L=16, F=16), 5, {build!r})\n"
        "print(scorer.top_k(links(2, L=16), nothing(2), everything(2000, 2)).count.tolist())\n"
    )
    assert subprocess.check_output([sys.executable, "-c", code], cwd=ROOT, text=True).strip() == "[5, 5]"


@pytest.mark.parametrize("head", HEADS)
@pytest.mark.parametrize("build", carried())
def test_a_subset_without_candidates_makes_empty_lists(build: str, head: str) -> None:
    nobody = made(head, 100, width=16, L=16, F=16).subset(torch.empty(0, dtype=torch.int64))
    found = KernelScorer(nobody, 5, build).top_k(links(3, width=16, L=16), nothing(3), everything(0, 3))
    assert found.count.tolist() == [0, 0, 0] and bool((found.positions == -1).all())


def test_a_flushing_process_gets_the_same_bits_and_its_state_back() -> None:
    candidates = made("linear", 64, b=torch.full((64,), 1e-44))
    P = links(4) * 1e-40
    plain = open_scorer(candidates, 64).top_k(P, nothing(4), everything(64, 4))
    assert bool((plain.scores != 0).any()) and bool((plain.scores.abs() < 1e-37).all())
    torch.set_flush_denormal(True)
    try:
        flushing = open_scorer(candidates, 64).top_k(P, nothing(4), everything(64, 4))
        assert (torch.tensor([1e-40]) * 1.0).item() == 0.0  # still flushing
    finally:
        torch.set_flush_denormal(False)
    assert torch.equal(plain.scores.view(torch.int32), flushing.scores.view(torch.int32))


def _compiled(target: str, processor: str, output: Path, *more: str) -> Path:
    """The check and the kernel's sources as one program, with assertions: they hold estimates against scores."""
    flags = [*(flag for flag in FLAGS if flag not in ("-shared", "-fPIC")), "-UNDEBUG", *more]
    sources = [str(path) for path in sorted((ROOT / NATIVE).glob("*.c"))]
    cache = str(ROOT / "build" / "zig")
    env = {**os.environ, "ZIG_GLOBAL_CACHE_DIR": cache, "ZIG_LOCAL_CACHE_DIR": cache}
    compiler = [sys.executable, "-m", "ziglang", "cc", "-target", target, f"-mcpu={processor}"]
    subprocess.run([*compiler, *flags, str(CHECK), *sources, "-lm", "-o", str(output)], env=env, check=True)
    return output


@pytest.mark.parametrize("build", BUILDS)
def test_each_build_equals_the_arithmetic_written_down_plainly(build: str, tmp_path: Path) -> None:
    """Natively where the processor can, under user-mode emulation where there is one; else the reason is printed."""
    target, processor = BUILDS[build]
    machine, name = build.removeprefix("lime-").split("-")
    runner: list[str] = []
    if machine != MACHINE:
        emulator = next(filter(None, map(shutil.which, (f"qemu-{machine}-static", f"qemu-{machine}"))), None)
        if emulator is None:
            pytest.skip(f"{build} is for {machine} and no qemu-{machine} is installed")
        runner = [emulator]
    elif name not in carried():
        pytest.skip(f"this machine does not run {build}")
    target = target if machine == MACHINE else target.replace("gnu", "musl")  # static: needs no foreign libc
    program = _compiled(target, processor, tmp_path / "check")
    cases = "100" if runner else "400"  # an emulator takes its time
    printed = subprocess.run([*runner, program, cases], capture_output=True, text=True, check=False)
    assert printed.returncode == 0, printed.stdout + printed.stderr
    assert printed.stdout.endswith("same bits\n")


def test_what_an_estimate_rules_out_is_never_in_a_list(tmp_path: Path) -> None:
    """On any processor: the best build without tile registers, made to estimate as the one with them does."""
    other = next(name for name in runnable() if name != "amx")
    program = _compiled(*BUILDS[f"lime-{MACHINE}-{other}"], tmp_path / "check", "-DLIME_SCREEN")
    printed = subprocess.run([program, "100"], capture_output=True, text=True, check=False)
    assert printed.returncode == 0, printed.stdout + printed.stderr


@pytest.mark.skipif(shutil.which("clang") is None, reason="sanitizers need clang, and none is installed")
def test_the_sources_are_clean_under_address_and_undefined_behaviour_sanitizers(tmp_path: Path) -> None:
    sources = [str(path) for path in sorted((ROOT / NATIVE).glob("*.c"))]
    checks = ["-fsanitize=address,undefined", "-fno-sanitize-recover=all"]
    # unoptimised: the unrolled loops take a minute to compile with the checks in them
    levels = {"amx": "sapphirerapids", "avx512": "x86-64-v4", "avx2": "x86-64-v3"}
    widest = [f"-march={levels[name]}" for name in carried()[:1] if name in levels]
    flags = ["-std=c11", "-O0", "-g", "-ffp-contract=off", "-Wno-psabi", "-DLIME_SCREEN", *widest]
    program = tmp_path / "check"
    built = subprocess.run(
        ["clang", *flags, *checks, str(CHECK), *sources, "-lm", "-o", program],
        capture_output=True,
        text=True,
        check=False,
    )
    if "libclang_rt" in built.stderr:
        pytest.skip("clang is installed without its sanitizers' runtime")
    assert built.returncode == 0, built.stderr
    printed = subprocess.run([program, "200"], capture_output=True, text=True, check=False)
    assert printed.returncode == 0, printed.stdout + printed.stderr


def test_a_library_inside_a_zip_is_copied_once_and_run(tmp_path: Path) -> None:
    archive, temporary = tmp_path / "lime.zip", tmp_path / "tmp"
    temporary.mkdir()
    with zipfile.ZipFile(archive, "w") as file:
        for package in ("lime_model", "schemas"):
            for path in sorted((ROOT / package).rglob("*")):
                if path.is_file() and "__pycache__" not in path.parts:
                    file.write(path, path.relative_to(ROOT))
    code = (
        f"import sys; sys.path.insert(0, {str(archive)!r}); import lime_model, torch\n"
        "from lime_model.scoring.kernel import find_positions\n"
        "ids = torch.frombuffer(bytearray(b'ab'), dtype=torch.uint8), torch.tensor([0, 1, 2])\n"
        "print(lime_model.__file__, find_positions(ids, ids).tolist())\n"
    )
    copies: list[dict[Path, int]] = []
    for _ in range(2):
        command = [sys.executable, "-I", "-c", code]
        env = {**os.environ, "TMPDIR": str(temporary)}
        printed = subprocess.check_output(command, cwd=tmp_path, text=True, env=env).strip()
        assert printed == f"{archive}/lime_model/__init__.py [0, 1]"
        copies.append({path: path.stat().st_mtime_ns for path in temporary.glob("lime-*/kernel/*.so")})
    assert copies[0] == copies[1] != {}


def test_positions_of_ids_are_found_by_bytes() -> None:
    def packed(ids: list[str]) -> tuple[Tensor, Tensor]:
        encoded = [name.encode() for name in ids]
        sizes = torch.tensor([0, *map(len, encoded)]).cumsum(0)
        return torch.frombuffer(bytearray(b"".join(encoded)), dtype=torch.uint8), sizes

    items = sorted(["a", "ab", "b", "\u00e9", "z", "\U0001f600", "\uffff"], key=str.encode)
    asked = ["z", "\U0001f600", "nobody", "", "ab", "a"]
    places = [sum(item.encode() < name.encode() for item in items) for name in asked]
    expected = [place if name in items else -1 - place for name, place in zip(asked, places, strict=True)]
    for build in carried():
        assert find_positions(packed(items), packed(asked), build).tolist() == expected
