"""Sampling on the GPU: temperature, top-k, top-p, min-p and a draw; the mathematics stands in sample.mojo.

One block of 1024 threads has one row. Nothing is stored between passes: a weight is one exp2 of a logit, and the logits
of all rows of a decode step stay in the second-level cache for the most part.

    passes over the row:  1 maximum (with its index: temperature 0 ends here)
                          2 sums, tile by tile in the order of ids, until the tile in which the target lies
                         31 more for each of top-k and top-p: bisection over the bits of the boundary

Sums add up in the same order every time: a thread its elements, shuffles within a warp, the warps in order. So the same
logits and random number give the same token.
"""

from std.math import exp2
from std.memory import bitcast, stack_allocation

from max.gpu import WARP_SIZE, barrier, block_idx, lane_id, thread_idx
from max.gpu.host import DeviceContext
from max.gpu.memory import AddressSpace
from max.gpu.primitives import warp

from .argmax_gpu import LOWEST, THREADS, better, warp_best
from .common import Ptr
from .gpu_common import SharedPtr, load_vector, warp_index
from .sample import ABOVE_ONE, FIELDS

comptime WARPS = THREADS // WARP_SIZE
comptime LOG2_E = Float32(1.4426950408889634)


struct Row[width: Int](TrivialRegisterPassable):
    """One row of logits, seen as weights exp((logit - top) / temperature)."""

    var logits: Pointer[Float32, MutUntrackedOrigin]
    var cols: Int
    var top: Float32
    var scale: Float32
    var sums: Pointer[
        Float32, MutUntrackedOrigin, address_space=AddressSpace.SHARED
    ]

    def __init__(
        out self,
        logits: Ptr[DType.float32],
        cols: Int,
        top: Float32,
        scale: Float32,
        sums: SharedPtr[DType.float32],
    ):
        self.logits = logits.unsafe_origin_cast[MutUntrackedOrigin]()
        self.cols = cols
        self.top = top
        self.scale = scale
        self.sums = sums.unsafe_origin_cast[MutUntrackedOrigin]()

    @always_inline
    def weights(self, e: Int) -> SIMD[DType.float32, Self.width]:
        var v = load_vector[DType.float32, Self.width](
            self.logits.as_unsafe_any_origin(), e
        )
        return exp2((v - self.top) * self.scale)

    @always_inline
    def total(self, value: Float32) -> Float32:
        """Sums over the block; every thread gets the sum. May be called any number of times.
        """
        var partial = warp.sum(value)
        if lane_id() == 0:
            self.sums[unsafe_offset=warp_index()] = partial
        barrier()
        var total = Float32(0)
        comptime for i in range(WARPS):
            total += self.sums[unsafe_offset=i]
        barrier()
        return total

    def from_on(self, least: Float32, counting: Bool) -> Float32:
        """The number, or the sum, of the weights that are at least `least`."""
        var own = Float32(0)
        var e = Int(thread_idx.x) * Self.width
        while e < self.cols:
            var w = self.weights(e)
            comptime for i in range(Self.width):
                if w[i] >= least:
                    own += Float32(1) if counting else w[i]
            e += THREADS * Self.width
        return self.total(own)

    def boundary(self, goal: Float32, counting: Bool, lowest: Int) -> Int:
        """Bits of the greatest weight from which on number or sum reach `goal`; at least `lowest`.
        """
        var low = lowest
        var high = ABOVE_ONE
        while high - low > 1:
            var middle = (low + high) // 2
            if self.from_on(as_float(middle), counting) >= goal:
                low = middle
            else:
                high = middle
        return low

    def last_equal(self, value: Float32, wanted: Float32) -> Int:
        """The index up to which `wanted` weights equal `value`; all if there are not more.
        """
        var low = -1
        var high = self.cols
        while high - low > 1:
            var middle = (low + high) // 2
            var own = Float32(0)
            var e = Int(thread_idx.x) * Self.width
            while e < self.cols:
                var w = self.weights(e)
                comptime for i in range(Self.width):
                    if w[i] == value and e + i <= middle:
                        own += 1
                e += THREADS * Self.width
            if self.total(own) >= wanted:
                high = middle
            else:
                low = middle
        return high

    @always_inline
    def kept(
        self, e: Int, least: Float32, last: Int
    ) -> SIMD[DType.float32, Self.width]:
        """Weights from `e` on, 0 where a filter takes them away."""
        var w = SIMD[DType.float32, Self.width](0)
        if e < self.cols:
            w = self.weights(e)
            comptime for i in range(Self.width):
                if w[i] < least or (w[i] == least and e + i > last):
                    w[i] = 0
        return w

    def draw(self, least: Float32, last: Int, random: Float32) -> Int32:
        """The token at which the sum of the kept weights passes `random` of the whole; -1 without a sum.

        Thread 0 returns it.
        """
        comptime tile = THREADS * Self.width
        var mine = Int(thread_idx.x) * Self.width
        var whole = Float32(0)
        for start in range(0, self.cols, tile):
            whole += self.total(
                self.kept(start + mine, least, last).reduce_add()
            )
        var target = random * whole
        var passed = Float32(0)
        var each = stack_allocation[
            THREADS, Float32, address_space=AddressSpace.SHARED
        ]()
        var token = Int32(-1)
        for start in range(0, self.cols, tile):
            var own = self.kept(start + mine, least, last).reduce_add()
            var after = passed + self.total(own)
            if after > target:
                each[unsafe_offset=Int(thread_idx.x)] = own
                barrier()
                if thread_idx.x == 0:
                    # The last thread with a weight, should rounding let the sum end short of the target.
                    var at = -1
                    for t in range(THREADS):
                        var sum = each[unsafe_offset=t]
                        if sum > 0:
                            at = t
                            if passed + sum > target:
                                break
                            passed += sum
                    if at >= 0:
                        var w = self.kept(start + at * Self.width, least, last)
                        comptime for i in range(Self.width):
                            if w[i] > 0 and (token < 0 or passed <= target):
                                token = Int32(start + at * Self.width + i)
                                passed += w[i]
                return token
            passed = after
        return token


