"""A night under a disk and a clock that the harness sets: `disturbed.c`, compiled, and the state that it reads."""

import os
import struct
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

SOURCE = Path(__file__).with_name("disturbed.c")
DAY = 86_400


class Surroundings:
    """What processes with `environment` believe of their disk, which is the folder `disk`, and of their clock."""

    def __init__(self, folder: Path, disk: Path) -> None:
        folder.mkdir(exist_ok=True)
        self._library, self._state, self._disk = folder / "disturbed.so", folder / "state", disk
        self._set()
        zig = [sys.executable, "-m", "ziglang", "cc", "-std=c11", "-O2", "-fPIC", "-shared"]
        cache = {f"ZIG_{kind}_CACHE_DIR": str(folder / "zig") for kind in ("GLOBAL", "LOCAL")}
        subprocess.run([*zig, str(SOURCE), "-o", str(self._library)], env={**os.environ, **cache}, check=True)

    @property
    def environment(self) -> Mapping[str, str]:
        """Of a process that lives in them."""
        names = {"LIME_FAULT_STATE": str(self._state), "LIME_FAULT_DISK": str(self._disk)}
        return {**names, "LD_PRELOAD": str(self._library)}

    @contextmanager
    def normal_again(self) -> Iterator[None]:
        """Whatever is set in this block ends with it."""
        try:
            yield
        finally:
            self._set()

    def fill_disk(self) -> None:
        """From now on every write below the folder fails with ENOSPC."""
        self._set(full=1)

    def move_clock(self, days: int) -> None:
        """From now on the wall clock is that many days ahead."""
        self._set(ahead=days * DAY)

    def _set(self, full: int = 0, ahead: int = 0) -> None:
        """In place: processes have the file mapped."""
        mode = "r+b" if self._state.exists() else "wb"
        with self._state.open(mode) as file:
            file.write(struct.pack("qq", full, ahead))
