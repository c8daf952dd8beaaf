"""Sampling: temperature, top-k, top-p, min-p, and a draw with a given random number.

    w[v] = exp((logits[v] - max logits) / temperature)                      logits [L, V] float32, tokens [L]
    kept = the top_k greatest w, of them the fewest that reach top_p of their sum, of them those from min_p on
    token = the first v at which the sum of kept w[0..v] passes random * (sum of kept w)

Each row has five parameters: temperature (0: argmax), top_k (0: all), top_p, min_p, random in [0, 1).

    logits  #####################   one pass: the maximum of each block of 256
    maxima  :   .   |   :   |       the k-th greatest is at most the k-th greatest logit: blocks below it are left out
    w               :|. .:..|::     weights of the blocks that are left
    kept             |   :  |       the boundary, by bisection over the bits of a float32 (`sample_filter.mojo`)
    draw            ++++++^          sums of 256, then one by one where the target lies

With top-k, about k blocks are left, and what bisection reads often is small. Without it every weight counts towards the
sum of which top-p is a part; then the registers with no weight near the boundary are left out of the bisection alone.
What is left out would add zeros: tokens are the same as without, to the bit (`kernels/steps/sample_count.mojo`).

The ladder (kernels/steps/, `python -m benchmarks.ladder sample`): microseconds for V = 151,936, temperature 0.7, top-k 40,
top-p 0.9, on two cores of an AMD EPYC (Zen 5):

    rows                                     1          8
    sort the vocabulary                  7,600     62,626
    count: bisection, 16 lanes             307      2,469
    only blocks that matter               20.6        163     reading the logits once is the greater part
    all cores (this file)                 20.7       83.9
    PyTorch 2.13                           172        647     `topk`, then the rest on 40 values
"""

from .argmax import argmax_row
from .common import LANES, Ptr, task_count, task_range
from .fork_join import Held, Job, fork_join, hold
from .sample_filter import (
    Boundary,
    Lanes,
    as_float,
    compact,
    count_from,
    find_boundary,
    keep_boundary,
    mass_from,
)
from .sample_weights import BLOCK, block_maxima, greatest, weigh, weigh_blocks
from std.math import align_up, ceildiv
from std.memory.alloc import unsafe_alloc
from std.utils.numerics import isfinite

comptime FIELDS = 5
"""Parameters of a row: temperature, top_k, top_p, min_p, random."""
comptime FEW = [0x3C800000, 0x39800000]
"""Bits of 2^-6 and 2^-12: weights from there on are few, and often reach top_p."""


def draw(w: Ptr[DType.float32], padded: Int, random: Float32) -> Int32:
    """Returns the first index at which the running sum passes `random` times the whole; -1 if there is no sum.
    """
    var total = Float64(0)
    for start in range(0, padded, BLOCK):
        total += Float64(block_sum(w, start))
    var target = total * Float64(random)
    # BEGIN SOLUTION 12.6
    var passed = Float64(0)
    var last = Int32(-1)
    for start in range(0, padded, BLOCK):
        var after = passed + Float64(block_sum(w, start))
        if after > target:
            for i in range(start, start + BLOCK):
                if w[unsafe_offset=i] > 0:
                    last = Int32(i)
                    passed += Float64(w[unsafe_offset=i])
                    if passed > target:
                        break
            return last  # rounding may leave the last one with a weight
        passed = after
    return last
    # END SOLUTION


@always_inline
def block_sum(w: Ptr[DType.float32], start: Int) -> Float32:
    var total = Lanes(0)
    for i in range(start, start + BLOCK, LANES):
        total += w.unsafe_load[width=LANES](i)
    return total.reduce_add()


@always_inline
def scratch_size(width: Int) -> Int:
    """Floats of scratch that a row needs: weights, those of them that are read often, maxima and places of the blocks.
    """
    var blocks = ceildiv(width, BLOCK)
    return 2 * blocks * BLOCK + 2 * align_up(blocks, LANES)


