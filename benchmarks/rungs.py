"""The rungs of a ladder: one version of a kernel timed on one case, as a table and as a roofline plot."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.table import microseconds, table

PEER = "PyTorch"


@dataclass(frozen=True, slots=True)
class Rung:
    """One version on one case; `floor` is the time below which this machine cannot go, `error` why there is no time."""

    step: str
    gain: str
    case: str
    seconds: float | None
    flops: float
    nbytes: float
    floor: float
    error: str = ""


def report(rungs: Sequence[Rung]) -> str:
    """A table for each case: the gain over the step before, and the share of the limit. Errors follow the tables."""
    parts = []
    for case in dict.fromkeys(rung.case for rung in rungs):
        lines = []
        before: float | None = None
        for rung in rungs:
            if rung.case != case:
                continue
            if rung.seconds is None:
                lines.append((rung.step, rung.gain, "failed", "-", "-", "-", "-"))
                continue
            gain = "-" if before is None else f"{before / rung.seconds:.1f}x"
            lines.append(
                (
                    rung.step,
                    rung.gain,
                    microseconds(rung.seconds),
                    gain,
                    f"{rung.nbytes / rung.seconds / 1e9:.1f}",
                    f"{rung.flops / rung.seconds / 1e9:.0f}",
                    f"{rung.floor / rung.seconds:.0%}",
                )
            )
            before = rung.seconds
        header = (case, "what is new", "time", "gain", "GB/s", "GFLOP/s", "of the limit")
        parts.append(table(header, lines))
    parts += [f"{rung.step}, {rung.case}: {rung.error}" for rung in rungs if rung.error]
    return "\n\n".join(parts)


def plot(rungs: Sequence[Rung], bandwidth: float, peak: float, title: str, file: Path) -> None:
    """Draw the roofline into `file` (PNG, SVG or PDF): `bandwidth` in bytes, `peak` in operations a second.

    Kernels that compute little stand far to the left, where bandwidth is the roof. Needs matplotlib.
    """
    from matplotlib.figure import Figure
    from matplotlib.ticker import NullFormatter

    timed = [rung for rung in rungs if rung.seconds is not None and rung.flops > 0]
    figure = Figure(figsize=(8.5, 5), layout="constrained")
    axes = figure.subplots()
    intensity = [rung.flops / rung.nbytes for rung in timed] or [1.0]
    ridge = peak / bandwidth
    low, high = min(*intensity, ridge) / 4, max(*intensity, ridge) * 4
    axes.plot([low, ridge, high], [low * bandwidth / 1e9, peak / 1e9, peak / 1e9], color="black", label="limit")
    for number, name in enumerate(dict.fromkeys(rung.step for rung in timed)):
        mine = [rung for rung in timed if rung.step == name]
        axes.plot(
            [rung.flops / rung.nbytes for rung in mine],
            [rung.flops / rung.seconds / 1e9 for rung in mine if rung.seconds],
            marker="x" if name == PEER else "o",
            linestyle="none" if len({round(math.log(i), 3) for i in intensity}) == 1 else ":" if name == PEER else "-",
            color="black" if name == PEER else f"C{number % 10}",
            label=name,
        )
    axes.set(xscale="log", yscale="log", title=title, xlim=(low, high))
    axes.set(xlabel="operations for each byte that must move", ylabel="GFLOP/s")
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.yaxis.set_minor_formatter(NullFormatter())
    axes.grid(which="both", alpha=0.2)
    axes.legend(loc="center left", bbox_to_anchor=(1.0, 0.5), frameon=False)
    figure.savefig(file, dpi=120)
