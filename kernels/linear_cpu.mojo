"""Linear on a CPU, over packed weights: sixteen outputs are the lanes of one register.

    bfloat16   packed[b, p, i, j] = w[16 b + i, 2 p + j]         [ceil(N/16), ceil(K/2), 16, 2]
    float32    packed[b, k, i]    = w[16 b + i, k]               [ceil(N/16), K, 16]

Lane i of the accumulator of block b is y[m, 16 b + i]; each input is broadcast and multiplies sixteen weights.
The sum over K runs in one order at every row count.

First version: one row at a time, blocks cut among cores.
"""

from .common import LANES, Ptr, store_rounded, task_count, task_range
from max.algorithm import sync_parallelize
from std.math import ceildiv


@always_inline
def dot_block[
    dtype: DType
](x: Ptr[dtype], block: Ptr[dtype], k: Int) -> SIMD[DType.float32, LANES]:
    """Returns sixteen outputs of one row: x [k] times one packed block."""
    var acc = SIMD[DType.float32, LANES](0)
    comptime if dtype == DType.bfloat16:
        for p in range(ceildiv(k, 2)):
            var pair = (
                block.unsafe_load[width=2 * LANES](p * 2 * LANES)
                .cast[DType.float32]()
                .deinterleave()
            )
            acc = pair[0].fma(x[unsafe_offset=2 * p].cast[DType.float32](), acc)
            if 2 * p + 1 < k:
                acc = pair[1].fma(
                    x[unsafe_offset=2 * p + 1].cast[DType.float32](), acc
                )
    else:
        for i in range(k):
            var w = block.unsafe_load[width=LANES](i * LANES).cast[
                DType.float32
            ]()
            acc = w.fma(x[unsafe_offset=i].cast[DType.float32](), acc)
    return acc


def linear_cpu[
    dtype: DType, out_dtype: DType
](y: Ptr[out_dtype], x: Ptr[dtype], w: Ptr[dtype], m: Int, n: Int, k: Int):
    """Writes y [m, n] = x [m, k] @ w.T; w is the packed matrix of n rows and k columns.
    """
    var blocks = ceildiv(n, LANES)
    var block_size = (
        ceildiv(k, 2) * 2 * LANES if dtype == DType.bfloat16 else k * LANES
    )
    var tasks = min(blocks, task_count(m * n * k // 4))

    def run(
        task: Int,
    ) {
        var y,
        var x,
        var w,
        var m,
        var n,
        var k,
        var blocks,
        var block_size,
        var tasks,
    }:
        var first, last = task_range(task, tasks, blocks)
        for b in range(first, last):
            for row in range(m):
                var acc = dot_block(
                    x.unsafe_offset(row * k), w.unsafe_offset(b * block_size), k
                )
                var at = row * n + b * LANES
                if (b + 1) * LANES <= n:
                    store_rounded(y, at, acc)
                else:
                    for i in range(n - b * LANES):
                        y[unsafe_offset=at + i] = acc[i].cast[out_dtype]()

    sync_parallelize(run, tasks)
