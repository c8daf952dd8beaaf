"""The notebooks' figures: one style, and the drawings that several of them use."""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import matplotlib as mpl
import matplotlib.pyplot as plt
from cycler import cycler

INK = "#222222"
BLUE, ORANGE, GREEN, RED, GREY = "#3b6fb6", "#e08a2c", "#3f9b63", "#c2453d", "#b8bcc2"
CYCLE = (BLUE, ORANGE, GREEN, RED, "#7a5ea8", "#5b9aa8")


def style() -> None:
    """Set the common style; call it once at the top of a notebook."""
    mpl.rcParams.update(
        {
            "figure.figsize": (8, 3.2),
            "figure.dpi": 90,
            "savefig.bbox": "tight",
            "font.size": 10,
            "axes.spines.top": False,
            "axes.spines.right": False,
            "axes.prop_cycle": cycler(color=CYCLE),
            "axes.grid": False,
            "text.color": INK,
            "axes.labelcolor": INK,
        }
    )


def cell(axes: Any, x: float, y: float, color: str, text: str = "") -> None:
    """One box of a grid, its lower left corner at (x, y)."""
    axes.add_patch(mpl.patches.Rectangle((x, y), 0.94, 0.9, facecolor=color, lw=0))
    if text:
        axes.text(x + 0.47, y + 0.45, text, ha="center", va="center", fontsize=8)


def cells(
    axes: Any, rows: int, columns: int, color: Callable[[int, int], str], text: Callable[[int, int], str] | None = None
) -> None:
    """Draw a grid of rows x columns boxes, row 0 on top: tiles, pages, lanes, cache blocks."""
    for row in range(rows):
        for column in range(columns):
            cell(axes, column, rows - 1 - row, color(row, column), text(row, column) if text is not None else "")
    axes.set_xlim(-0.1, columns + 0.1)
    axes.set_ylim(-0.1, rows + 0.1)
    axes.set_aspect("equal")
    axes.axis("off")


def arrow(axes: Any, start: tuple[float, float], end: tuple[float, float], text: str = "") -> None:
    """An arrow, with a word beside its middle."""
    axes.annotate("", xy=end, xytext=start, arrowprops={"arrowstyle": "->", "color": INK, "lw": 1.2})
    if text:
        axes.text((start[0] + end[0]) / 2, (start[1] + end[1]) / 2 + 0.12, text, ha="center", fontsize=9)


def box(axes: Any, x: float, y: float, width: float, height: float, text: str, color: str) -> None:
    """A box with a text, centred at (x, y): a step of a flow, a memory, a unit."""
    left, bottom = x - width / 2, y - height / 2
    tint = tuple(0.5 + 0.5 * part for part in mpl.colors.to_rgb(color))  # dark text stays legible
    axes.add_patch(mpl.patches.Rectangle((left, bottom), width, height, facecolor=tint, edgecolor=color, zorder=2))
    axes.text(x, y, text, ha="center", va="center", fontsize=9, zorder=3)


def frame(axes: Any, horizontal: tuple[float, float], vertical: tuple[float, float]) -> None:
    """The limits of a drawing, without axes."""
    axes.set_xlim(*horizontal)
    axes.set_ylim(*vertical)
    axes.axis("off")


def page_tables(
    axes: Any, requests: Mapping[str, tuple[Sequence[int], int]], pages: int, page_size: int, empty: str = "#eceef0"
) -> None:
    """Draw page tables above a pool of pages with arrows between them. requests: name to (pages, tokens held)."""

    def box(x: float, y: float, width: float, color: str, text: str) -> None:
        axes.add_patch(mpl.patches.Rectangle((x, y), width, 0.55, facecolor=color, lw=0))
        axes.text(x + width / 2, y + 0.27, text, ha="center", va="center", fontsize=8)

    slot = 1.8 / page_size
    for page in range(pages):
        axes.text(2 * page + 0.9, -0.35, f"page {page}", ha="center", fontsize=8)
        for offset in range(page_size):
            box(2 * page + slot * offset, 0, slot - 0.03, empty, "")
    room = 2 * pages / len(requests)
    for number, (name, (table, count)) in enumerate(requests.items()):
        color, left = CYCLE[number % len(CYCLE)], room * (number + 0.5) - len(table) / 2
        axes.text(left, 2.75, f"page table of {name}, {count} tokens", fontsize=9)
        for entry, page in enumerate(table):
            box(left + entry, 2.05, 0.94, color, str(page))
            arrow(axes, (left + entry + 0.47, 2.0), (2 * page + 0.9, 0.6))
            for offset in range(min(page_size, count - page_size * entry)):
                box(2 * page + slot * offset, 0, slot - 0.03, color, f"{name}{page_size * entry + offset}")
    axes.set(xlim=(0, 2 * pages), ylim=(-0.6, 3.1))
    axes.axis("off")


