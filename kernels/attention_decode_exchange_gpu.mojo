"""How a cluster of blocks joins what its warps have of one tile of heads: the warps of a block first, then the blocks.

Part s of S has of each head the greatest score m_s (in powers of two), the sum l_s of 2^(score - m_s), and the sum a_s [D]
of the values weighted by the same. With m the greatest of all m_s, and the result a part itself:

    m, l = sum_s l_s 2^(m_s - m), a = sum_s a_s 2^(m_s - m), and o = a / l at the end

    state of a warp      in place of its tiles: sums [heads][D + 4], stats [heads][2] (m_s, l_s)
    four elements        are joined over the warps by one thread, which sends them to the block that writes them
    eight u of a tile    8 elements of a head: u = head * D / 8 + d / 8, written by block u mod C of the C of the cluster
    places of a block    eights [u / C][C][8], stats [heads][C][2], and a barrier that counts their bytes

A block that is alone writes at once. D is a multiple of 8. (Eight requests of 512 keys, 32 query and 8 key/value heads: 9.2 us
when each warp sent its state to the blocks, 8.0 so.)
"""

from .attention_decode_products_gpu import F32, HeadsState, over_keys
from .attention_decode_tile_gpu import value_chunks
from .cluster_gpu import address_in_block, push
from .common import Ptr
from .gpu_common import Registers, Stage, lane_anew, warp_index
from .mbarrier_gpu import Barriers
from max.gpu import WARP_SIZE, thread_idx
from std.math import exp2
from std.memory import stack_allocation

comptime Floats = Stage[DType.float32]
comptime Four = SIMD[F32, 4]


