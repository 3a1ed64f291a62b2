"""Builds the wheel as `make wheel` and `make zip` do, from a copy of the sources."""

import functools
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).parents[1]
SOURCES = ("jobs", "lime_model", "schemas", "spark-conf", "setup.py", "setup.cfg", "pyproject.toml", "README.md")


@functools.cache
def _kept_folder() -> tempfile.TemporaryDirectory[str]:
    """A folder that goes when the test run ends."""
    return tempfile.TemporaryDirectory(prefix="lime-wheel-")


@functools.cache
def built_wheel() -> Path:
    """The wheel of the present sources; built once a test run."""
    folder = Path(_kept_folder().name)
    for name in SOURCES:
        source, copy = ROOT / name, folder / "sources" / name
        if source.is_dir():
            shutil.copytree(source, copy, ignore=shutil.ignore_patterns("__pycache__", "lib"))
        elif source.exists():
            shutil.copy(source, copy)
    command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation"]
    subprocess.run([*command, "--wheel-dir", folder, folder / "sources"], check=True)
    return next(folder.glob("*.whl"))


@functools.cache
def lime_zip() -> Path:
    """What `make zip` gives: the wheel under the name that PySpark puts on the executors' path."""
    return Path(shutil.copy(built_wheel(), built_wheel().with_name("lime.zip")))
