"""A row of logits as a block of threads sees it while it samples: sums over what stands above a bound, and the draw.

The search for the bound of top-k and top-p is described in sample_gpu.mojo.
"""

from std.math import exp2
from std.memory import bitcast, stack_allocation

from max.gpu import WARP_SIZE, barrier, lane_id, thread_idx
from max.gpu.memory import AddressSpace
from max.gpu.primitives import warp

from .argmax_gpu import THREADS
from .common import Ptr
from .gpu_common import SharedPtr, load_vector, warp_index
from .sample_filter import ABOVE_ONE

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
