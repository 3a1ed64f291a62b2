"""The benchmark of the GPU's kernel."""

import pytest
import torch

from benchmarks import gpu
from schemas.errors import EXIT_INPUT, EXIT_OK


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_without_a_gpu_it_says_so_and_fails(capsys: pytest.CaptureFixture[str]) -> None:
    assert gpu.main([]) == EXIT_INPUT
    assert "expected a GPU, found none on this machine" in capsys.readouterr().out


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU here")
def test_its_lists_are_a_cpus(capsys: pytest.CaptureFixture[str]) -> None:
    assert gpu.main(["--quick"]) == EXIT_OK
    unlike = [line.split() for line in capsys.readouterr().out.splitlines() if line.startswith("lists unlike")]
    assert [line[-2] for line in unlike] == ["0", "0"]
