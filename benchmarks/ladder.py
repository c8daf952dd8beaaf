"""The ladder of a kernel, from the naive version to the engine's: `python -m benchmarks.ladder linear [--plot FILE]`.

Each rung is one gain by itself; the versions stand in kernels/steps/ and are checked by the same tests. The plot is a
roofline: operations a second over operations for each byte, under the limits measured in the same run.
"""

import argparse
import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.ceilings import Ceilings, measure
from benchmarks.linear_cases import Case, in_turn, torch_call
from benchmarks.native import load
from benchmarks.native.linear import available_paths
from benchmarks.table import microseconds, table
from benchmarks.timing import median_seconds


@dataclass(frozen=True, slots=True)
class Rung:
    """One version at one size; `floor` is the time below which this machine cannot go."""

    step: str
    gain: str
    rows: int
    seconds: float
    flops: float
    nbytes: float
    floor: float


LINEAR_STEPS = {
    "naive": "the definition",
    "vector": "16 lanes along K",
    "rows": "4 outputs at once",
    "cores": "all cores",
    "packed": "packed weights, 4 blocks",
    "dot": "bfloat16 dot products",
    "tiles": "6 rows x 4 blocks, prefetch",
}


def linear_step(name: str, case: Case, w: Any) -> np.ndarray[Any, np.dtype[np.float32]]:
    """Returns y [m, n] of one step; w is row-major before step `packed`, packed from there on."""
    y = np.empty((case.m, case.n), np.float32)
    load("linear_steps_native").linear(name, (y.ctypes.data, case.x.ctypes.data, w.ctypes.data, case.m, case.n, case.k))
    return y


def linear_weights(name: str, case: Case) -> list[Any]:
    """The copies of w in the layout that a step reads."""
    packed = list(LINEAR_STEPS).index(name) >= list(LINEAR_STEPS).index("packed")
    return case.packed if packed else case.row_major()


def linear_steps() -> list[str]:
    """The steps that this CPU can run."""
    return [name for name in LINEAR_STEPS if name != "dot" or "dot" in available_paths("bfloat16")]


def linear_ladder(rows: Sequence[int], ceilings: Ceilings, seconds: float) -> list[Rung]:
    """Times every step of linear with the gate and up matrix of SmolLM2 in bfloat16, and PyTorch if installed."""
    rungs = []
    for m in rows:
        case = Case(m, 3072, 576, "bfloat16")
        size = (case.flops, case.nbytes, case.floor(ceilings))

        def time(call: Callable[[], Any]) -> float:
            return median_seconds(call, seconds, least=3)

        for name in linear_steps():
            call = in_turn(partial(linear_step, name, case), linear_weights(name, case))
            rungs.append(Rung(name, LINEAR_STEPS[name], m, time(call), *size))
        peer = torch_call(case, ceilings.cores)
        if peer is not None:
            rungs.append(Rung("PyTorch", "for comparison", m, time(peer), *size))
    return rungs


LADDERS: dict[str, Callable[[Sequence[int], Ceilings, float], list[Rung]]] = {"linear": linear_ladder}


def report(rungs: Sequence[Rung]) -> str:
    """A table for each row count: the gain over the step before, and the share of the limit."""
    parts = []
    for m in sorted({rung.rows for rung in rungs}):
        lines = []
        before: float | None = None
        for rung in rungs:
            if rung.rows != m:
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
        header = (f"{m} rows" if m > 1 else "1 row", "what is new", "time", "gain", "GB/s", "GFLOP/s", "of the limit")
        parts.append(table(header, lines))
    return "\n\n".join(parts)


def plot(rungs: Sequence[Rung], ceilings: Ceilings, dtype: str, file: Path) -> None:
    """Draw the roofline into `file` (PNG, SVG or PDF). Needs matplotlib."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 5), layout="constrained")
    axes = figure.subplots()
    intensity = np.array([rung.flops / rung.nbytes for rung in rungs])
    span = np.geomspace(intensity.min() / 2, max(intensity.max(), ceilings.flops(dtype) / ceilings.read) * 2, 100)
    axes.plot(span, np.minimum(span * ceilings.read, ceilings.flops(dtype)) / 1e9, color="black", label="limit")
    for name in dict.fromkeys(rung.step for rung in rungs):
        mine = [rung for rung in rungs if rung.step == name]
        axes.plot(
            [rung.flops / rung.nbytes for rung in mine],
            [rung.flops / rung.seconds / 1e9 for rung in mine],
            marker="x" if name == "PyTorch" else "o",
            label=name,
        )
    axes.set(xscale="log", yscale="log", xlabel="operations for each byte of weights", ylabel="GFLOP/s")
    axes.grid(which="both", alpha=0.2)
    axes.legend()
    figure.savefig(file)


def main(arguments: Sequence[str] | None = None) -> None:
    """The command line; see the module's text."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.ladder", description="The versions of a kernel, timed.")
    parser.add_argument("kernel", choices=tuple(LADDERS))
    parser.add_argument("--device", choices=("cpu",), default="cpu", help="the ladders of GPU kernels: benchmarks.gpu")
    parser.add_argument("--rows", type=int, nargs="+", default=[1, 8, 128])
    parser.add_argument("--seconds", type=float, default=0.2, help="time for each measurement")
    parser.add_argument("--plot", type=Path, help="draw a roofline into this file (png, svg, pdf)")
    parser.add_argument("--json", type=Path, help="write the results to this file")
    options = parser.parse_args(arguments)
    ceilings = measure()
    rungs = LADDERS[options.kernel](options.rows, ceilings, options.seconds)
    print(report(rungs))
    if options.plot:
        plot(rungs, ceilings, "bfloat16", options.plot)
    if options.json:
        document = {"ceilings": asdict(ceilings), "rungs": [asdict(rung) for rung in rungs]}
        options.json.write_text(json.dumps(document, indent=2) + "\n")


if __name__ == "__main__":
    main()
