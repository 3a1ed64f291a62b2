"""What all benchmark programs share: arguments, the machine, the table, the JSON."""

import argparse
import json
import os
import platform
import sys
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from schemas.errors import ConfigError


@dataclass(frozen=True)
class Figure:
    """One claim is one figure; its name is stable, shares are fractions."""

    claim: str
    value: float
    unit: str = ""
    target: float | None = None
    spread: Mapping[str, Any] | None = None

    def to_json(self) -> dict[str, Any]:
        """Keys that say nothing are left out, the target is kept even where there is none."""
        values = asdict(self)
        if self.spread is None:
            del values["spread"]
        return values


def parser(name: str, description: str) -> argparse.ArgumentParser:
    """The two flags that every benchmark has."""
    arguments = argparse.ArgumentParser(prog=f"python -m benchmarks.{name}", description=description)
    arguments.add_argument("--quick", action="store_true", help="a short run that only shows that it works")
    arguments.add_argument("--json", type=Path, metavar="FILE", help="write the figures there too")
    return arguments


def read_toml(file: Path) -> dict[str, Any]:
    """A settings file; raises ConfigError where it is none."""
    try:
        return tomllib.loads(file.read_text("utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise ConfigError(f"{file}: expected a TOML file, found {error}") from error


def machine() -> dict[str, Any]:
    """What a reader needs to judge a time."""
    return {
        "cpu": _cpu_name(),
        "cores": len(os.sched_getaffinity(0)),
        "memory_gb": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9, 1),
        "capability": torch.backends.cpu.get_cpu_capability(),
        "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
        "torch": torch.__version__,
        "torch_threads": torch.get_num_threads(),
        "python": platform.python_version(),
        "system": platform.system(),
    }


def chip(device: torch.device) -> str:
    """The name of what computes."""
    return torch.cuda.get_device_name(device) if device.type == "cuda" else _cpu_name()


def _cpu_name() -> str:
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


def say(line: str) -> None:
    """Print at once: a benchmark runs for minutes and is watched."""
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


def present(title: str, figures: Sequence[Figure], json_file: Path | None) -> None:
    """The table, the machine, and the same as JSON."""
    found = machine()
    say(f"\n{title}")
    say("\n".join(table([("claim", "value", "target", "spread"), *(_row(figure) for figure in figures)])))
    say("machine: " + ", ".join(f"{key} {value}" for key, value in found.items()))
    if json_file is not None:
        content = {"machine": found, "figures": [figure.to_json() for figure in figures]}
        json_file.parent.mkdir(parents=True, exist_ok=True)
        json_file.write_text(json.dumps(content, indent=1) + "\n")


def table(rows: Sequence[tuple[str, ...]]) -> list[str]:
    """Rows as aligned lines, the first one underlined."""
    widths = [max(len(cell) for cell in column) for column in zip(*rows, strict=True)]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    return [lines[0], "  ".join("-" * width for width in widths), *lines[1:]]


def _row(figure: Figure) -> tuple[str, ...]:
    spread = ", ".join(f"{key} {_text(value)}" for key, value in (figure.spread or {}).items())
    target = "" if figure.target is None else f"{figure.target:g}"
    return figure.claim, f"{figure.value:.4g} {figure.unit}".strip(), target, spread


def _text(value: object) -> str:
    if isinstance(value, list):
        return "[" + " ".join(_text(part) for part in value) + "]"
    return f"{value:.4g}" if isinstance(value, float) else str(value)
