"""RMSNorm, alone and with the residual add before it.

    y[t, i] = x[t, i] / sqrt(mean_j x[t, j]^2 + eps) * weight[i]            x, y [T, E], weight [E]
    add:  s = residual + x (rounded to dtype, and returned),  y = RMSNorm(s)

(Zhang and Sennrich 2019, arXiv:1910.07467.) Sums, the root and both products are float32; y is rounded once.

Two passes over a row that stays in the nearest cache:

    row t  | 16 lanes | 16 lanes | ... | tail |     pass 1: lane sums of squares -> one number -> scale
           | 16 lanes | 16 lanes | ... | tail |     pass 2: read again, times scale, times weight, write

Fusing the add saves one write and one read of [T, E]. Rows are cut among cores only where there are many.
The order of the sum depends on E alone, so a row's result does not depend on the batch.

The ladder (kernels/steps/, `python -m benchmarks.ladder rms_norm`): microseconds with the residual add, E = 1024 in
bfloat16, on two cores of an AMD EPYC (Zen 5) that copy 45 GB/s from and to memory:

    rows                                     1         64       4096
    naive: the definition, two passes      2.5        137      8,816
    16 lanes                               0.7       10.9        867
    add and norm row by row                0.6       10.6        686     `total` stays in the cache next to the core
    all cores (this file)                  0.7        6.6        331     101 GB/s: in part from the L3 cache
    PyTorch 2.13                          11.8       48.5      5,627     two operations
"""

from .common import (
    LANES,
    Ptr,
    load_float32,
    store_rounded,
    task_count,
    task_range,
)
from .fork_join import Held, Job, fork_join, hold
from std.math import sqrt


@always_inline
def inverse_rms[
    dtype: DType
](x: Ptr[dtype], width: Int, eps: Float32) -> Float32:
    """Returns 1 / sqrt(mean(x^2) + eps) of one row."""
    # BEGIN SOLUTION 03.4
    var lanes = SIMD[DType.float32, LANES](0)
    var full = width // LANES * LANES
    for i in range(0, full, LANES):
        var v = load_float32(x, i)
        lanes = v.fma(v, lanes)
    var total = lanes.reduce_add()
    for i in range(full, width):
        var v = x[unsafe_offset=i].cast[DType.float32]()
        total += v * v
    return 1 / sqrt(total / Float32(width) + eps)
    # END SOLUTION


@always_inline
def norm_row[
    dtype: DType
](y: Ptr[dtype], x: Ptr[dtype], weight: Ptr[dtype], width: Int, eps: Float32):
    """Normalises one row; y may be x."""
    # BEGIN SOLUTION 03.5
    var scale = inverse_rms(x, width, eps)
    var full = width // LANES * LANES
    for i in range(0, full, LANES):
        store_rounded(
            y, i, load_float32(x, i) * scale * load_float32(weight, i)
        )
    for i in range(full, width):
        store_rounded(
            y,
            i,
            load_float32[width=1](x, i)
            * scale
            * load_float32[width=1](weight, i),
        )
    # END SOLUTION


@fieldwise_init
struct NormJob[dtype: DType](Job):
    """The arguments of `rms_norm_cpu`; a task is a range of rows."""

    var y: Held[Self.dtype]
    var x: Held[Self.dtype]
    var weight: Held[Self.dtype]
    var rows: Int
    var width: Int
    var eps: Float32
    var tasks: Int

    def run(self, task: Int):
        var first, last = task_range(task, self.tasks, self.rows)
        for t in range(first, last):
            norm_row(
                self.y.as_unsafe_any_origin().unsafe_offset(t * self.width),
                self.x.as_unsafe_any_origin().unsafe_offset(t * self.width),
                self.weight.as_unsafe_any_origin(),
                self.width,
                self.eps,
            )


def rms_norm_cpu[
    dtype: DType
](
    y: Ptr[dtype],
    x: Ptr[dtype],
    weight: Ptr[dtype],
    rows: Int,
    width: Int,
    eps: Float32,
):
    """Writes y = RMSNorm(x) for x, y [rows, width] and weight [width]."""
    var tasks = task_count(rows * width)
    fork_join(
        NormJob[dtype](hold(y), hold(x), hold(weight), rows, width, eps, tasks),
        tasks,
    )


@fieldwise_init
struct AddNormJob[dtype: DType](Job):
    """The arguments of `add_rms_norm_cpu`; a task is a range of rows."""

    var y: Held[Self.dtype]
    var total: Held[Self.dtype]
    var x: Held[Self.dtype]
    var residual: Held[Self.dtype]
    var weight: Held[Self.dtype]
    var rows: Int
    var width: Int
    var eps: Float32
    var tasks: Int

    def run(self, task: Int):
        var first, last = task_range(task, self.tasks, self.rows)
        for t in range(first, last):
            var start = t * self.width
            var x = self.x.as_unsafe_any_origin().unsafe_offset(start)
            var residual = self.residual.as_unsafe_any_origin().unsafe_offset(
                start
            )
            var total = self.total.as_unsafe_any_origin().unsafe_offset(start)
            var full = self.width // LANES * LANES
            for i in range(0, full, LANES):
                store_rounded(
                    total, i, load_float32(residual, i) + load_float32(x, i)
                )
            for i in range(full, self.width):
                store_rounded(
                    total,
                    i,
                    load_float32[width=1](residual, i)
                    + load_float32[width=1](x, i),
                )
            norm_row(
                self.y.as_unsafe_any_origin().unsafe_offset(start),
                total,
                self.weight.as_unsafe_any_origin(),
                self.width,
                self.eps,
            )


def add_rms_norm_cpu[
    dtype: DType
](
    y: Ptr[dtype],
    total: Ptr[dtype],
    x: Ptr[dtype],
    residual: Ptr[dtype],
    weight: Ptr[dtype],
    rows: Int,
    width: Int,
    eps: Float32,
):
    """Writes total = residual + x and y = RMSNorm(total); all [rows, width] but weight [width].
    """
    var tasks = task_count(2 * rows * width)
    fork_join(
        AddNormJob[dtype](
            hold(y),
            hold(total),
            hold(x),
            hold(residual),
            hold(weight),
            rows,
            width,
            eps,
            tasks,
        ),
        tasks,
    )
