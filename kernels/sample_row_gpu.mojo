"""A row of logits as a block of threads sees it while it filters: the bounds of top-k and top-p, and what they keep.

The search for a bound is described in sample_filter.mojo. A weight is one exp2 of a logit, computed anew in every pass.
"""

from std.math import exp2

from max.gpu import WARP_SIZE, barrier, lane_id, thread_idx
from max.gpu.memory import AddressSpace
from max.gpu.primitives import warp

from .common import Ptr
from .gpu_common import SharedPtr, warp_index
from .sample_chunks_gpu import CHUNK, Four, four
from .sample_filter import ABOVE_ONE, as_float

comptime THREADS = 512
comptime WARPS = THREADS // WARP_SIZE
comptime UNROLL = 4
"""Vectors that a thread loads before it uses the first."""


struct Row[aligned: Bool](TrivialRegisterPassable):
    """One row of logits, seen as weights 2^((logit - top) scale); a block of THREADS has it.
    """

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
    def weights(self, e: Int) -> Four:
        var v = four[Self.aligned](
            self.logits.as_unsafe_any_origin(), self.cols, e
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
        comptime step = 4 * THREADS
        var own = Float32(0)
        for start in range(Int(thread_idx.x) * 4, self.cols, UNROLL * step):
            comptime for u in range(UNROLL):
                var w = self.weights(start + u * step)
                comptime for i in range(4):
                    if w[i] >= least and start + u * step + i < self.cols:
                        own += Float32(1) if counting else w[i]
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
            for e in range(Int(thread_idx.x) * 4, self.cols, THREADS * 4):
                var w = self.weights(e)
                comptime for i in range(4):
                    if w[i] == value and e + i <= middle:
                        own += 1
            if self.total(own) >= wanted:
                high = middle
            else:
                low = middle
        return high

    def chunk_sum(self, chunk: Int, least: Float32, last: Int) -> Float32:
        """The sum of what is kept of a chunk; a warp computes it, and every lane gets it.
        """
        var sum = Float32(0)
        var first = chunk * CHUNK + Int(lane_id()) * 4
        for start in range(first, first + CHUNK, UNROLL * 4 * WARP_SIZE):
            comptime for u in range(UNROLL):
                var e = start + u * 4 * WARP_SIZE
                sum += kept(self.weights(e), e, least, last).reduce_add()
        return warp.sum(sum)

    def limits(
        self, top_k: Int, top_p: Float32, min_p: Float32
    ) -> Tuple[Float32, Int]:
        """What the filters keep: the least weight, and of those that equal it the last index.
        """
        var boundary = 0
        var equals = Float32(self.cols)
        var limited = top_k > 0 and top_k < self.cols
        if limited:
            boundary = self.boundary(Float32(top_k), True, 0)
            equals = Float32(top_k) - self.from_on(as_float(boundary + 1), True)
        if top_p < 1:
            var whole = self.from_on(as_float(boundary + 1), False)
            if limited:
                whole += equals * as_float(boundary)
            var low = self.boundary(top_p * whole, False, boundary)
            var missing = top_p * whole - self.from_on(as_float(low + 1), False)
            var needed = Float32(self.cols)
            if low > 0:
                needed = max(Float32(1), (missing / as_float(low)).__ceil__())
            equals = min(equals, needed) if low == boundary else needed
            boundary = low
        var least = as_float(boundary)
        if min_p > least:
            return (min_p, self.cols)
        if (
            boundary > 0
            and self.from_on(least, True)
            - self.from_on(as_float(boundary + 1), True)
            > equals
        ):
            return (least, self.last_equal(least, equals))
        return (least, self.cols)


@always_inline
def kept(w: Four, e: Int, least: Float32, last: Int) -> Four:
    """Weights from index `e` on, 0 where a filter takes them away."""
    var result = w
    comptime for i in range(4):
        if w[i] < least or (w[i] == least and e + i > last):
            result[i] = 0
    return result
