"""The ceilings of this machine, measured: what predictions and rooflines in the notebooks are made from."""

import json
import os
from dataclasses import asdict, dataclass, fields
from pathlib import Path

import numpy as np

from workbook.mojo_build import build, toolchain
from workbook.mojo_run import MojoFunction, functions
from workbook.paths import CACHE

STREAMS, PAIR_STREAMS, LANES = 8, 16, 16
MEMORY_FLOATS = 1 << 26  # 256 MiB: far larger than caches
CACHE_FLOATS = 1 << 16  # 256 KiB: stays in the cache of one core
AHEAD = 1 << 14  # floats to prefetch ahead: 64 KiB


@dataclass(frozen=True)
class Ceilings:
    """What this machine reaches at best: bytes/s read from memory and from cache, bytes/s copied, and FLOP/s.

    `one` is one core, `all` is all cores that this process may use. A copy counts what it reads and what it writes. A
    fused multiply-add counts as two FLOPs. `memory` and `flops` without a word are reading and float32; bfloat16 is
    that of dot products of pairs, or float32's where the CPU has none (AMX is not measured).
    """

    cores: int
    memory_one: float
    memory_all: float
    copy_one: float
    copy_all: float
    cache_one: float
    flops_one: float
    flops_all: float
    bfloat16_all: float

    def __str__(self) -> str:
        giga = {name: value / 1e9 for name, value in asdict(self).items()}
        return (
            f"{self.cores} cores; memory {giga['memory_one']:.1f} GB/s with one, {giga['memory_all']:.1f} with all; "
            f"copied {giga['copy_one']:.1f} and {giga['copy_all']:.1f}; cache {giga['cache_one']:.0f} GB/s; "
            f"float32 {giga['flops_one']:.0f} and {giga['flops_all']:.0f} GFLOP/s, bfloat16 {giga['bfloat16_all']:.0f}"
        )


def ceilings(again: bool = False) -> Ceilings:
    """This machine's ceilings: measured once (a few seconds), then read from a file, unless asked to measure again."""
    path = CACHE / "machine.json"
    if path.exists() and not again:
        known = json.loads(path.read_text())
        same = known.pop("toolchain") == toolchain()
        if same and known.keys() == {field.name for field in fields(Ceilings)}:
            return Ceilings(**known)
    measured = measure()
    CACHE.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(asdict(measured) | {"toolchain": toolchain()}, indent=1) + "\n")
    return measured


def measure() -> Ceilings:
    """Measure: medians of several runs; all cores together are at least as fast as one."""
    library = build({"probe": Path(__file__).with_name("probe.mojo").read_text()})
    found = {name: function for (_, name), function in functions(library).items()}
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    reading, multiplying = found["read"], found["multiply_add"]
    memory_one = memory(reading, 1)
    copy_one = copying(found["copy"], 1)
    flops_one = flops(multiplying, 1)
    # Several rounds: in the first, the system may not have given every thread a core of its own yet.
    flops_all = max(flops_one, *(flops(multiplying, cores) for _ in range(3)))
    return Ceilings(
        cores=cores,
        memory_one=memory_one,
        memory_all=max(memory_one, memory(reading, cores)),
        copy_one=copy_one,
        copy_all=max(copy_one, copying(found["copy"], cores)),
        cache_one=bandwidth(reading, CACHE_FLOATS, 1, 0, 200),
        flops_one=flops_one,
        flops_all=flops_all,
        bfloat16_all=max(flops_all, *(pair_flops(found["multiply_pairs"], cores) for _ in range(3)))
        if found["has_bfloat16"]()
        else flops_all,
    )


def memory(read: MojoFunction, tasks: int) -> float:
    """Bytes/s of reading from memory in `tasks` tasks: the better of reading plainly and with prefetch."""
    return max(bandwidth(read, MEMORY_FLOATS, tasks, ahead, 9) for ahead in (0, AHEAD))


def bandwidth(read: MojoFunction, count: int, tasks: int, ahead: int, repeats: int) -> float:
    """Bytes/s of reading `count` floats in `tasks` tasks, prefetching `ahead` floats further."""
    count -= count % (tasks * STREAMS * LANES)
    x, sums = np.ones(count, np.float32), np.zeros(tasks, np.float32)
    return 4 * count / read.time(sums, x, count, tasks, ahead, repeats=repeats)


def copying(copy: MojoFunction, tasks: int) -> float:
    """Bytes/s of copying: those read and those written."""
    count = MEMORY_FLOATS // 2 - MEMORY_FLOATS // 2 % (tasks * 4 * LANES)
    x = np.ones(count, np.float32)
    return 8 * count / copy.time(np.zeros_like(x), x, count, tasks, repeats=9)


def flops(multiply_add: MojoFunction, tasks: int) -> float:
    """FLOP/s of fused multiply-adds in registers, in `tasks` tasks."""
    steps = 1_000_000
    x, sums = np.array([0.5, 1.0], np.float32), np.zeros(tasks, np.float32)
    return 2 * steps * STREAMS * LANES * tasks / multiply_add.time(sums, x, steps, tasks, repeats=5)


def pair_flops(multiply_pairs: MojoFunction, tasks: int) -> float:
    """FLOP/s of bfloat16 dot products in registers: four FLOPs a lane."""
    steps = 1_000_000
    seconds = multiply_pairs.time(np.zeros(tasks, np.float32), steps, tasks, repeats=5)
    return 4 * steps * PAIR_STREAMS * LANES * tasks / seconds
