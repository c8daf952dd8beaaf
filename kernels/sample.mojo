"""Sampling: temperature, top-k, top-p, min-p, and a draw with a given random number.

    w[v] = exp((logits[v] - max logits) / temperature)                      logits [L, V] float32, tokens [L]
    kept = the top_k greatest w, of them the fewest that reach top_p of their sum, of them those from min_p on
    token = the first v at which the sum of kept w[0..v] passes random * (sum of kept w)

Each row has five parameters: temperature (0: argmax), top_k (0: all), top_p, min_p, random in [0, 1).

    logits  #####################   one pass: maximum
    w       ..:.:|.::|:..|.:|::..   one pass: weights into scratch, V float32 of this core's
    kept       : |  :|   |  |:      31 passes: the boundary, by bisection over the bits of a float32
    draw    +++++|++^                sums of 256, then one by one where the target lies

Weights lie in [0, 1], where the order of floats is the order of their bits. So "the greatest t such that k weights, or
enough of their sum, are at least t" is a search over whole numbers, and sorting is never needed. A request without
filters pays none of the 31 passes. Of equal weights at the boundary those with the lowest index are kept.

The ladder (kernels/steps/, `python -m benchmarks.ladder sample`): microseconds for V = 151,936, temperature 0.7, top-k 40,
top-p 0.9, on two cores of an AMD EPYC (Zen 4):

    rows                                     1          8
    sort the vocabulary                  8,258     67,222
    count: bisection, 16 lanes             462      3,742
    all cores (this file)                  462      1,882
    PyTorch 2.13                           307      1,003     `topk`, then the rest on 40 values: the better idea here
"""

from .argmax import argmax_row
from .common import LANES, Ptr, task_count, task_range
from .fork_join import Held, Job, fork_join, hold
from std.math import ceildiv, exp
from std.utils.numerics import isfinite, nan
from std.memory import bitcast
from std.memory.alloc import unsafe_alloc

comptime FIELDS = 5
"""Parameters of a row: temperature, top_k, top_p, min_p, random."""
comptime BLOCK = 256
comptime ABOVE_ONE = 0x3F800001
"""The bits of the first float above 1: no weight reaches it."""
comptime Lanes = SIMD[DType.float32, LANES]


@always_inline
def as_float(bits: Int) -> Float32:
    return bitcast[DType.float32, 1](Int32(bits))


def greatest(logits: Ptr[DType.float32], width: Int) -> Float32:
    """Returns the greatest of `width` values, NaN if there is one."""
    var best = Lanes(Float32.MIN)
    var sane = SIMD[DType.bool, LANES](fill=True)
    var full = width // LANES * LANES
    for i in range(0, full, LANES):
        var v = logits.unsafe_load[width=LANES](i)
        best = v.gt(best).select(v, best)
        sane = sane & v.eq(v)
    var top = best.reduce_max()
    for i in range(full, width):
        var v = logits[unsafe_offset=i]
        if v > top:
            top = v
        if v != v:
            sane = SIMD[DType.bool, LANES](fill=False)
    return top if sane.reduce_and() else nan[DType.float32]()


def count_from(w: Ptr[DType.float32], padded: Int, least: Float32) -> Int:
    """Returns how many weights are at least `least`."""
    var total = SIMD[DType.int32, LANES](0)
    for i in range(0, padded, LANES):
        var inside = w.unsafe_load[width=LANES](i).ge(Lanes(least))
        total += inside.cast[DType.int32]()
    return Int(total.reduce_add())


def mass_from(w: Ptr[DType.float32], padded: Int, least: Float32) -> Float32:
    """Returns the sum of the weights that are at least `least`."""
    var total = Lanes(0)
    for i in range(0, padded, LANES):
        var v = w.unsafe_load[width=LANES](i)
        total += v.ge(Lanes(least)).select(v, Lanes(0))
    return total.reduce_add()


def keep(w: Ptr[DType.float32], padded: Int, boundary: Float32, equals: Int):
    """Sets to 0 what lies below `boundary`, and of what equals it all but the first `equals`.
    """
    var left = equals
    for i in range(0, padded, LANES):
        var v = w.unsafe_load[width=LANES](i)
        var kept = v.gt(Lanes(boundary)).select(v, Lanes(0))
        if left > 0 and v.eq(Lanes(boundary)).reduce_or():
            for lane in range(LANES):
                if v[lane] == boundary and left > 0:
                    kept[lane] = boundary
                    left -= 1
        w.unsafe_store(i, kept)


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


def filter_weights(
    w: Ptr[DType.float32],
    width: Int,
    padded: Int,
    top_k: Int,
    top_p: Float32,
    min_p: Float32,
):
    """Sets to 0 the weights that the filters take away."""
    var boundary = 0
    var equals = width
    var whole = mass_from(w, padded, 0)
    if 0 < top_k < width:
        var low = 0
        var high = ABOVE_ONE
        while high - low > 1:
            var middle = (low + high) // 2
            if count_from(w, padded, as_float(middle)) >= top_k:
                low = middle
            else:
                high = middle
        boundary = low
        equals = top_k - count_from(w, padded, as_float(low + 1))
        whole = mass_from(w, padded, as_float(low + 1)) + Float32(
            equals
        ) * as_float(low)
    if top_p < 1:
        var goal = top_p * whole
        var low = boundary
        var high = ABOVE_ONE
        while high - low > 1:
            var middle = (low + high) // 2
            if mass_from(w, padded, as_float(middle)) >= goal:
                low = middle
            else:
                high = middle
        var missing = goal - mass_from(w, padded, as_float(low + 1))
        var needed = (
            max(1, Int(ceildiv(missing, as_float(low)))) if low > 0 else width
        )
        equals = min(equals, needed) if low == boundary else needed
        boundary = low
    if min_p > as_float(boundary):
        keep(w, padded, min_p, width)
    elif boundary > 0:
        keep(w, padded, as_float(boundary), equals)


def sample_row(
    logits: Ptr[DType.float32],
    width: Int,
    fields: Ptr[DType.float32],
    w: Ptr[DType.float32],
) -> Int32:
    """Returns the token of one row; `w` is scratch of `width` rounded up to whole blocks.
    """
    var temperature = fields[unsafe_offset=0]
    if temperature <= 0:
        return argmax_row(logits, width)
    var padded = ceildiv(width, BLOCK) * BLOCK
    var top = greatest(logits, width)
    if not isfinite(top):
        return -1
    var full = width // LANES * LANES
    for i in range(0, full, LANES):
        var v = (logits.unsafe_load[width=LANES](i) - top) / temperature
        w.unsafe_store(i, exp(v))
    for i in range(full, padded):
        w[unsafe_offset=i] = 0
    for i in range(full, width):
        w[unsafe_offset=i] = exp((logits[unsafe_offset=i] - top) / temperature)
    var top_k = Int(fields[unsafe_offset=1])
    var top_p = fields[unsafe_offset=2]
    var min_p = fields[unsafe_offset=3]
    if 0 < top_k < width or top_p < 1 or min_p > 0:
        filter_weights(w, width, padded, top_k, top_p, min_p)
    return draw(w, padded, fields[unsafe_offset=4])


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
        var scratch = unsafe_alloc[Float32](ceildiv(self.width, BLOCK) * BLOCK)
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
