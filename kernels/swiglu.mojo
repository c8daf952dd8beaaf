"""SwiGLU: the gate of the feed-forward layer.

    y[t, i] = silu(g[t, i]) * u[t, i],  silu(g) = g / (1 + exp(-g)),   gate_up [T, 2 I] = [g | u], y [T, I]

(Shazeer 2020, arXiv:2002.05202.) Elementwise in float32, rounded once; gate and up come from one matrix product, so a
row holds both halves:

    gate_up row t  | g: I values | u: I values |   ->   y row t  | I values |

The vectorised exp saturates instead of overflowing, so for g below -88 silu is a tiny negative number instead of -0.

The ladder (kernels/steps/, `python -m benchmarks.ladder swiglu`): microseconds for I = 3072 in bfloat16, on two cores of
an AMD EPYC (Zen 5) that copy 45 GB/s from and to memory:

    rows                                     1         64       2048
    a pass for each operation              8.7        551     19,281     the exponential of one element at a time
    one pass                               8.9        549     17,756
    16 lanes, exp included                 1.0       38.7      1,949
    all cores (this file)                  1.0       19.7        661     57 GB/s; the exponential still takes its time
    PyTorch 2.13                           6.8       55.3      1,739
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
from std.math import exp


@always_inline
def silu[
    width: SIMDLength, //
](g: SIMD[DType.float32, width]) -> SIMD[DType.float32, width]:
    """Returns g * sigmoid(g)."""
    return g / (1 + exp(-g))


@fieldwise_init
struct SwigluJob[dtype: DType](Job):
    """The arguments of `swiglu_cpu`; a task is a range of rows."""

    var y: Held[Self.dtype]
    var gate_up: Held[Self.dtype]
    var rows: Int
    var width: Int
    var tasks: Int

    def run(self, task: Int):
        # BEGIN SOLUTION 05.5
        var first, last = task_range(task, self.tasks, self.rows)
        for t in range(first, last):
            var gate = self.gate_up.as_unsafe_any_origin().unsafe_offset(
                2 * t * self.width
            )
            var up = gate.unsafe_offset(self.width)
            var out_row = self.y.as_unsafe_any_origin().unsafe_offset(
                t * self.width
            )
            var full = self.width // LANES * LANES
            for i in range(0, full, LANES):
                store_rounded(
                    out_row,
                    i,
                    silu(load_float32(gate, i)) * load_float32(up, i),
                )
            for i in range(full, self.width):
                store_rounded(
                    out_row,
                    i,
                    silu(load_float32[width=1](gate, i))
                    * load_float32[width=1](up, i),
                )
        # END SOLUTION


def swiglu_cpu[
    dtype: DType
](y: Ptr[dtype], gate_up: Ptr[dtype], rows: Int, width: Int):
    """Writes y [rows, width] from gate_up [rows, 2 * width]."""
    var tasks = task_count(4 * rows * width)
    fork_join(
        SwigluJob[dtype](hold(y), hold(gate_up), rows, width, tasks), tasks
    )