@always_inline
def as_float(bits: Int) -> Float32:
    return bitcast[DType.float32, 1](Int32(bits))


@__name(t"mili_sample_{width}")
def sample_kernel[
    width: Int
](
    tokens: Ptr[DType.int32],
    logits: Ptr[DType.float32],
    fields: Ptr[DType.float32],
    cols_: Int32,
):
    """One block a row; `width` divides `cols`."""
    var cols = Int(cols_)
    var row = Int(block_idx.x)
    var own = logits.unsafe_offset(row * cols)
    var value = LOWEST
    var index = Int32.MAX
    var e = Int(thread_idx.x) * width
    while e < cols:
        var v = load_vector[DType.float32, width](own, e)
        comptime for i in range(width):
            if v[i] > value:
                value = v[i]
                index = Int32(e + i)
        e += THREADS * width
    warp_best(value, index)
    var values = stack_allocation[
        WARPS, Float32, address_space=AddressSpace.SHARED
    ]()
    var indices = stack_allocation[
        WARPS, Int32, address_space=AddressSpace.SHARED
    ]()
    if lane_id() == 0:
        values[unsafe_offset=warp_index()] = value
        indices[unsafe_offset=warp_index()] = index
    barrier()
    value = LOWEST
    index = Int32.MAX
    comptime for i in range(WARPS):
        var other = values[unsafe_offset=i]
        var other_index = indices[unsafe_offset=i]
        if better(other, other_index, value, index):
            value = other
            index = other_index
    barrier()
    var at = fields.unsafe_offset(row * FIELDS)
    var temperature = at[unsafe_offset=0]
    if temperature <= 0:
        if thread_idx.x == 0:
            tokens[unsafe_offset=row] = index if index != Int32.MAX else 0
        return
    var sums = SharedPtr[DType.float32](unsafe_from_address=Int(values))
    var weights = Row[width](own, cols, value, LOG2_E / temperature, sums)
    var top_k = Int(at[unsafe_offset=1])
    var top_p = at[unsafe_offset=2]
    var min_p = at[unsafe_offset=3]
    var boundary = 0
    var equals = Float32(cols)
    var limited = top_k > 0 and top_k < cols
    if limited:
        boundary = weights.boundary(Float32(top_k), True, 0)
        equals = Float32(top_k) - weights.from_on(as_float(boundary + 1), True)
    if top_p < 1:
        var whole = weights.from_on(as_float(boundary + 1), False)
        if limited:
            whole += equals * as_float(boundary)
        var low = weights.boundary(top_p * whole, False, boundary)
        var missing = top_p * whole - weights.from_on(as_float(low + 1), False)
        var needed = Float32(cols)
        if low > 0:
            needed = max(Float32(1), (missing / as_float(low)).__ceil__())
        equals = min(equals, needed) if low == boundary else needed
        boundary = low
    var least = as_float(boundary)
    var last = cols
    if min_p > least:
        least = min_p
    elif (
        boundary > 0
        and weights.from_on(least, True)
        - weights.from_on(as_float(boundary + 1), True)
        > equals
    ):
        last = weights.last_equal(least, equals)
    var token = weights.draw(least, last, at[unsafe_offset=4])
    if thread_idx.x == 0:
        tokens[unsafe_offset=row] = token


def sample_gpu(
    tokens: Ptr[DType.int32],
    logits: Ptr[DType.float32],
    fields: Ptr[DType.float32],
    rows: Int,
    width: Int,
    ctx: DeviceContext,
) raises:
    """Writes tokens [rows] from logits [rows, width] and fields [rows, FIELDS].
    """
    if rows == 0:
        return
    if width % 4 == 0:
        ctx.enqueue_function[sample_kernel[4]](
            tokens,
            logits,
            fields,
            Int32(width),
            grid_dim=rows,
            block_dim=THREADS,
        )
    else:
        ctx.enqueue_function[sample_kernel[1]](
            tokens,
            logits,
            fields,
            Int32(width),
            grid_dim=rows,
            block_dim=THREADS,
        )
