"""A row of logits as a block of threads sees it: its weights 2^((logit - top) scale), chunk by chunk.

A weight is one exp2 of a logit, computed anew in every pass. A chunk none of whose weights a pass asks for is left out:
its maximum, which the chunk kernel has left, says so.
"""

from std.bit import count_trailing_zeros
from std.math import exp2
from std.memory import stack_allocation

from max.gpu import WARP_SIZE, lane_id
from max.gpu.primitives import warp

from .common import Ptr
from .gpu_common import Registers, warp_index
from .sample_chunks_gpu import (
    CHUNK,
    STEPS,
    STRIDE,
    Four,
    chunk_base,
    four,
)
from .sample_find_gpu import WARPS, Weights

comptime TURNS = Int32(WARPS * WARP_SIZE)
"""Chunks that the lanes of a block look at together."""
comptime LANES_MASK = DType.uint32 if WARP_SIZE == 32 else DType.uint64
"""A bit a lane."""
comptime MARGIN = Float32(1 + 1.0 / 1024)
"""As exp2 may be off by a rounding, and then a smaller logit have the greater weight."""


@fieldwise_init
struct Kept(TrivialRegisterPassable):
    """What the filters leave: weights above `least`, and those that equal it up to index `last`.
    """

    var least: Float32
    var last: Int32

    @always_inline
    def weight(self, w: Float32, e: Int32) -> Float32:
        """The weight w of index e, 0 where a filter takes it away."""
        return 0 if w < self.least or (w == self.least and e > self.last) else w


struct Row[aligned: Bool](Weights):
    """One row of logits; as `Weights`, its chunks: of a greedy row, whose scale is 0, 1 if it holds the maximum.
    """

    var logits: Pointer[Float32, MutUntrackedOrigin]
    var stats: Pointer[Float32, MutUntrackedOrigin]
    var cols: Int32
    var chunks: Int32
    var top: Float32
    var scale: Float32

    def __init__(
        out self,
        logits: Ptr[DType.float32],
        stats: Ptr[DType.float32],
        cols: Int32,
        chunks: Int32,
        top: Float32,
        scale: Float32,
    ):
        self.logits = logits.unsafe_origin_cast[MutUntrackedOrigin]()
        self.stats = stats.unsafe_origin_cast[MutUntrackedOrigin]()
        self.cols = cols
        self.chunks = chunks
        self.top = top
        self.scale = scale

    @always_inline
    def greatest(self, chunk: Int32) -> Float32:
        """The greatest weight of a chunk."""
        return exp2(
            (self.stats[unsafe_offset=2 * Int(chunk)] - self.top) * self.scale
        )

    @always_inline
    def at(self, i: Int32) -> Float32:
        """The sum of the weights of a chunk."""
        if self.scale == 0:
            return 1 if self.stats[unsafe_offset=2 * Int(i)] == self.top else 0
        return self.stats[unsafe_offset=2 * Int(i) + 1] * self.greatest(i)

    @always_inline
    def reaching(self, start: Int32, least: Float32) -> Scalar[LANES_MASK]:
        """Which chunks of a warp's turn from chunk `start` on may have a weight that is `least` or more; a bit each.
        """
        var own = self.chunk(start, Int32(lane_id()))
        var reaches = False
        if own < self.chunks:
            reaches = self.greatest(own) * MARGIN >= least
        return warp.vote[LANES_MASK](reaches)

    @always_inline
    def chunk(self, start: Int32, turn: Int32) -> Int32:
        """The chunk of a warp at its turn: the warps of a block take turns."""
        return start + turn * Int32(WARPS) + Int32(warp_index())

    @always_inline
    def load(self, chunk: Int32, weights: Registers[DType.float32, 4]):
        """Gives the lanes of a warp the weights of a chunk, STEPS vectors STRIDE apart.
        """
        comptime for i in range(STEPS):
            weights[unsafe_offset=i] = four[Self.aligned](
                self.logits.as_unsafe_any_origin(),
                self.cols,
                self.first(chunk) + Int32(i * STRIDE),
            )
        comptime for i in range(STEPS):
            weights[unsafe_offset=i] = exp2(
                (weights[unsafe_offset=i] - self.top) * self.scale
            )

    @always_inline
    def first(self, chunk: Int32) -> Int32:
        """The index of the first weight that a lane has of a chunk."""
        return chunk * Int32(CHUNK) + Int32(lane_id()) * 4

    @always_inline
    def sum_kept(self, kept: Kept):
        """Makes the sums of the chunks those of what is kept; a block barrier must follow.
        """
        for start in range(Int32(0), self.chunks, TURNS):
            var mask = self.reaching(start, kept.least)
            var own = self.chunk(start, Int32(lane_id()))
            if (
                own < self.chunks
                and (mask >> Scalar[LANES_MASK](lane_id())) & 1 == 0
            ):
                self.put(own, 0)
            while mask != 0:
                var chunk = self.chunk(start, Int32(count_trailing_zeros(mask)))
                mask &= mask - 1
                var weights = stack_allocation[STEPS, Four]()
                self.load(chunk, weights)
                var sum = Float32(0)
                comptime for i in range(STEPS):
                    comptime for j in range(4):
                        sum += kept.weight(
                            weights[unsafe_offset=i][j],
                            self.first(chunk) + Int32(i * STRIDE + j),
                        )
                sum = warp.sum(sum)
                if lane_id() == 0:
                    self.put(chunk, sum)

    @always_inline
    def put(self, chunk: Int32, sum: Float32):
        """Makes `sum` that of a chunk."""
        self.stats.unsafe_store[width=2, alignment=8](
            2 * Int(chunk), SIMD[DType.float32, 2](self.top, sum)
        )


struct Ids(Weights):
    """The weights that are kept of the ids of a chunk, relative to the chunk's maximum: of a greedy row 1 if the logit is
    the maximum.
    """

    var logits: Pointer[Float32, MutUntrackedOrigin]
    var first: Int32
    var cols: Int32
    var base: Float32
    var scale: Float32
    var kept: Kept

    def __init__[
        aligned: Bool
    ](out self, row: Row[aligned], chunk: Int32, kept: Kept):
        self.logits = row.logits
        self.first = chunk * Int32(CHUNK)
        self.cols = row.cols
        self.base = (
            chunk_base(row.stats[unsafe_offset=2 * Int(chunk)]) if row.scale
            > 0 else row.top
        )
        self.scale = row.scale
        self.kept = kept

    @always_inline
    def at(self, i: Int32) -> Float32:
        var e = self.first + i
        if e >= self.cols:
            return 0
        var v = self.logits[unsafe_offset=Int(e)]
        if self.scale == 0:
            return 1 if v == self.base else 0
        return self.kept.weight(exp2((v - self.base) * self.scale), e)
