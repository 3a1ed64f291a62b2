"""The report's pictures: small SVG, drawn without a display, coloured by the page's own style.

matplotlib writes colours into the file, which would be wrong in a dark page. So charts are drawn in stand-in
colours, one a role, and each is replaced by the page's variable of that role. Text stays text, in the page's font.
"""

import io
import re
from collections.abc import Mapping, Sequence
from datetime import date
from typing import Any

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator

from jobs.accuracy import MEASURES, Estimate, Evaluation
from jobs.list_facts import Scores, Share

INK, MUTED, LINE, MODEL, PEER = "#a1b2c1", "#a1b2c2", "#a1b2c3", "#a1b2c4", "#a1b2c5"
VARIABLES = {INK: "--ink", MUTED: "--muted", LINE: "--line", MODEL: "--model", PEER: "--peer"}
WIDTH, HEIGHT = 5.2, 2.7  # inches at 72 points: near a phone's width, so that text stays readable there

# Of no use inside a page: descriptions, styles for everything, names that would repeat, fixed sizes, namespaces.
UNWANTED = (
    r"<metadata>.*?</metadata>",
    r"<style.*?</style>",
    r'(?<=<g) id="[^"]*"',
    r' (?:width|height)="[\d.]+pt"',
    r' xmlns(?::\w+)?="[^"]*"',
    r"'DejaVu Sans', ",
)

STYLE: dict[Any, Any] = {
    "svg.fonttype": "none",
    "svg.hashsalt": "lime",  # the same figures give the same bytes
    "font.family": ["sans-serif"],
    "font.sans-serif": ["DejaVu Sans"],  # measured with matplotlib's own font, shown in the page's
    "font.size": 10.0,
    "text.color": INK,
    "axes.edgecolor": LINE,
    "axes.labelcolor": MUTED,
    "axes.facecolor": "none",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "xtick.color": LINE,
    "ytick.color": LINE,
    "xtick.labelcolor": MUTED,
    "ytick.labelcolor": MUTED,
    "figure.facecolor": "none",
    "lines.linewidth": 1.8,
}


def trend(evaluations: Sequence[Evaluation], model: Sequence[Estimate], peer: Sequence[Estimate]) -> str:
    """NDCG@10 of each night as dots, of all nights up to then as lines, with the model's interval where it means
    something. The three are of equal length.
    """
    nights = [e.night.toordinal() for e in evaluations]
    with matplotlib.rc_context(STYLE):
        figure, axes = _figure()
        most = max(e.users for e in evaluations)
        sizes = [6 + 34 * e.users / most for e in evaluations]
        for who, colour, line in (("popularity", PEER, peer), ("model", MODEL, model)):
            axes.scatter(nights, [e.mean(who, "ndcg") for e in evaluations], sizes, colour, alpha=0.3, linewidths=0)
            axes.plot(nights, [estimate.mean for estimate in line], color=colour)
        sure = [(night, e) for night, e in zip(nights, model, strict=True) if e.enough]
        axes.fill_between(
            [night for night, _ in sure],
            [max(e.mean - e.margin, 0.0) for _, e in sure],
            [e.mean + e.margin for _, e in sure],
            color=MODEL,
            alpha=0.14,
            linewidth=0,
        )
        _end_labels(axes, nights[-1], {"model": (model[-1].mean, MODEL), "popularity": (peer[-1].mean, PEER)})
        axes.set_ylim(bottom=0.0)
        _few_dates(axes, nights)
        axes.yaxis.set_major_locator(MaxNLocator(4))
        return _svg(figure)


def intervals(estimates: Mapping[str, Mapping[str, Estimate]]) -> str:
    """Per measure a panel: the means of model and popularity with their 95 % intervals. `[measure][who]`."""
    with matplotlib.rc_context(STYLE):
        figure = Figure((WIDTH, HEIGHT), layout="constrained")
        panels = figure.subplots(len(estimates), 1, squeeze=False)[:, 0]
        for axes, (measure, by_who) in zip(panels, estimates.items(), strict=True):
            for place, (who, colour) in enumerate((("popularity", PEER), ("model", MODEL))):
                found = by_who[who]
                axes.errorbar(found.mean, place, xerr=found.margin, fmt="o", color=colour, elinewidth=2.4)
                _note(axes, f"{found.mean:.3f}", (found.mean, place), (0, 12))
            axes.set_title(MEASURES[measure], loc="left", fontsize=10, color=MUTED)
            axes.set_yticks([0, 1], ["popularity", "model"])
            axes.set_ylim(-0.5, 1.85)
            axes.set_xlim(0.0, 1.08 * max(e.mean + e.margin for e in by_who.values()) or 1.0)
            axes.xaxis.set_major_locator(MaxNLocator(5))
            axes.spines["left"].set_visible(False)
            axes.tick_params(axis="y", length=0)
        return _svg(figure)


def score_histogram(scores: Scores) -> str:
    """Which share of all places in lists carries which score."""
    with matplotlib.rc_context(STYLE):
        figure, axes = _figure()
        width = scores.edges[1] - scores.edges[0]
        heights = [count / sum(scores.counts) for count in scores.counts]
        axes.bar(scores.edges[:-1], heights, width * 0.9, align="edge", color=MODEL)
        axes.set_xlabel("score")
        _percent(axes)
        return _svg(figure)


