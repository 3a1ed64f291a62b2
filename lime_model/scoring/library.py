"""The compiled kernel: which build this machine runs, and how it is opened.

The wheel carries every build, so neither a user's machine nor an executor needs a compiler. All builds compute the same
bits; the best that the processor runs is taken.
"""

import ctypes
import hashlib
import platform
import tempfile
from functools import lru_cache
from importlib.resources import files
from importlib.resources.abc import Traversable
from pathlib import Path

import torch

from lime_model.host_folder import private_folder
from schemas.errors import ModelArtifactError

_X86 = {"AVX512": ("avx512", "avx2", "portable"), "AVX2": ("avx2", "portable")}


def runnable() -> tuple[str, ...]:
    """Names of the builds that this processor runs, best first."""
    machine = platform.machine()
    if machine != "x86_64":
        return ("neon",) if machine == "aarch64" else ()
    names = _X86.get(torch.backends.cpu.get_cpu_capability(), ("portable",))
    amx = names[0] == "avx512" and torch.cpu.get_capabilities().get("amx_bf16", False)
    return ("amx", *names) if amx else names


@lru_cache(maxsize=1)
def carried() -> tuple[str, ...]:
    """Names of the builds that are installed and that the operating system lets run here, best first."""
    installed = (name for name in runnable() if _resource(name).is_file())
    return tuple(name for name in installed if name != "amx" or _opened(name).lime_start())


def open_library(name: str) -> ctypes.CDLL:
    """Open a build; raises ModelArtifactError where it can't be opened, or may not run."""
    library = _opened(name)
    if not library.lime_start():  # before anything else of it: a process gets AMX's registers when it asks
        raise ModelArtifactError(f"kernel {name}: expected to be let run, found that the operating system refuses")
    return library


@lru_cache(maxsize=8)
def _opened(name: str) -> ctypes.CDLL:
    resource = _resource(name)
    try:
        path = resource if isinstance(resource, Path) else _unpacked(resource)
        return ctypes.CDLL(str(path))
    except OSError as error:
        raise ModelArtifactError(f"kernel {name}: expected a library for this machine, found {error}") from error


def _resource(name: str) -> Traversable:
    return files("lime_model.scoring") / "lib" / f"lime-{platform.machine()}-{name}.so"


def _unpacked(resource: Traversable) -> Path:
    """A library can't be opened inside a zip: copied once a host and user, under its digest, in one rename."""
    content = resource.read_bytes()
    folder = private_folder("kernel")
    path = folder / f"{hashlib.sha256(content).hexdigest()}.so"
    if not path.is_file():
        with tempfile.NamedTemporaryFile(dir=folder, delete=False) as file:
            file.write(content)
        Path(file.name).replace(path)
    return path