def exchange_bytes(dim: Int, heads: Int, blocks: Int) -> Int:
    """Bytes of the places of a block, of a tile of `heads` heads."""
    if blocks == 1:
        return 0
    var eights = (heads * dim // 8 + blocks - 1) // blocks
    return (eights * 32 + heads * 8) * blocks


@fieldwise_init
struct Part(TrivialRegisterPassable):
    """Four elements of a head: of the sum of weighted values, with the greatest score and the sum of weights.
    """

    var sums: Four
    var greatest: Float32
    var total: Float32

    @always_inline
    def __init__(out self):
        self.sums = Four(0)
        self.greatest = Float32.MIN_FINITE
        self.total = 0

    @always_inline
    def add[
        count: Int
    ](
        mut self,
        sums: Floats,
        sums_step: Int,
        stats: Floats,
        stats_step: Int,
        parts: Int,
    ):
        """Adds `parts` parts, `count` of them at once: one after the other, each would wait for the one before.
        """
        for first in range(0, parts, count):
            var greatest = SIMD[F32, count](Float32.MIN_FINITE)
            var totals = SIMD[F32, count](0)
            var loaded = stack_allocation[count, Four]()
            comptime for u in range(count):
                var s = min(first + u, parts - 1)
                var pair = stats.unsafe_load[width=2, alignment=8](
                    s * stats_step
                )
                greatest[u] = pair[0]
                totals[u] = pair[1] if first + u < parts else Float32(0)
                loaded[unsafe_offset=u] = sums.unsafe_load[
                    width=4, alignment=16
                ](s * sums_step)
            var most = max(self.greatest, greatest.reduce_max())
            var factor = exp2(self.greatest - most)
            self.greatest = most
            self.sums *= factor
            self.total *= factor
            comptime for u in range(count):
                var weight = exp2(
                    greatest[u] - most
                ) if first + u < parts else Float32(0)
                self.sums += loaded[unsafe_offset=u] * weight
                self.total += totals[u] * weight

    @always_inline
    def store[dtype: DType](self, o: Ptr[dtype], at: Int):
        """Writes the result."""
        var result = self.sums / self.total if self.total > 0 else Four(0)
        o.unsafe_store[width=4, alignment=8](at, result.cast[dtype]())


@fieldwise_init
struct Exchange[D: Int, warps: Int](TrivialRegisterPassable):
    """The states of this block's warps, `step` floats apart, and the places of this block, number `rank` of 2^`shift`, for
    a tile of `heads` heads.
    """

    comptime ROW = Self.D + 4
    var states: Floats
    var step: Int
    var places: Floats
    var barrier: Barriers
    var rank: Int
    var shift: Int
    var heads: Int

    @always_inline
    def eights(self) -> Int:
        """How many eights this block writes."""
        var blocks = 1 << self.shift
        return (self.heads * (Self.D // 8) + blocks - 1 - self.rank) >> (
            self.shift
        )

    @always_inline
    def stats(self) -> Floats:
        """Behind as many eights as any block of the cluster has."""
        var blocks = 1 << self.shift
        var most = (self.heads * (Self.D // 8) + blocks - 1) >> self.shift
        return self.places.unsafe_offset((most << self.shift) * 8)

    @always_inline
    def bytes(self) -> Int:
        """What the blocks of the cluster send to this one."""
        return (self.eights() * 32 + self.heads * 8) << self.shift

    @always_inline
    def leave(self, acc: Registers[F32, 4], heads: HeadsState[Self.D]):
        """Puts the state of this warp in the place of its tiles, which no copy may be under way to.
        """
        var g = Int(lane_anew() >> 2)
        var t = Int(lane_anew() & 3)
        var state = self.states.unsafe_offset(warp_index() * self.step)
        var totals = over_keys[False](heads.total)
        comptime for e in range(2):
            var head = 2 * t + e
            if head < self.heads:
                if g == 0:
                    state.unsafe_store[width=2, alignment=8](
                        self.heads * Self.ROW + head * 2,
                        SIMD[F32, 2](heads.greatest[e], totals[e]),
                    )
                comptime for c in range(value_chunks[Self.D]()):
                    var d = c * 64 + g * 8
                    if d < Self.D:
                        comptime for half in range(2):
                            var v = Four(0)
                            comptime for j in range(4):
                                v[j] = acc[unsafe_offset=c * 4 + j][
                                    2 * half + e
                                ]
                            state.unsafe_store[width=4, alignment=16](
                                head * Self.ROW + d + 4 * half, v
                            )

    @always_inline
    def join_warps[dtype: DType](self, o: Ptr[dtype]):
        """Joins the states of the block's warps, which have all been left, and sends or writes the parts; o is at the
        tile's first head.
        """
        comptime fours = Self.D // 4
        var blocks = 1 << self.shift
        for i in range(
            Int(thread_idx.x), self.heads * fours, Self.warps * WARP_SIZE
        ):
            var head = Int(UInt32(i) // UInt32(fours))
            var four = i - head * fours
            var part = Part()
            part.add[Self.warps](
                self.states.unsafe_offset(head * Self.ROW + four * 4),
                self.step,
                self.states.unsafe_offset(self.heads * Self.ROW + head * 2),
                self.step,
                Self.warps,
            )
            if self.shift == 0:
                part.store(o, i * 4)
                continue
            for rank in range(four, blocks, fours):
                push[2](
                    address_in_block(
                        Int(
                            self.stats().unsafe_offset(
                                ((head << self.shift) + self.rank) * 2
                            )
                        ),
                        rank,
                    ),
                    SIMD[F32, 2](part.greatest, part.total),
                    address_in_block(Int(self.barrier), rank),
                )
            var eight = i >> 1
            var rank = eight & (blocks - 1)
            var place = ((eight >> self.shift) << self.shift) + self.rank
            push[4](
                address_in_block(
                    Int(self.places.unsafe_offset(place * 8 + (i & 1) * 4)),
                    rank,
                ),
                part.sums,
                address_in_block(Int(self.barrier), rank),
            )

    @always_inline
    def join_blocks[dtype: DType](self, o: Ptr[dtype]):
        """Writes the eights of this block, when all have come; o is at the tile's first head.
        """
        for i in range(
            Int(thread_idx.x), self.eights() * 2, Self.warps * WARP_SIZE
        ):
            var eight = ((i >> 1) << self.shift) + self.rank
            var head = Int(UInt32(eight) // UInt32(Self.D // 8))
            var part = Part()
            part.add[4](
                self.places.unsafe_offset(
                    ((i >> 1) << self.shift) * 8 + (i & 1) * 4
                ),
                8,
                self.stats().unsafe_offset((head << self.shift) * 2),
                2,
                1 << self.shift,
            )
            part.store(o, eight * 8 + (i & 1) * 4)