def score_by_rank(scores: Scores) -> str:
    """The middle score at each rank, and the band that holds four users of five."""
    with matplotlib.rc_context(STYLE):
        figure, axes = _figure()
        ranks = [row.rank for row in scores.by_rank]
        low, high = [row.low for row in scores.by_rank], [row.high for row in scores.by_rank]
        axes.fill_between(ranks, low, high, color=MODEL, alpha=0.18, linewidth=0)
        axes.plot(ranks, [row.middle for row in scores.by_rank], color=MODEL)
        axes.set_xlabel("rank in the list")
        axes.xaxis.set_major_locator(MaxNLocator(6, integer=True))
        axes.yaxis.set_major_locator(MaxNLocator(4))
        axes.set_xlim(min(ranks), max(max(ranks), min(ranks) + 1))
        return _svg(figure)


def concentration(parts: Sequence[Share]) -> str:
    """Each part of the catalogue by popularity: its share of the events beside its share of the lists."""
    with matplotlib.rc_context(STYLE):
        figure, axes = _figure()
        axes.grid(visible=False)
        rows = range(len(parts))
        bars = (([p.places for p in parts], MODEL, -0.2), ([p.events for p in parts], PEER, 0.2))
        for values, colour, offset in bars:
            axes.barh([row + offset for row in rows], values, 0.36, color=colour)
            for row, value in zip(rows, values, strict=True):
                _note(axes, percent(round(value, 2)), (value, row + offset), (4, 0))
        axes.set_yticks(list(rows), [_part(part) for part in parts])
        axes.invert_yaxis()
        axes.set_xlim(0.0, 1.15 * max([p.places for p in parts] + [p.events for p in parts]) or 1.0)
        axes.xaxis.set_visible(False)
        axes.spines["bottom"].set_visible(False)
        axes.tick_params(axis="y", length=0)
        return _svg(figure)


def overlap(kept: Mapping[int, int], k: int) -> str:
    """How many lists kept how many of their items since the night before."""
    with matplotlib.rc_context(STYLE):
        figure, axes = _figure()
        total = max(sum(kept.values()), 1)
        axes.bar(range(k + 1), [kept.get(n, 0) / total for n in range(k + 1)], 0.82, color=MODEL)
        axes.set_xlabel(f"items kept of {k}")
        axes.xaxis.set_major_locator(MaxNLocator(6, integer=True))
        _percent(axes)
        return _svg(figure)


def _figure() -> tuple[Figure, Axes]:
    """One empty chart of the common size."""
    figure = Figure((WIDTH, HEIGHT), layout="constrained")
    axes = figure.subplots()
    axes.grid(axis="y", color=LINE, linewidth=0.7)
    axes.set_axisbelow(True)
    return figure, axes


def percent(share: float) -> str:
    """A share for people: `12 %`, `2.5 %`."""
    return (
        f"{100 * share:.3g}\N{NARROW NO-BREAK SPACE}%"
        if share < 0.1
        else f"{100 * share:.0f}\N{NARROW NO-BREAK SPACE}%"
    )


def _part(part: Share) -> str:
    """What a part of the catalogue is called."""
    end = percent(part.end)
    return f"{percent(part.start)} to {end}" if part.start else f"top {end}"


def _percent(axes: Axes) -> None:
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: percent(value)))
    axes.yaxis.set_major_locator(MaxNLocator(5, steps=[1, 2, 5, 10]))


def _few_dates(axes: Axes, nights: Sequence[int]) -> None:
    """The first and the last night, and the one between where there is room."""
    chosen = sorted({nights[0], nights[len(nights) // 2], nights[-1]})
    dates = [date.fromordinal(night) for night in chosen]
    axes.set_xticks(chosen, [f"{day.day} {day:%b}" for day in dates])


def _end_labels(axes: Axes, at: int, lines: Mapping[str, tuple[float, str]]) -> None:
    """Names at the ends of lines, in place of a legend; the upper line's name above, so that they never touch."""
    upper = max(lines, key=lambda name: lines[name][0])
    for name, (value, colour) in lines.items():
        _note(axes, name, (at, value), (6, 7 if name == upper else -7), colour)


def _note(axes: Axes, text: str, at: tuple[float, float], offset: tuple[int, int], colour: str = INK) -> None:
    """Words beside a point, or above it where `offset` (in points) goes straight up."""
    side = "left" if offset[0] else "center"
    axes.annotate(text, at, offset, textcoords="offset points", va="center", ha=side, color=colour)


def _svg(figure: Figure) -> str:
    """The figure as an inline element: no prologue, no ids, page colours, page font."""
    file = io.StringIO()
    figure.savefig(file, format="svg", metadata={"Date": None, "Creator": None, "Format": None, "Type": None})
    svg = file.getvalue()
    svg = svg[svg.index("<svg") :]
    for unwanted in UNWANTED:
        svg = re.sub(unwanted, "", svg, flags=re.DOTALL)
    svg = (
        re.sub(r"[ \n]+", " ", svg)
        .replace("xlink:href", "href")
        .replace("font-family: sans-serif", "font-family: inherit")
    )
    for colour, variable in VARIABLES.items():
        svg = svg.replace(colour, f"var({variable})")
    return svg.replace("> <", "><").strip()