def sample_row(
    logits: Ptr[DType.float32],
    width: Int,
    fields: Ptr[DType.float32],
    scratch: Ptr[DType.float32],
) -> Int32:
    """Returns the token of one row; `scratch` holds `scratch_size(width)` floats.
    """
    var temperature = fields[unsafe_offset=0]
    if temperature <= 0:
        return argmax_row(logits, width)
    var blocks = ceildiv(width, BLOCK)
    var w = scratch
    var often = w.unsafe_offset(blocks * BLOCK)
    var maxima = often.unsafe_offset(blocks * BLOCK)
    var top_k = Int(fields[unsafe_offset=1])
    var in_few_blocks = 0 < top_k < width and top_k <= blocks
    var top = block_maxima(
        logits, width, maxima
    ) if in_few_blocks else greatest(logits, width)
    if not isfinite(top):
        return -1
    var top_p = fields[unsafe_offset=2]
    var min_p = fields[unsafe_offset=3]
    var random = fields[unsafe_offset=4]
    if in_few_blocks:
        var places = maxima.unsafe_offset(
            align_up(blocks, LANES)
        ).unsafe_bitcast[Int32]()
        var size, bits = weigh_blocks(
            logits, width, top, temperature, top_k, maxima, w, places
        )
        if size > 0:
            var few = compact(w, size, as_float(bits), often)
            keep_boundary(
                w,
                size,
                find_boundary(often, few, width, 0, top_k, top_p, bits),
                min_p,
            )
            var at = draw(w, size, random)
            if at < 0:
                return at
            return places[unsafe_offset=Int(at) // BLOCK] * BLOCK + at % BLOCK
    var padded = blocks * BLOCK
    weigh(logits, width, top, temperature, w)
    if 0 < top_k < width or top_p < 1 or min_p > 0:
        keep_boundary(
            w,
            padded,
            all_filtered(w, padded, width, top_k, top_p, often),
            min_p,
        )
    return draw(w, padded, random)


def all_filtered(
    w: Ptr[DType.float32],
    padded: Int,
    width: Int,
    top_k: Int,
    top_p: Float32,
    often: Ptr[DType.float32],
) -> Boundary:
    """Returns the boundary when the weights of the whole row are there; `often` is scratch of as many floats.
    """
    var whole = mass_from(w, padded, 0)
    var limited = 0 < top_k < width
    if limited or top_p < 1:
        comptime for bits in FEW:
            comptime least = as_float(bits)
            if (limited and count_from(w, padded, least) >= top_k) or (
                not limited and mass_from(w, padded, least) >= top_p * whole
            ):
                var few = compact(w, padded, least, often)
                return find_boundary(
                    often, few, width, whole, top_k, top_p, bits
                )
    return find_boundary(w, padded, width, whole, top_k, top_p)


@fieldwise_init
struct SampleJob(Job):
    """The arguments of `sample_cpu`; a task is a range of rows."""

    var tokens: Held[DType.int32]
    var logits: Held[DType.float32]
    var fields: Held[DType.float32]
    var rows: Int
    var width: Int
    var tasks: Int

    def run(self, task: Int):
        var scratch = unsafe_alloc[Float32](scratch_size(self.width))
        var first, last = task_range(task, self.tasks, self.rows)
        for t in range(first, last):
            self.tokens[unsafe_offset=t] = sample_row(
                self.logits.as_unsafe_any_origin().unsafe_offset(
                    t * self.width
                ),
                self.width,
                self.fields.as_unsafe_any_origin().unsafe_offset(t * FIELDS),
                scratch.as_unsafe_any_origin(),
            )
        scratch.unsafe_free()


def sample_cpu(
    tokens: Ptr[DType.int32],
    logits: Ptr[DType.float32],
    fields: Ptr[DType.float32],
    rows: Int,
    width: Int,
):
    """Writes tokens [rows] from logits [rows, width] and fields [rows, FIELDS].
    """
    var tasks = min(rows, task_count(rows * width))
    fork_join(
        SampleJob(hold(tokens), hold(logits), hold(fields), rows, width, tasks),
        tasks,
    )