def ladder(axes: Any, seconds: Mapping[str, float], floor: float) -> None:
    """Horizontal bars of the time of each version, with the floor that this machine sets; times in seconds."""
    names = list(seconds)
    axes.barh(names, [1e3 * t for t in seconds.values()], color=BLUE, height=0.6)
    axes.axvline(1e3 * floor, color=RED, lw=1.5)
    axes.text(1e3 * floor, -0.5, " floor", color=RED, va="bottom")
    for row, t in enumerate(seconds.values()):
        axes.text(1e3 * t, row, f" {1e3 * t:.2f} ms, {100 * floor / t:.0f}% of the ceiling", va="center")
    axes.set_xscale("log")
    axes.set_xlim(5e2 * min([floor, *seconds.values()]), 12e3 * max(seconds.values()))
    axes.invert_yaxis()
    axes.set_xlabel("milliseconds (log)")


def roofline(axes: Any, bandwidth: float, flops: float, points: Mapping[str, tuple[float, float]]) -> None:
    """The roofline of a machine (bytes/s, FLOP/s) and points (FLOPs per byte, FLOP/s reached)."""
    ridge = flops / bandwidth
    span = [min([0.05, *(x for x, _ in points.values())]) / 2, max([4 * ridge, *(2 * x for x, _ in points.values())])]
    axes.plot([span[0], ridge, span[1]], [span[0] * bandwidth / 1e9, flops / 1e9, flops / 1e9], color=INK)
    for number, (name, (intensity, reached)) in enumerate(points.items()):
        axes.plot(intensity, reached / 1e9, "o", color=CYCLE[number % len(CYCLE)])
        axes.annotate(name, (intensity, reached / 1e9), textcoords="offset points", xytext=(6, -4), fontsize=9)
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.set_xlabel("FLOPs per byte")
    axes.set_ylabel("GFLOP/s")


def size_ticks(axes: Any, sizes: Sequence[int]) -> None:
    """Mark these sizes, and no others, on a logarithmic x axis."""
    axes.set_xticks(sizes, [f"{size:,}" for size in sizes])
    axes.set_xticks([], minor=True)


def stacked(axes: Any, labels: Sequence[str], parts: Mapping[str, Sequence[float]]) -> None:
    """Horizontal stacked bars: one bar a label, one colour a part."""
    left = [0.0] * len(labels)
    for number, (name, values) in enumerate(parts.items()):
        axes.barh(labels, values, left=left, color=CYCLE[number % len(CYCLE)], label=name, height=0.6)
        left = [a + b for a, b in zip(left, values, strict=True)]
    axes.invert_yaxis()
    axes.legend(frameon=False, ncols=len(parts), loc="upper center", bbox_to_anchor=(0.5, 1.2))


def gantt(axes: Any, bars: Sequence[tuple[int, float, float, str]], names: Mapping[str, str]) -> None:
    """Bars (row, start, length, colour) over time, row 0 on top, and a legend that names the colours."""
    for color in names:
        for row in {bar[0] for bar in bars if bar[3] == color}:
            spans = [(start, length) for r, start, length, c in bars if r == row and c == color]
            axes.broken_barh(spans, (row - 0.4, 0.8), facecolors=color, lw=0)
    axes.yaxis.set_major_locator(mpl.ticker.MaxNLocator(integer=True))
    axes.set_ylim(max(bar[0] for bar in bars) + 0.6, -0.6)
    patches = [mpl.patches.Patch(color=color, label=name) for color, name in names.items()]
    axes.legend(handles=patches, frameon=False, ncols=len(names), loc="lower left", bbox_to_anchor=(0, 1))


def new(width: float = 8, height: float = 3.2) -> tuple[Any, Any]:
    """A figure and its axes."""
    figure, axes = plt.subplots(figsize=(width, height))
    return figure, axes


def row(widths: Sequence[float], height: float = 3.2) -> tuple[Any, Any]:
    """A figure with axes side by side, of the given widths in inches."""
    figure, axes = plt.subplots(
        1, len(widths), figsize=(sum(widths), height), width_ratios=list(widths), layout="constrained"
    )
    return figure, axes


def turns(axes: Any, angles: Sequence[tuple[float, str]]) -> None:
    """A unit circle with an arrow at each (angle in radians, label): a pair of numbers at several positions."""
    axes.add_patch(mpl.patches.Circle((0, 0), 1, fill=False, color=GREY))
    for number, (angle, label) in enumerate(angles):
        x, y = math.cos(angle), math.sin(angle)
        axes.annotate(
            "", xy=(x, y), xytext=(0, 0), arrowprops={"arrowstyle": "->", "color": CYCLE[number % 6], "lw": 1.8}
        )
        side = "left" if x > 0.1 else "right" if x < -0.1 else "center"
        axes.text(1.12 * x, 1.12 * y, label, ha=side, va="bottom" if y > 0.9 else "center", fontsize=9)
    axes.set_xlim(-2.2, 2.2)
    axes.set_ylim(-1.2, 1.4)
    axes.set_aspect("equal")
    axes.axis("off")
