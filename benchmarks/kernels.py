"""The kernels against this machine's limits and PyTorch: `python -m benchmarks.kernels [--device cpu|gpu]`.

Every time is a median; limits, kernels and peers are measured in the same run. "of the limit" is the time that moving
the bytes or doing the arithmetic must take at least (the longer of the two), by the time taken; above 100% the bytes
came from a cache. Linear is timed in bfloat16 and float32, the others in bfloat16 (logits: float32). `--rounds` takes
everything several times, limits too, and gives medians of times and ratios: on a machine that others share, bandwidth
and speed change from minute to minute.
On a GPU this is `python -m benchmarks.gpu.run_all`, whose options are passed on.
"""

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.ceilings import Ceilings, measure
from benchmarks.kernel_cases import CASES
from benchmarks.kernel_cases import ROWS as ROWS_OF
from benchmarks.linear_cases import SHAPES, Case, in_turn, torch_call
from benchmarks.native.linear import available_paths, bound
from benchmarks.native.steps import STEPS
from benchmarks.record import info, medians
from benchmarks.table import microseconds, table
from benchmarks.timing import median_seconds

ROWS = (1, 2, 8, 32, 64, 512)


def time_linear(case: Case, ceilings: Ceilings, seconds: float, peers: bool) -> dict[str, Any]:
    """Times one product here and in PyTorch."""
    y = np.empty((case.m, case.n), case.x.dtype)
    calls = [bound(case.x, w, case.n, y) for w in case.packed]
    ours = median_seconds(in_turn(lambda call: call(), calls), seconds)
    peer = torch_call(case, ceilings.cores) if peers else None
    theirs = None if peer is None else median_seconds(peer, seconds)
    return {
        "rows": case.m,
        "n": case.n,
        "k": case.k,
        "dtype": case.dtype,
        "path": available_paths(case.dtype)[-1],
        "seconds": ours,
        "bytes_per_s": case.nbytes / ours,
        "flops_per_s": case.flops / ours,
        "share_of_limit": case.floor(ceilings) / ours,
        "torch_seconds": theirs,
        "speedup": None if theirs is None else theirs / ours,
    }


def linear_results(
    shapes: Sequence[str], rows: Sequence[int], dtypes: Sequence[str], seconds: float, peers: bool
) -> list[dict[str, Any]]:
    """Times linear at every shape, dtype and row count."""
    ceilings = measure()
    results = []
    for name in shapes:
        for dtype in dtypes:
            one_row = None
            for m in rows:
                result = time_linear(Case(m, *SHAPES[name], dtype), ceilings, seconds, peers)
                one_row = result["seconds"] if m == 1 else one_row
                result["of_one_row"] = None if one_row is None else result["seconds"] / one_row
                results.append({"op": "linear", "matrix": name, **result})
    return results


def other_results(kernels: Sequence[str], seconds: float, peers: bool) -> list[dict[str, Any]]:
    """Times the engine's version, the last step of its ladder, of every kernel but linear."""
    ceilings = measure()
    results = []
    for kernel in kernels:
        step = list(STEPS[kernel])[-1]
        for rows in ROWS_OF[kernel]:
            work = CASES[kernel](rows, ceilings.cores)
            ours = median_seconds(work.call(step), seconds)
            theirs = {dtype: median_seconds(call, seconds) for dtype, call in work.peers.items()} if peers else {}
            results.append(
                {
                    "op": kernel,
                    "case": work.name,
                    "seconds": ours,
                    "bytes_per_s": work.nbytes / ours,
                    "flops_per_s": work.flops / ours,
                    "share_of_limit": work.floor(ceilings) / ours,
                    "torch_seconds": theirs,
                    "speedup": {dtype: time / ours for dtype, time in theirs.items()},
                }
            )
    return results


