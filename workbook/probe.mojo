"""What this machine can do at most: reading and copying memory, multiplying and adding (see `workbook/machine.py`)."""

from kernels.cpu_features import cpu_features
from kernels.linear_tile import Sums, Units, dot_pairs
from max.algorithm import sync_parallelize
from std.collections import Array
from std.math import fma
from std.sys.info import CompilationTarget
from std.sys.intrinsics import PrefetchOptions, prefetch

comptime Ptr[dtype: DType] = Pointer[Scalar[dtype], MutAnyOrigin]
comptime LANES = 16
comptime STREAMS = 8
comptime PAIR_STREAMS = 16
"""Dot products under way: some CPUs start two a cycle, and each takes six."""


def read(
    sums: Ptr[DType.float32],
    x: Ptr[DType.float32],
    n: Int,
    tasks: Int,
    ahead: Int,
):
    """Sums x [n] in `tasks` tasks, reading each element once; n is a multiple of tasks * STREAMS * LANES.

    ahead: elements, how far ahead of the reading memory is prefetched; 0: not at all.
    """

    def part(task: Int) {var sums, var x, var n, var tasks, var ahead}:
        var total = SIMD[DType.float32, LANES](0)
        var begin = task * (n // tasks)
        var a = SIMD[DType.float32, LANES](0)
        var b = SIMD[DType.float32, LANES](0)
        var c = SIMD[DType.float32, LANES](0)
        for i in range(begin, begin + n // tasks, 4 * LANES):
            if ahead > 0:
                comptime for j in range(4):
                    prefetch[
                        PrefetchOptions()
                        .for_read()
                        .medium_locality()
                        .to_data_cache()
                    ](x.unsafe_offset(i + j * LANES + ahead))
            total += x.unsafe_load[width=LANES](i)
            a += x.unsafe_load[width=LANES](i + LANES)
            b += x.unsafe_load[width=LANES](i + 2 * LANES)
            c += x.unsafe_load[width=LANES](i + 3 * LANES)
        sums[unsafe_offset=task] = (total + a + b + c).reduce_add()

    sync_parallelize(part, tasks)


def copy(y: Ptr[DType.float32], x: Ptr[DType.float32], n: Int, tasks: Int):
    """Copies x [n] to y in `tasks` tasks; n is a multiple of tasks * 4 * LANES.
    """

    def part(task: Int) {var y, var x, var n, var tasks}:
        var begin = task * (n // tasks)
        for i in range(begin, begin + n // tasks, 4 * LANES):
            comptime for j in range(4):
                var at = i + j * LANES
                y.unsafe_store(at, x.unsafe_load[width=LANES](at))

    sync_parallelize(part, tasks)


def has_bfloat16() -> Bool:
    """Whether `multiply_pairs` can run here."""
    return CompilationTarget.has_avx512f() and cpu_features().avx512_bf16


def multiply_pairs(sums: Ptr[DType.float32], steps: Int, tasks: Int):
    """Runs steps * PAIR_STREAMS bfloat16 dot products of LANES pairs in each task; sums [tasks] are zero.
    """

    def part(task: Int) {var sums, var steps}:
        var a = Units(Int32(sums[unsafe_offset=task]))
        var v = Array[Sums, PAIR_STREAMS](fill=Sums(0))
        for _ in range(steps):
            comptime for i in range(PAIR_STREAMS):
                v[i] = dot_pairs(v[i], a, a)
        var total = Sums(0)
        comptime for i in range(PAIR_STREAMS):
            total += v[i]
        sums[unsafe_offset=task] = total.reduce_add()

    sync_parallelize(part, tasks)


def multiply_add(
    sums: Ptr[DType.float32], x: Ptr[DType.float32], steps: Int, tasks: Int
):
    """Runs steps * STREAMS fused multiply-adds of LANES float32 in each task; sums [tasks], x [2].
    """

    def part(task: Int) {var sums, var x, var steps, var tasks}:
        var factor = SIMD[DType.float32, LANES](x[unsafe_offset=0])
        var term = SIMD[DType.float32, LANES](x[unsafe_offset=1])
        var v0 = term
        var v1 = term + 1
        var v2 = term + 2
        var v3 = term + 3
        var v4 = term + 4
        var v5 = term + 5
        var v6 = term + 6
        var v7 = term + 7
        for _ in range(steps):
            v0 = fma(v0, factor, term)
            v1 = fma(v1, factor, term)
            v2 = fma(v2, factor, term)
            v3 = fma(v3, factor, term)
            v4 = fma(v4, factor, term)
            v5 = fma(v5, factor, term)
            v6 = fma(v6, factor, term)
            v7 = fma(v7, factor, term)
        sums[unsafe_offset=task] = (
            v0 + v1 + v2 + v3 + v4 + v5 + v6 + v7
        ).reduce_add()

    sync_parallelize(part, tasks)
