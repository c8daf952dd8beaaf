"""What this machine can do at most, measured: `python -m benchmarks.ceilings [--json FILE]`.

Bandwidth comes from an array much larger than the caches, on all cores; arithmetic from multiply-adds on registers.
"""

import argparse
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path

import numpy as np

from benchmarks.native import load
from benchmarks.native.linear import available_paths
from benchmarks.timing import median_seconds

READ_BYTES = 256 << 20


@dataclass(frozen=True, slots=True)
class Ceilings:
    """Bytes and floating-point operations a second, all cores together; a multiply-add is two operations."""

    cores: int
    read: float
    copy: float
    float32: float
    bfloat16: float | None

    def flops(self, dtype: str) -> float:
        """Of `dtype`: bfloat16's are float32's where the CPU has no instruction for bfloat16."""
        return self.bfloat16 if dtype == "bfloat16" and self.bfloat16 is not None else self.float32


@cache
def measure(seconds: float = 1.0) -> Ceilings:
    """Measures for about four times `seconds`; once a process.

    `read` is the better of reading plainly and with prefetch; `copy` counts the bytes read and those written. AMX's
    peak is not measured: there bfloat16 is that of dot products.
    """
    native = load("ceilings_native")
    source = np.ones(READ_BYTES // 4 + (1 << 16), np.float32)
    n = READ_BYTES // 4
    target = np.zeros(n // 2, np.float32)
    cores = native.cores()
    results = np.zeros(max(cores, 16), np.float32)
    read = min(
        median_seconds(lambda: native.read(source.ctypes.data, n, results.ctypes.data, 0), seconds / 2),
        median_seconds(lambda: native.read(source.ctypes.data, n, results.ctypes.data, 1), seconds / 2),
    )
    copy = median_seconds(lambda: native.copy(target.ctypes.data, source.ctypes.data, n // 2), seconds)
    rounds = 200_000

    def peak(dot: int) -> float:
        done = native.multiply_add(rounds, results.ctypes.data, dot)
        return float(done) / median_seconds(lambda: native.multiply_add(rounds, results.ctypes.data, dot), seconds)

    float32 = peak(0)
    bfloat16 = peak(1) if "dot" in available_paths("bfloat16") else None
    return Ceilings(cores, READ_BYTES / read, READ_BYTES / copy, float32, bfloat16)


def main(arguments: Sequence[str] | None = None) -> None:
    """The command line; see the module's text."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.ceilings", description="Measure this machine's limits.")
    parser.add_argument("--json", type=Path, help="write the result to this file")
    options = parser.parse_args(arguments)
    found = measure()
    print(f"cores                     {found.cores}")
    print(f"read                      {found.read / 1e9:8.1f} GB/s")
    print(f"copy (read plus written)  {found.copy / 1e9:8.1f} GB/s")
    print(f"float32 multiply-adds     {found.float32 / 1e9:8.1f} GFLOP/s")
    dot = "none: no AVX512-BF16" if found.bfloat16 is None else f"{found.bfloat16 / 1e9:8.1f} GFLOP/s"
    print(f"bfloat16 dot products     {dot}")
    if options.json:
        options.json.write_text(json.dumps(asdict(found), indent=2) + "\n")


if __name__ == "__main__":
    main()
