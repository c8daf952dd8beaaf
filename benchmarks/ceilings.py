"""What this machine can do at most, measured: `python -m benchmarks.ceilings [--json FILE]`.

The measuring is the notebooks' own, `workbook/machine.py`; here are its figures for all cores together.
"""

import argparse
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path

from benchmarks.native.linear import available_paths
from workbook import machine


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
def measure() -> Ceilings:
    """Measures for a few seconds; once a process.

    `copy` counts the bytes read and those written. AMX's peak is not measured: there bfloat16 is that of dot products.
    """
    found = machine.measure()
    bfloat16 = found.bfloat16_all if "dot" in available_paths("bfloat16") else None
    return Ceilings(found.cores, found.memory_all, found.copy_all, found.flops_all, bfloat16)


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
