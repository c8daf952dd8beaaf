"""Linear, step 5: packed weights (docs/architecture.md), and sums of four blocks in registers.

    block b, pair p:   w[16 b + lane, 2 p], w[16 b + lane, 2 p + 1]      one 512-bit register: 16 outputs x 2 inputs

The lanes are outputs, so no lane is ever added to another, and a core reads one contiguous stream of whole registers.
A pair is widened by a shift (the even input) and a mask (the odd one): a bfloat16 is the upper half of a float32.

Step 6 is the same with KIND = DOT_BFLOAT16: one `vdpbf16ps` does what the shift, the mask and two multiply-adds did.
"""

from ..common import LANES, Ptr, task_range
from ..fork_join import Held, Job, fork_join, hold
from ..linear_tile import (
    DOT_BFLOAT16,
    Sums,
    Units,
    dot_pairs,
    first_of_pair,
    second_of_pair,
)
from max.runtime.asyncrt import parallelism_level
from std.collections import Array
from std.math import ceildiv


@always_inline
def blocks_of_row[
    kind: Int, BLOCKS: Int
](
    y: Held[DType.float32],
    x: Held[DType.bfloat16],
    w: Held[DType.int32],
    k: Int,
    outputs: Int,
):
    """Writes y [outputs] = x [k] times BLOCKS packed blocks; outputs is at most 16 BLOCKS.
    """
    var pairs = ceildiv(k, 2)
    var sums = Array[Sums, BLOCKS](fill=Sums(0))
    for p in range(pairs):
        var first = x[unsafe_offset=2 * p]
        var second = x[unsafe_offset=2 * p + 1] if 2 * p + 1 < k else BFloat16(
            0
        )
        comptime for b in range(BLOCKS):
            var weights = w.unsafe_load[width=LANES]((b * pairs + p) * LANES)
            comptime if kind == DOT_BFLOAT16:
                var pair = (
                    Int32(first.to_bits()) | Int32(second.to_bits()) << 16
                )
                sums[b] = dot_pairs(sums[b], Units(pair), weights)
            else:
                sums[b] = first_of_pair(weights).fma(
                    Sums(first.cast[DType.float32]()), sums[b]
                )
                sums[b] = second_of_pair(weights).fma(
                    Sums(second.cast[DType.float32]()), sums[b]
                )
    comptime for b in range(BLOCKS):
        if (b + 1) * LANES <= outputs:
            y.unsafe_store(b * LANES, sums[b])
        else:
            for i in range(outputs - b * LANES):
                y[unsafe_offset=b * LANES + i] = sums[b][i]


@fieldwise_init
struct PackedJob[kind: Int](Job):
    """The arguments of `linear`; a task is a range of blocks."""

    var y: Held[DType.float32]
    var x: Held[DType.bfloat16]
    var w: Held[DType.int32]
    var m: Int
    var n: Int
    var k: Int
    var tasks: Int

    def run(self, task: Int):
        var block, last = task_range(task, self.tasks, ceildiv(self.n, LANES))
        while block < last:
            var wide = block + 4 <= last
            for row in range(self.m):
                var y = self.y.unsafe_offset(row * self.n + block * LANES)
                var x = self.x.unsafe_offset(row * self.k)
                var w = self.w.unsafe_offset(block * ceildiv(self.k, 2) * LANES)
                var outputs = self.n - block * LANES
                if wide:
                    blocks_of_row[Self.kind, 4](y, x, w, self.k, outputs)
                else:
                    blocks_of_row[Self.kind, 1](y, x, w, self.k, outputs)
            block += 4 if wide else 1


def linear[
    kind: Int
](
    y: Ptr[DType.float32],
    x: Ptr[DType.bfloat16],
    w: Ptr[DType.bfloat16],
    m: Int,
    n: Int,
    k: Int,
):
    """Writes y [m, n] = x [m, k] times packed w."""
    var tasks = min(ceildiv(n, LANES), parallelism_level(None))
    fork_join(
        PackedJob[kind](
            hold(y),
            hold(x),
            hold(w.unsafe_bitcast[Int32]()),
            m,
            n,
            k,
            tasks,
        ),
        tasks,
    )