def report_others(results: Sequence[dict[str, Any]]) -> None:
    """Print a table of `other_results`."""
    header = (
        "kernel",
        "case",
        "time",
        "GB/s",
        "GFLOP/s",
        "of the limit",
        "PyTorch",
        "speedup",
        "its float32",
        "speedup",
    )
    lines = []
    for r in results:
        peers: list[str] = []
        for dtype in ("bfloat16", "float32"):
            peers.append(microseconds(r["torch_seconds"].get(dtype)))
            peers.append(f"{r['speedup'][dtype]:.1f}x" if dtype in r["speedup"] else "-")
        gigabytes, gigaflops = r["bytes_per_s"] / 1e9, r["flops_per_s"] / 1e9
        rates = (f"{gigabytes:.1f}", f"{gigaflops:.0f}", f"{r['share_of_limit']:.0%}")
        lines.append((r["op"], r["case"], microseconds(r["seconds"]), *rates, *peers))
    print(table(header, lines))


def report(ceilings: Ceilings, results: Sequence[dict[str, Any]]) -> None:
    """Print limits and a table."""
    dot = "none" if ceilings.bfloat16 is None else f"{ceilings.bfloat16 / 1e9:.0f} GFLOP/s"
    print(
        f"limits of {ceilings.cores} cores: read {ceilings.read / 1e9:.1f} GB/s, copy {ceilings.copy / 1e9:.1f} GB/s, "
        f"float32 {ceilings.float32 / 1e9:.0f} GFLOP/s, bfloat16 dot products {dot}\n"
    )
    header = ("linear", "dtype", "rows", "time", "x one row", "GB/s", "GFLOP/s", "of the limit", "PyTorch", "speedup")
    lines = [
        (
            r["matrix"],
            r["dtype"],
            str(r["rows"]),
            microseconds(r["seconds"]),
            "-" if r["of_one_row"] is None else f"{r['of_one_row']:.2f}",
            f"{r['bytes_per_s'] / 1e9:.1f}",
            f"{r['flops_per_s'] / 1e9:.0f}",
            f"{r['share_of_limit']:.0%}",
            microseconds(r["torch_seconds"]),
            "-" if r["speedup"] is None else f"{r['speedup']:.1f}x",
        )
        for r in results
    ]
    print(table(header, lines))


def main(arguments: Sequence[str] | None = None) -> None:
    """The command line; see the module's text."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.kernels", description="Kernels, limits and peers.")
    parser.add_argument("--device", choices=("cpu", "gpu"), default="cpu")
    parser.add_argument("--kernel", choices=("linear", *CASES), nargs="+", default=["linear", *CASES])
    parser.add_argument("--matrix", choices=tuple(SHAPES), nargs="+", default=list(SHAPES))
    parser.add_argument("--rows", type=int, nargs="+", default=list(ROWS), help="of linear")
    parser.add_argument("--dtype", choices=("bfloat16", "float32"), nargs="+", default=["bfloat16", "float32"])
    parser.add_argument("--seconds", type=float, default=0.3, help="time for each measurement")
    parser.add_argument("--rounds", type=int, default=1, help="measurements of everything")
    parser.add_argument("--no-peers", action="store_true", help="leave PyTorch out")
    parser.add_argument("--json", type=Path, help="write the results to this file")
    options, unknown = parser.parse_known_args(arguments)
    if options.device == "gpu":
        from benchmarks.gpu import run_all  # it needs PyTorch

        sys.argv = ["benchmarks.gpu.run_all", *unknown, *(["--json", str(options.json)] if options.json else [])]
        raise SystemExit(run_all.main())
    if unknown:
        parser.error(f"unrecognized arguments: {' '.join(unknown)}")
    peers = not options.no_peers
    others = [kernel for kernel in CASES if kernel in options.kernel]
    rounds = []
    for _ in range(options.rounds):
        measure.cache_clear()
        matrices = options.matrix if "linear" in options.kernel else []
        linear = linear_results(matrices, options.rows, options.dtype, options.seconds, peers)
        rounds.append((asdict(measure()), linear, other_results(others, options.seconds, peers)))
    ceilings, linear, rest = (medians(each) for each in zip(*rounds, strict=True))
    if linear:
        report(Ceilings(**ceilings), linear)
        print()
    if rest:
        report_others(rest)
    if options.json:
        document = {"info": info("benchmarks.kernels", "torch"), "ceilings": ceilings}
        document["rounds_read_bytes_per_s"] = [each[0]["read"] for each in rounds]
        document["results"] = [*linear, *rest]
        options.json.write_text(json.dumps(document, indent=1) + "\n")


if __name__ == "__main__":
    main()
