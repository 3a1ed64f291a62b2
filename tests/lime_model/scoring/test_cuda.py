"""The GPU's kernel: its source compiles without a GPU, and computes what the CPU's does, emulated here, or on a GPU."""

import pytest
import torch

from lime_model.scoring import open_scorer
from lime_model.scoring.blocked import BlockedScorer
from lime_model.scoring.cuda import CudaScorer, LaunchShape
from lime_model.scoring.cuda_program import compiled
from lime_model.scoring.kernel import KernelScorer
from lime_model.scoring.lists import Eligible, TopK, pack
from schemas.errors import ConfigError, ModelArtifactError
from tests.lime_model.scoring.emulated import emulated
from tests.lime_model.scoring.made import HEADS, excluded, links, made

SHAPES = (
    {"width": 8, "L": 3, "F": 5},
    {"width": 20, "L": 7, "F": 33},
    {"width": 5, "L": 1, "F": 1},
    {"width": 6, "L": 40, "F": 9},
)


def same(one: TopK, other: TopK) -> bool:
    """Positions, the bits of scores, lengths."""
    scores = torch.equal(one.scores.view(torch.int32), other.scores.view(torch.int32))
    return torch.equal(one.positions, other.positions) and scores and torch.equal(one.count, other.count)


def require_lists_of_the_cpu(scorer: CudaScorer, k: int, B: int, seed: int) -> None:
    """Three classes of users that may have most candidates each, and some denied to everybody."""
    candidates = scorer.candidates
    generator = torch.Generator().manual_seed(seed)
    C = candidates.count
    allowed = torch.rand(3, C, generator=generator) < 0.7
    eligible = Eligible(pack(allowed), torch.randint(0, 3, (B,), generator=generator))
    denied = excluded([sorted(set(torch.randint(0, C, (9,), generator=generator).tolist())) for _ in range(B)])
    P = links(B, seed, candidates.width, candidates.links)
    assert same(scorer.top_k(P, denied, eligible), KernelScorer(candidates, k).top_k(P, denied, eligible))


@pytest.mark.parametrize("head", HEADS)
@pytest.mark.parametrize("shape", SHAPES)
def test_its_source_gives_the_bits_of_the_cpus_kernel(head: str, shape: dict[str, int]) -> None:
    for C, B, k in ((1, 3, 2), (70, 11, 90), (700, 7, 20)):
        candidates = made(head, C, seed=C, **shape)
        require_lists_of_the_cpu(emulated(candidates, k), k, B, seed=C)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU here")
@pytest.mark.parametrize("head", HEADS)
@pytest.mark.parametrize("shape", [*SHAPES, {"width": 64, "L": 16, "F": 64}])
def test_a_gpu_gives_the_bits_of_the_cpus_kernel(head: str, shape: dict[str, int]) -> None:
    for C, B, k in ((1, 3, 2), (700, 70, 900), (5_000, 300, 20)):
        candidates = made(head, C, seed=C, **shape)
        for cut in (LaunchShape(), LaunchShape(users_at_once=64, first_tile=512, largest_tile=1024)):
            scorer = CudaScorer(candidates, k, torch.device("cuda:0"), cut)
            require_lists_of_the_cpu(scorer, k, B, seed=C)


def test_its_scores_are_the_kernels_by_name() -> None:
    candidates = made("mlp", 9)
    assert emulated(candidates, 3).numerics_id == KernelScorer(candidates, 3).numerics_id


@pytest.mark.parametrize("architecture", ["sm_75", "sm_90"])
@pytest.mark.parametrize("L", [3, 150, 700])  # of two heads: T fits in shared memory as it is, or less of it
@pytest.mark.parametrize("head", HEADS)
def test_it_compiles_where_there_is_no_gpu(head: str, L: int, architecture: str) -> None:
    given: list[bytes] = []

    def compile_only(source: str, macros: dict[str, int], device: torch.device) -> None:
        given.append(compiled(source, macros, architecture))

    CudaScorer(made(head, 9, L=L), 3, torch.device("cpu"), LaunchShape(), compile_only)  # type: ignore[arg-type]
    assert given[0].startswith(b"\x7fELF") and b"score_users" in given[0] and b"fold_links" in given[0]


def test_a_source_that_does_not_compile_is_refused_with_the_compilers_words() -> None:
    with pytest.raises(ModelArtifactError, match='identifier "nonsense" is undefined'):
        compiled('extern "C" __global__ void f() { nonsense; }', {}, "sm_90")


def test_filters_that_lie_in_another_order_are_read_in_theirs() -> None:
    C, B, k = 70, 6, 9
    candidates, P = made("mlp", C), links(B)
    allowed = torch.rand(3, C, generator=torch.Generator().manual_seed(4)) < 0.6
    class_of = torch.tensor([0, 1, 2, 2, 1, 0])
    turned = Eligible(pack(allowed).t().contiguous().t(), class_of)
    assert not turned.masks.is_contiguous()
    found = emulated(candidates, k).top_k(P, excluded([[]] * B), turned)
    assert same(found, KernelScorer(candidates, k).top_k(P, excluded([[]] * B), Eligible(pack(allowed), class_of)))


@pytest.mark.parametrize("wrong", [{"threads": 48}, {"chunk": 6}, {"first_tile": 2, "largest_tile": 1}])
def test_a_shape_that_would_write_beyond_its_memory_is_refused(wrong: dict[str, int]) -> None:
    with pytest.raises(ConfigError, match="LaunchShape"):
        LaunchShape(**wrong)


@pytest.mark.parametrize("count", [1, 1024, 1025, 99_999])
def test_every_candidate_is_in_one_tile(count: int) -> None:
    shape = LaunchShape()
    tiles = shape.tiles(count)
    assert [n for first, many in tiles for n in range(first, first + many)] == list(range(count))
    assert max(many for _, many in tiles) <= shape.largest_tile


def test_torch_without_a_compiler_for_gpus_scores_itself_and_says_so(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(torch.version, "cuda", None)
    with caplog.at_level("WARNING", "lime"):
        scorer = open_scorer(made("mlp", 30), 4, "meta")  # a device that computes nothing: only which scorer it is
    assert isinstance(scorer, BlockedScorer)
    assert "torch scores" in caplog.text
