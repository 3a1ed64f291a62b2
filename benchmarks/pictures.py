"""Pictures of the experiments: lines over one axis, as SVG that diffs well and needs nothing else."""

import argparse
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import cycle
from pathlib import Path

import matplotlib as mpl
from matplotlib.figure import Figure as Canvas
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

COLOURS = ("#1f6f8b", "#c8553d", "#6a994e", "#7b5ea7", "#b08900", "#5c677d", "#2b2d42")


@dataclass(frozen=True)
class Lines:
    """One panel: named lines of (x, y), drawn over a linear or a logarithmic axis."""

    title: str
    x: str
    y: str
    lines: Mapping[str, Sequence[tuple[float, float]]]
    log_x: bool = True
    log_y: bool = True


def add_picture(arguments: argparse.ArgumentParser) -> None:
    """The flag that asks for `draw`."""
    arguments.add_argument("--picture", type=Path, metavar="FILE", help="draw the curves there, as SVG")


def draw(panels: Sequence[Lines], file: Path) -> None:
    """The panels side by side; the same figures make the same bytes."""
    canvas = Canvas(figsize=(5.2 * len(panels), 3.8), layout="constrained")
    for panel, axes in zip(panels, canvas.subplots(1, len(panels), squeeze=False)[0], strict=True):
        for (name, points), colour in zip(panel.lines.items(), cycle(COLOURS), strict=False):
            axes.plot(*zip(*points, strict=True), marker="o", markersize=3.5, color=colour, label=name)
        if panel.log_x:  # experiments step by factors of two; decades alone would leave an axis bare
            axes.set_xscale("log", base=2)
        if panel.log_y:
            axes.set_yscale("log")
            axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        for axis in (axes.xaxis, axes.yaxis):
            axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,g}"))
            axis.set_minor_formatter(NullFormatter())
        axes.set_title(panel.title, fontsize=11, loc="left")
        axes.set_xlabel(panel.x)
        axes.set_ylabel(panel.y)
        axes.spines[["top", "right"]].set_visible(False)
        axes.grid(alpha=0.25)
        axes.legend(frameon=False, fontsize=9)
    file.parent.mkdir(parents=True, exist_ok=True)
    with mpl.rc_context({"svg.hashsalt": "lime", "svg.fonttype": "none"}):
        canvas.savefig(file, format="svg", metadata={"Date": None})
