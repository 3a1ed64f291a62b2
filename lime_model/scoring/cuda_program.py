"""CUDA C compiled at run time by NVRTC, which comes with torch for CUDA: no machine needs a compiler."""

import ctypes
from collections.abc import Mapping
from typing import Any

import torch
from cuda.bindings import driver, nvrtc

from schemas.errors import ModelArtifactError, RetryableError


def compiled(source: str, macros: Mapping[str, int], architecture: str) -> bytes:
    """Machine code of a source for an architecture such as `sm_90`; raises ModelArtifactError with the compiler's log.

    No product and sum is contracted to a fused one but where the source says so.
    """
    options = [f"--gpu-architecture={architecture}", "--fmad=false", "--std=c++17"]
    given = [option.encode() for option in [*options, *(f"-D{name}={value}" for name, value in macros.items())]]
    program = _checked(nvrtc.nvrtcCreateProgram(source.encode(), b"score.cu", 0, [], []))
    try:
        if nvrtc.nvrtcCompileProgram(program, len(given), given)[0] != nvrtc.nvrtcResult.NVRTC_SUCCESS:
            said = b" " * _checked(nvrtc.nvrtcGetProgramLogSize(program))
            _checked(nvrtc.nvrtcGetProgramLog(program, said))
            log = said.decode().strip("\0 \n")
            raise ModelArtifactError(f"score.cu for {architecture}: expected to compile, found {log}")
        code: bytes = b" " * _checked(nvrtc.nvrtcGetCUBINSize(program))
        _checked(nvrtc.nvrtcGetCUBIN(program, code))
        return code
    finally:
        _checked(nvrtc.nvrtcDestroyProgram(program))


class Program:
    """A compiled source, loaded on one device of torch's."""

    def __init__(self, source: str, macros: Mapping[str, int], device: torch.device) -> None:
        major, minor = torch.cuda.get_device_capability(device)
        code = compiled(source, macros, f"sm_{major}{minor}")
        self._device = device
        with torch.cuda.device(device):
            torch.cuda.synchronize()  # torch's context is the thread's from here on
            self._module = _checked(driver.cuModuleLoadData(code))  # stays as long as the process

    def launch(self, name: str, grid: tuple[int, int], threads: int, arguments: ctypes.Structure) -> None:
        """Queue one call on torch's current stream; `arguments` is its only parameter, by value."""
        pointer = ctypes.c_void_p(ctypes.addressof(arguments))
        with torch.cuda.device(self._device):
            function = _checked(driver.cuModuleGetFunction(self._module, name.encode()))
            stream = torch.cuda.current_stream().cuda_stream
            sizes = (*grid, 1, threads, 1, 1, 0)  # blocks, threads, and no shared memory but the source's own
            _checked(driver.cuLaunchKernel(function, *sizes, stream, ctypes.addressof(pointer), 0))


def _checked(answer: tuple[Any, ...]) -> Any:
    """What a call gave; raises RetryableError with the code where it failed."""
    code, *values = answer
    if int(code) != 0:
        raise RetryableError(f"CUDA: expected success, found {code!r}")
    return values[0] if values else None
