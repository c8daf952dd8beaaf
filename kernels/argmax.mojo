"""Argmax: greedy sampling.

    tokens[l] = min { v : logits[l, v] = max_u logits[l, u] }              logits [L, V] float32, tokens [L]

Sixteen lanes each keep the greatest value seen and its index; `>` and not `>=` keeps the first. At the end the greatest
lane wins, and among equals the lowest index. A NaN never wins; a row of nothing but NaN gives 0.

The ladder (kernels/steps/, `python -m benchmarks.ladder argmax`): microseconds for V = 151,936, logits in the cache, on
two cores of an AMD EPYC (Zen 5):

    rows                                     1          8
    naive: one value after another        84.1        664
    16 lanes, maximum and then where       5.0       53.3     one row in the nearest caches: two passes are faster there
    one pass, lanes carry indices          6.8       54.8
    all cores (this file)                  6.9       28.5     171 GB/s, from the cache
    PyTorch 2.13                          82.4        331
"""

from .common import LANES, Ptr, task_count, task_range
from .fork_join import Held, Job, fork_join, hold
from std.math import iota


@always_inline
def argmax_row(logits: Ptr[DType.float32], width: Int) -> Int32:
    """Returns the lowest index of the greatest of `width` values."""
    var best = SIMD[DType.float32, LANES](Float32.MIN)
    var place = SIMD[DType.int32, LANES](Int32.MAX)
    var index = iota[DType.int32, LANES]()
    var full = width // LANES * LANES
    # BEGIN SOLUTION 12.5
    for i in range(0, full, LANES):
        var v = logits.unsafe_load[width=LANES](i)
        var greater = v.gt(best)
        best = greater.select(v, best)
        place = greater.select(index + Int32(i), place)
    var top = best.reduce_max()
    var at = (
        best.eq(top)
        .select(place, SIMD[DType.int32, LANES](Int32.MAX))
        .reduce_min()
    )
    for i in range(full, width):
        if logits[unsafe_offset=i] > top:
            top = logits[unsafe_offset=i]
            at = Int32(i)
    return at if at != Int32.MAX else 0
    # END SOLUTION


@fieldwise_init
struct ArgmaxJob(Job):
    """The arguments of `argmax_cpu`; a task is a range of rows."""

    var tokens: Held[DType.int32]
    var logits: Held[DType.float32]
    var rows: Int
    var width: Int
    var tasks: Int

    def run(self, task: Int):
        var first, last = task_range(task, self.tasks, self.rows)
        for t in range(first, last):
            self.tokens[unsafe_offset=t] = argmax_row(
                self.logits.as_unsafe_any_origin().unsafe_offset(
                    t * self.width
                ),
                self.width,
            )


def argmax_cpu(
    tokens: Ptr[DType.int32], logits: Ptr[DType.float32], rows: Int, width: Int
):
    """Writes tokens [rows] from logits [rows, width]."""
    var tasks = min(rows, task_count(rows * width))
    fork_join(ArgmaxJob(hold(tokens), hold(logits), rows, width, tasks), tasks)
