"""The ladder of a kernel, from the naive version to the engine's: `python -m benchmarks.ladder NAME [--device gpu]`.

Each rung is one gain by itself; the versions stand in kernels/steps/ and are checked by the kernels' own tests. The
table says how much of this machine's limit each reaches (above 100%: the data came from a cache, and the limit is
memory's); `--plot FILE` draws a roofline: operations a second over operations for each byte, under the limits measured
in the same run. Limits and times are medians. The exit status is 1 when a step failed or was wrong; the others are
measured all the same.
"""

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from benchmarks.rungs import PEER, Rung, plot, report

CPU = ("linear", "rms_norm", "rope", "swiglu", "prefill", "decode", "argmax", "sample")
GPU = ("linear", "rms_norm", "prefill", "decode")


def cpu_ladder(kernel: str, rows: Sequence[int] | None, seconds: float) -> tuple[list[Rung], float, float]:
    """The rungs of a CPU kernel, then bytes read and bfloat16 operations a second that this machine reaches."""
    from benchmarks.ceilings import measure

    ceilings = measure()
    limits = (ceilings.read, ceilings.flops("bfloat16"))
    if kernel == "linear":
        from benchmarks.linear_ladder import linear_ladder

        return linear_ladder(rows or [1, 8, 128], ceilings, seconds), *limits
    from benchmarks.kernel_cases import CASES, ROWS
    from benchmarks.native.steps import STEPS
    from benchmarks.timing import median_seconds

    rungs = []
    for count in rows or ROWS[kernel]:
        work = CASES[kernel](count, ceilings.cores)
        size = (work.flops, work.nbytes, work.floor(ceilings))
        for step, gain in STEPS[kernel].items():
            rungs.append(Rung(step, gain, work.name, median_seconds(work.call(step), seconds, least=3), *size))
        for dtype, peer in list(work.peers.items())[:1]:
            rungs.append(Rung(PEER, f"for comparison, {dtype}", work.name, median_seconds(peer, seconds), *size))
    return rungs, *limits


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line; see the module's text. Returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.ladder", description="The versions of a kernel, timed.")
    parser.add_argument("kernel", choices=(*CPU, "all"), help="a kernel, or all that the device has ladders for")
    parser.add_argument("--device", choices=("cpu", "gpu"), default="cpu")
    parser.add_argument("--rows", type=int, nargs="+", help="rows, tokens of a prompt; on a CPU decode's context")
    parser.add_argument("--seconds", type=float, default=0.2, help="time for each measurement on a CPU")
    parser.add_argument("--plot", type=Path, help="draw a roofline into this file (png, svg, pdf)")
    parser.add_argument("--json", type=Path, help="write the results to this file")
    options = parser.parse_args(arguments)
    known = GPU if options.device == "gpu" else CPU
    kernels = known if options.kernel == "all" else (options.kernel,)
    if not set(kernels) <= set(known):
        parser.error(f"{options.kernel} has no ladder on a GPU; these have: {', '.join(GPU)}")
    rungs: list[Rung] = []
    document = {}
    bandwidth = peak = 0.0
    for kernel in kernels:
        if options.device == "gpu":
            from benchmarks.gpu.ladder import climb  # it needs PyTorch

            found, bandwidth, peak = climb(kernel, options.rows)
        else:
            found, bandwidth, peak = cpu_ladder(kernel, options.rows, options.seconds)
        rungs += found
        document[kernel] = [asdict(rung) for rung in found]
        print(f"{kernel}\n\n{report(found)}\n", flush=True)
        if options.json:
            limits = {"bytes_per_second": bandwidth, "flops_per_second": peak}
            options.json.write_text(json.dumps({"limits": limits, "ladders": document}, indent=1) + "\n")
    print(f"limits: {bandwidth / 1e9:,.1f} GB/s, {peak / 1e9:,.0f} GFLOP/s in bfloat16")
    if options.plot:
        plot(rungs, bandwidth, peak, f"{options.kernel} on the {options.device.upper()}", options.plot)
    return 1 if any(rung.error for rung in rungs) else 0


if __name__ == "__main__":
    sys.exit(main())
