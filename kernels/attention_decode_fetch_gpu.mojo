"""The producer warp of decode attention on Hopper: pages of the cache, unit after unit, into a ring in shared memory.

    stage    | K 64 x D | V 64 x D |     filled by the producer: its barrier `full` counts the bytes that arrive
                                         emptied by the consumer warps: each arrives once at its barrier `empty`

attention_decode_hopper_gpu.mojo has the consumers.
"""

from .attention_decode_plan_gpu import UNIT, Lengths, Share
from .bulk_copy_gpu import Stage, copy_bulk
from .common import Ptr
from .mbarrier_gpu import Barriers, arrive_and_expect, wait_barrier
from max.gpu import WARP_SIZE, lane_id
from max.gpu.sync import syncwarp
from std.math import ceildiv
from std.sys import size_of


def stages[D: Int]() -> Int:
    """Units under way in a block; D up to 128 leaves room for two blocks on an SM.
    """
    return 3 if D <= 128 else 2


@fieldwise_init
struct Ring[D: Int, dtype: DType](TrivialRegisterPassable):
    """Stages in shared memory with their barriers, and how many uses there have been.
    """

    comptime STAGE = 2 * UNIT * Self.D
    var memory: Stage[Self.dtype]
    var barriers: Barriers
    var uses: Int

    @always_inline
    def stage(self) -> Stage[Self.dtype]:
        return self.memory.unsafe_offset(
            self.uses % stages[Self.D]() * Self.STAGE
        )

    @always_inline
    def full(self) -> Barriers:
        return self.barriers.unsafe_offset(self.uses % stages[Self.D]())

    @always_inline
    def empty(self) -> Barriers:
        return self.full().unsafe_offset(stages[Self.D]())

    @always_inline
    def phase(self) -> Int:
        return (self.uses // stages[Self.D]()) & 1


@always_inline
def fetch[
    D: Int, dtype: DType
](
    ring_: Ring[D, dtype],
    share_: Share,
    lengths: Lengths,
    kv: Ptr[dtype],
    page_table: Ptr[DType.int32],
    tiles: Int,
    group_tiles: Int,
    kv_heads: Int,
    shift: Int,
    table_width: Int,
):
    """The producer warp: brings in the units of a share, a stage each.

    Pieces are of one page, or of 64 keys of one; lane i has piece i of the next 32, so that the page table is read
    once for all of them.
    """
    var ring = ring_
    var share = share_
    var lane = Int(lane_id())
    var piece_shift = min(shift, 6)
    var piece = 1 << piece_shift
    var pieces = UNIT >> piece_shift
    var batch = WARP_SIZE // pieces
    var value_step = (kv_heads << shift) * D
    while share.units > 0:
        var item = lengths.item(share.item)
        var kv_head = share.tile // group_tiles
        var units = item.units()
        var count = min(units - share.offset, share.units)
        var first = (item.first_unit() + share.offset) * UNIT
        var table = page_table.unsafe_offset(item.request * table_width)
        for start in range(0, count, batch):
            var key = first + start * UNIT + lane * piece
            var mine = key < item.end and lane < (count - start) * pieces
            var source = kv
            if mine:
                var page = Int(table[unsafe_offset=key >> shift])
                source = kv.unsafe_offset(
                    (
                        ((page * 2 * kv_heads + kv_head) << shift)
                        + (key & ((1 << shift) - 1))
                    )
                    * D
                )
            for unit in range(min(batch, count - start)):
                if ring.uses >= stages[D]():
                    wait_barrier(ring.empty(), ring.phase() ^ 1)
                var left = item.end - (first + (start + unit) * UNIT)
                if lane == 0:
                    arrive_and_expect(
                        ring.full(),
                        min(pieces, ceildiv(left, piece))
                        * (2 * piece * D * size_of[dtype]()),
                    )
                syncwarp()
                var slot = lane - unit * pieces
                if mine and slot >= 0 and slot < pieces:
                    var target = ring.stage().unsafe_offset(slot * piece * D)
                    comptime bytes_a_key = D * size_of[dtype]()
                    copy_bulk(target, source, piece * bytes_a_key, ring.full())
                    copy_bulk(
                        target.unsafe_offset(UNIT * D),
                        source.unsafe_offset(value_step),
                        piece * bytes_a_key,
                        ring.full(),
                    )
                ring.uses += 1
        share.advance(count, units, tiles)
