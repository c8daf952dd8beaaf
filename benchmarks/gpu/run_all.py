"""Check and time every GPU kernel in one run: `python -m benchmarks.gpu.run_all [--json FILE] [--quick] [--only ...]`.

Needs a GPU, PyTorch, and MAX with Mojo (or MILI_GPU_EXT, the folder of a gpu_ext.so built elsewhere). Prints what is
wrong first, then tables, and writes all numbers as JSON. One failure does not stop the rest; the exit status is 1 when
a check failed or an error occurred.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
import time
from pathlib import Path
from typing import Any

import torch

# MAX takes most of the GPU's memory unless told otherwise; PyTorch needs its share here. Read when MAX starts.
os.environ.setdefault("MODULAR_DEVICE_CONTEXT_MEMORY_MANAGER_SIZE_PERCENT", "20")

from benchmarks.gpu import checks, timings
from benchmarks.gpu.bench import Bench, copy_bandwidth
from benchmarks.gpu.harness import Report, Timer, table
from benchmarks.gpu.kernels import Kernels

COLUMNS = {
    "linear": ["model", "what", "rows", "us", "torch_us", "speedup", "of_copy", "tflops", "own_us"],
    "rowwise": ["op", "model", "what", "rows", "us", "torch_us", "peer", "speedup", "gbs", "of_copy"],
    "decode": ["model", "batch", "context", "us", "torch_us", "speedup", "compiled_us", "gbs", "of_copy"],
    "decode_ragged": ["model", "batch", "context", "us", "gbs", "of_copy"],
    "prefill": ["model", "tokens", "us", "tflops", "torch_us", "torch_tflops", "speedup", "backend"],
}


def main() -> int:
    """Run the chosen parts; returns the exit status."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parts = ["checks", "graph", *timings.ALL]
    parser.add_argument("--json", type=Path, default=Path("gpu.json"), help="where the numbers go")
    parser.add_argument("--only", nargs="*", choices=parts, default=parts, help="parts to run")
    parser.add_argument("--quick", action="store_true", help="fewer sizes")
    args = parser.parse_args()
    torch.manual_seed(0)
    report = Report()
    kernels: Kernels | None = report.attempt("load the kernels", Kernels)
    info: dict[str, Any] = {
        "device": torch.cuda.get_device_name(),
        "torch": torch.__version__,
        "python": platform.python_version(),
        "date": time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime()),
        "command": " ".join(sys.argv),
    }
    if kernels is not None:
        info["stream"] = hex(kernels.handle)
        with torch.cuda.stream(kernels.stream):
            measure(kernels, report, args.only, args.quick)
        torch.cuda.synchronize()
    if "graph" in args.only:
        from benchmarks.gpu import max_graph

        report.attempt("MAX graph", max_graph.check, report)
    info["seconds"] = round(time.perf_counter() - report.start)
    failed = [c for c in report.checks if not c["passed"]]
    document = {"info": info, "checks": report.checks, "timings": report.timings, "errors": report.errors}
    args.json.parent.mkdir(parents=True, exist_ok=True)
    args.json.write_text(json.dumps(document, indent=1))
    for part, columns in COLUMNS.items():
        rows = [t for t in report.timings if part_of(str(t["op"])) == part]
        if rows:
            print(f"\n{part}\n{table(rows, columns)}")
    print(f"\n{info}\n{len(report.checks)} checks, {len(failed)} wrong, {len(report.errors)} errors")
    return 1 if failed or report.errors else 0


def part_of(op: str) -> str:
    """The table that a timed op belongs to."""
    return op if op in COLUMNS else "rowwise"


def measure(kernels: Kernels, report: Report, parts: list[str], quick: bool) -> None:
    """Checks, then timings, each guarded."""
    if "checks" in parts:
        for name, check in checks.ALL.items():
            start = time.perf_counter()
            report.attempt(f"check {name}", check, kernels, report)
            print(f"checked {name} in {time.perf_counter() - start:.1f} s", flush=True)
    bandwidth = report.attempt("copy bandwidth", copy_bandwidth, report) or 1.0
    bench = Bench(kernels, report, Timer(kernels.stream), Timer(torch.cuda.Stream()), bandwidth, quick)
    for name, work in timings.ALL.items():
        if name in parts:
            start = time.perf_counter()
            report.attempt(f"time {name}", work, bench)
            torch.cuda.empty_cache()
            print(f"timed {name} in {time.perf_counter() - start:.1f} s", flush=True)


if __name__ == "__main__":
    sys.exit(main())
