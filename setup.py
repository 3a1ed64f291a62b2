"""Compiles the scoring kernel for every processor it has a build for; everything else is in setup.cfg.

The compiler is clang as the PyPI package `ziglang` brings it: a build requirement that cross-compiles from any machine,
so one wheel serves x86-64 and aarch64 and no user needs a compiler.
"""

import os
import subprocess
import sys
from pathlib import Path

from setuptools import Command, Distribution, setup
from setuptools.command.bdist_wheel import bdist_wheel
from setuptools.command.build import build

GLIBC = "2.17"  # the floor: what manylinux2014 stands for
BUILDS = {  # file name -> target and processor; lime_model/scoring/library.py chooses among them
    "lime-x86_64-amx": ("x86_64-linux-gnu", "sapphirerapids"),
    "lime-x86_64-avx512": ("x86_64-linux-gnu", "x86_64_v4"),
    "lime-x86_64-avx2": ("x86_64-linux-gnu", "x86_64_v3"),
    "lime-x86_64-portable": ("x86_64-linux-gnu", "x86_64"),
    "lime-aarch64-neon": ("aarch64-linux-gnu", "generic"),
}
# fp-contract: the written order of operations is the arithmetic, the compiler adds no fused one of its own;
# NDEBUG: assertions score every pair that is only estimated, which is for tests
FLAGS = [
    "-std=c11",
    "-O3",
    "-DNDEBUG",
    "-ffp-contract=off",
    "-fno-math-errno",
    "-fPIC",
    "-shared",
    "-s",
    "-Wall",
    "-Wextra",
    "-Werror",
]
NATIVE = Path("lime_model/scoring/native")
LIB = Path("lime_model/scoring/lib")


class BuildKernels(Command):
    """A subcommand of `build`: native/*.c -> lib/*.so, in the source tree for an editable install."""

    description = "compile the scoring kernel"
    user_options: list[tuple[str, str | None, str]] = []
    editable_mode = False
    build_lib: str | None = None

    def initialize_options(self) -> None:
        """Nothing to choose."""

    def finalize_options(self) -> None:
        """Where `build` puts things."""
        self.set_undefined_options("build_py", ("build_lib", "build_lib"))

    def run(self) -> None:
        """Compile every build; raises CalledProcessError where the compiler refuses."""
        folder = LIB if self.editable_mode else Path(self.build_lib or "") / LIB
        folder.mkdir(parents=True, exist_ok=True)
        cache = Path("build/zig").absolute()  # the compiler hangs where its cache is not writable
        env = {**os.environ, "ZIG_GLOBAL_CACHE_DIR": str(cache), "ZIG_LOCAL_CACHE_DIR": str(cache)}
        sources = [str(path) for path in sorted(NATIVE.glob("*.c"))]
        for name, (target, processor) in BUILDS.items():
            machine = ["-target", f"{target}.{GLIBC}", f"-mcpu={processor}"]
            output = ["-o", str(folder / f"{name}.so")]
            subprocess.run(
                [sys.executable, "-m", "ziglang", "cc", *machine, *FLAGS, *sources, *output], env=env, check=True
            )

    def get_source_files(self) -> list[str]:
        """For the source distribution."""
        return [str(path) for path in sorted(NATIVE.iterdir())]

    def get_outputs(self) -> list[str]:
        """What a wheel gets."""
        return [str(Path(self.build_lib or "") / LIB / f"{name}.so") for name in BUILDS]

    def get_output_mapping(self) -> dict[str, str]:
        """No output is a copy of a source."""
        return {}


class Compiled(Distribution):
    """Says that there are compiled parts, which setuptools only sees where they are Python extensions."""

    def has_ext_modules(self) -> bool:
        """The packages go to the root of the wheel, so that it serves as a zip on Python's path."""
        return True


class PlatformWheel(bdist_wheel):
    """Any Python 3, the platforms that the kernel is built for."""

    def get_tag(self) -> tuple[str, str, str]:
        """One wheel with the builds of both processors."""
        floor = GLIBC.replace(".", "_")
        return "py3", "none", f"manylinux_{floor}_x86_64.manylinux_{floor}_aarch64"


if __name__ == "__main__":  # the tests read BUILDS and FLAGS
    build.sub_commands.append(("build_kernels", None))
    setup(distclass=Compiled, cmdclass={"build_kernels": BuildKernels, "bdist_wheel": PlatformWheel})
