"""How the warps of a cluster join what they have of one tile of heads: each sends, to the block that joins them, eights.

Warp s of all the S warps of the cluster has of each head the greatest score m_s (in powers of two), the sum l_s of
2^(score - m_s), and the sum a_s [D] of the values weighted by the same. With m the greatest of all m_s:

    o = sum_s a_s 2^(m_s - m) / sum_s l_s 2^(m_s - m)

    eight u of a tile     8 elements of a head: u = head * D / 8 + d / 8, joined by block u mod C of the C of the cluster
    places of a block     eights [u / C][S][8], stats [heads][S][2] (m_s, l_s), and a barrier that counts their bytes

A warp sends its registers as they are (cluster_gpu.mojo), without a barrier of the block before it: the last key of a
warp is followed by one trip to the block that waits for it. D is a multiple of 8.
"""

from .attention_decode_products_gpu import F32, HeadsState, over_keys
from .attention_decode_tile_gpu import value_chunks
from .cluster_gpu import address_in_block, push
from .common import Ptr
from .gpu_common import Registers, lane_anew, warp_index
from .mbarrier_gpu import Barriers
from max.gpu.memory import AddressSpace
from max.gpu.primitives import warp
from std.math import exp2

comptime Floats = Pointer[
    Float32, MutUntrackedOrigin, address_space=AddressSpace.SHARED
]


def exchange_bytes(dim: Int, heads: Int, warps: Int, blocks: Int) -> Int:
    """Bytes of the places of a block, of a tile of `heads` heads."""
    var eights = (heads * dim // 8 + blocks - 1) // blocks
    return (eights * 32 + heads * 8) * warps * blocks


@fieldwise_init
struct Exchange[D: Int, warps: Int](TrivialRegisterPassable):
    """The places of this block, number `rank` of 2^`shift`, for a tile of `heads` heads.
    """

    var places: Floats
    var barrier: Barriers
    var rank: Int
    var shift: Int
    var heads: Int

    @always_inline
    def states(self) -> Int:
        """Warps of the cluster."""
        return Self.warps << self.shift

    @always_inline
    def eights(self) -> Int:
        """How many eights this block joins."""
        var blocks = 1 << self.shift
        return (self.heads * (Self.D // 8) + blocks - 1 - self.rank) >> (
            self.shift
        )

    @always_inline
    def stats(self) -> Floats:
        """Behind as many eights as any block of the cluster has."""
        var blocks = 1 << self.shift
        var most = (self.heads * (Self.D // 8) + blocks - 1) >> self.shift
        return self.places.unsafe_offset(most * self.states() * 8)

    @always_inline
    def bytes(self) -> Int:
        """What the warps of the cluster send to this block."""
        return (self.eights() * 32 + self.heads * 8) * self.states()

    @always_inline
    def send(
        self,
        acc: Registers[F32, 4],
        heads: HeadsState[Self.D],
    ):
        """Sends the state of this warp."""
        var g = Int(lane_anew() >> 2)
        var t = Int(lane_anew() & 3)
        var state = self.rank * Self.warps + warp_index()
        var blocks = 1 << self.shift
        var totals = over_keys[False](heads.total)
        comptime for e in range(2):
            var head = 2 * t + e
            if head < self.heads:
                var place = self.stats().unsafe_offset(
                    (head * self.states() + state) * 2
                )
                for rank in range(g, blocks, 8):
                    push[2](
                        address_in_block(Int(place), rank),
                        SIMD[F32, 2](heads.greatest[e], totals[e]),
                        address_in_block(Int(self.barrier), rank),
                    )
        comptime for c in range(value_chunks[Self.D]()):
            comptime for e in range(2):
                var head = 2 * t + e
                if head < self.heads and c * 64 + g * 8 < Self.D:
                    var eight = head * (Self.D // 8) + c * 8 + g
                    var rank = eight & (blocks - 1)
                    var target = address_in_block(
                        Int(
                            self.places.unsafe_offset(
                                ((eight >> self.shift) * self.states() + state)
                                * 8
                            )
                        ),
                        rank,
                    )
                    var barrier = address_in_block(Int(self.barrier), rank)
                    comptime for half in range(2):
                        var v = SIMD[F32, 4](0)
                        comptime for j in range(4):
                            v[j] = acc[unsafe_offset=c * 4 + j][2 * half + e]
                        push[4](target + Int32(16 * half), v, barrier)

    @always_inline
    def join[dtype: DType](self, o: Ptr[dtype]):
        """Writes the eights of this block, when all have come; o is at the tile's first head.

        Eight lanes add up an eight, an element each; with 2 blocks two times eight lanes share the states, with more
        blocks all four. Loads are under way together: one after the other, each would wait for the one before.
        """
        comptime TOGETHER = 4
        comptime assert Self.warps % TOGETHER == 0
        var split = min(self.shift, 2)
        var element = Int(lane_anew() & 7)
        var lanes = Int(lane_anew() >> 3)
        var part = lanes & ((1 << split) - 1)
        var at_once = 4 >> split
        var states = self.states()
        for start in range(
            warp_index() * at_once, self.eights(), Self.warps * at_once
        ):
            var n = min(start + (lanes >> split), self.eights() - 1)
            var eight = (n << self.shift) + self.rank
            var head = Int(UInt32(eight) // UInt32(Self.D // 8))
            var stats = self.stats().unsafe_offset(head * states * 2)
            var eights = self.places.unsafe_offset(n * states * 8 + element)
            var best = Float32.MIN_FINITE
            var numerator = Float32(0)
            var denominator = Float32(0)
            for first in range(part, states, TOGETHER << split):
                var greatest = SIMD[F32, TOGETHER](Float32.MIN_FINITE)
                var totals = SIMD[F32, TOGETHER](0)
                var sums = SIMD[F32, TOGETHER](0)
                comptime for u in range(TOGETHER):
                    var s = first + (u << split)
                    var pair = stats.unsafe_load[width=2, alignment=8](s * 2)
                    greatest[u] = pair[0]
                    totals[u] = pair[1]
                    sums[u] = eights[unsafe_offset=s * 8]
                var most = max(best, greatest.reduce_max())
                var factor = exp2(best - most)
                var factors = exp2(greatest - most)
                numerator = numerator * factor + (sums * factors).reduce_add()
                denominator = (
                    denominator * factor + (totals * factors).reduce_add()
                )
                best = most
            for i in range(split):
                var distance = UInt32(8 << i)
                var most = max(best, warp.shuffle_xor(best, distance))
                var factor = exp2(best - most)
                numerator *= factor
                denominator *= factor
                numerator += warp.shuffle_xor(numerator, distance)
                denominator += warp.shuffle_xor(denominator, distance)
                best = most
            if part == 0:
                var result = (
                    numerator / denominator if denominator > 0 else Float32(0)
                )
                o[unsafe_offset=eight * 8 + element] = result.cast[dtype]()
