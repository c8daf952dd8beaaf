"""The producer warp of decode attention on Hopper: pages of the cache, unit after unit, into a ring in shared memory.

It alone knows the plan: it takes share after share (attention_decode_plan_gpu.mojo) and runs ahead of the consumers
(attention_decode_hopper_gpu.mojo), which do what the headers of the stages say (attention_decode_ring_gpu.mojo). The
number of its next share is on the way while it asks for the units of this one.
"""

from .attention_decode_line_gpu import UNIT, Lengths, Line
from .attention_decode_plan_gpu import Position, Shares
from .attention_decode_ring_gpu import (
    END,
    FIRST,
    LAST,
    Header,
    Ring,
    store_header,
)
from .attention_decode_tile_gpu import GROUP
from .bulk_copy_gpu import copy_bulk, read_once
from .common import Ptr
from .gpu_common import wait_for_previous
from .mbarrier_gpu import arrive, arrive_and_expect
from max.gpu import WARP_SIZE, lane_id
from max.gpu.primitives import warp
from max.gpu.sync import syncwarp
from std.sys import size_of
from std.sys._assembly import inlined_assembly


@always_inline
def count_up(counter: Ptr[DType.int32]) -> Int32:
    """Adds one to a counter of all blocks; the value before."""
    return inlined_assembly[
        "atom.relaxed.gpu.global.add.u32 $0, [$1], 1;",
        Int32,
        constraints="=r,l,~{memory}",
        has_side_effect=True,
    ](Int64(Int(counter)))


@always_inline
def fetch[
    D: Int, dtype: DType, blocks: Int
](
    ring_: Ring[D, dtype],
    lengths: Lengths,
    block: Int32,
    counter: Ptr[DType.int32],
    notes: Ptr[DType.int32],
    kv: Ptr[dtype],
    page_table: Ptr[DType.int32],
    heads: Int32,
    kv_heads: Int32,
    shift: Int32,
    table_width: Int32,
):
    """The producer warp: brings in the units of share after share, a stage each, and what ends the consumers' loop.

    Pieces are of one page, or of 64 keys of one; lane i has piece i of the next 32, so that the page table is read
    once for all of them. Before the wait it reads lengths and page table alone: the step's inputs.
    """
    comptime row_bytes = Int32(D * size_of[dtype]())
    var ring = ring_
    var group = heads // kv_heads
    var group_tiles = (group + (GROUP - 1)) // GROUP
    var line = Line(lengths, kv_heads * group_tiles)
    var shares = Shares[blocks](0)
    var lane = Int32(lane_id())
    var piece_shift = min(shift, Int32(6))
    var piece = Int32(1) << piece_shift
    var pieces = Int32(UNIT) >> piece_shift
    var batch = Int32(WARP_SIZE) // pieces
    var value_step = Int(kv_heads << shift) * D
    var policy = read_once()
    var number = block
    var waited = False
    var at = Position(0, 0, 0, 0)
    var side = Int32(-1)
    while True:
        # How long the line is, where the share begins, where it ends.
        var unit = Int32.MAX if side < 0 else shares.begin(number + side)
        var found = line.find(unit)
        if side < 0:
            shares = Shares[blocks](found[3])
            if number >= shares.count:
                break
            side = 0
            continue
        var end = shares.all
        if found[2] > 0:
            var before = found[1] * line.tiles
            var tile = Int32(UInt32(unit - before) // UInt32(found[2]))
            before += tile * found[2]
            end = shares.moved(unit, before, found[2])
            if side == 0:
                at = Position(found[0], tile, 0, before)
                at.advance(end - before, found[2], line.tiles)
        if side == 0:
            side = 1
            continue

        var next = Int32(0)
        var asked = shares.count <= Int32(blocks)
        # Of the item that begins in this share and goes on in the next, if there is one.
        var row = Int32(0)
        var parts = Int32(0)
        while at.unit() < end:
            var item = lengths.item(at.item)
            var units = item.units()
            if units == 0:
                at.advance(0, 0, line.tiles)
                continue
            var kv_head = Int32(UInt32(at.tile) // UInt32(group_tiles))
            var head0 = (
                kv_head * group + (at.tile - kv_head * group_tiles) * GROUP
            )
            var count = min(units - at.offset, end - at.unit())
            var first = (item.first_unit() + at.offset) * UNIT
            var table = page_table.unsafe_offset(
                Int(item.request) * Int(table_width)
            )
            var head = Header(
                first,
                item.begin,
                item.end,
                item.token * heads + head0,
                min(Int32(GROUP), (kv_head + 1) * group - head0) + FIRST,
                -1,
            )
            for start in range(Int32(0), count, batch):
                var key = first + start * UNIT + lane * piece
                var mine = key < item.end and lane < (count - start) * pieces
                var source = kv
                if mine:
                    var page = Int(table[unsafe_offset=Int(key >> shift)])
                    source = kv.unsafe_offset(
                        (
                            (
                                (page * 2 * Int(kv_heads) + Int(kv_head))
                                << Int(shift)
                            )
                            + Int(key & ((1 << shift) - 1))
                        )
                        * D
                    )
                if not waited:
                    # Pages too: a request may share some that another one of this step has only now filled.
                    wait_for_previous()
                    waited = True
                if not asked:
                    asked = True
                    if lane == 0:
                        next = count_up(counter)
                for i in range(min(batch, count - start)):
                    if start + i == count - 1:
                        head.flags += LAST
                        if count < units:
                            head.place = 2 * number
                            if at.offset == 0:
                                head.place += 1
                                row = head.row
                                parts = (
                                    shares.last_of(at.before, units)
                                    - number
                                    + 1
                                )
                    ring.wait_empty()
                    if lane == 0:
                        var left = (item.end - head.base + piece - 1) // piece
                        store_header(ring.header(), head)
                        arrive_and_expect(
                            ring.full(),
                            Int(min(pieces, left) * (2 * piece * row_bytes)),
                        )
                    syncwarp()
                    var slot = lane - i * pieces
                    if mine and slot >= 0 and slot < pieces:
                        var target = ring.stage().unsafe_offset(
                            Int(slot * piece) * D
                        )
                        for half in range(2):  # keys, values
                            copy_bulk(
                                target.unsafe_offset(half * UNIT * D),
                                source.unsafe_offset(half * value_step),
                                Int(piece * row_bytes),
                                ring.full(),
                                policy,
                            )
                    head.base += UNIT
                    head.flags &= FIRST - 1
                    ring.uses += 1
            at.advance(count, units, line.tiles)
        if (
            not waited
        ):  # a share without units: both its ends moved to the same item
            wait_for_previous()
            waited = True
        if lane == 0:
            notes[unsafe_offset=Int(1 + number) * 2] = row
            notes[unsafe_offset=Int(1 + number) * 2 + 1] = parts
        if shares.count <= Int32(blocks):
            break
        if not asked and lane == 0:
            next = count_up(counter)
        next = warp.shuffle_idx(next, 0)
        number = Int32(blocks) + next
        if number >= shares.count:
            # Each block asks in vain once. Whoever is the last to ask leaves zero for the next launch.
            if next == shares.count - 1 and lane == 0:
                counter[unsafe_offset=0] = 0
            break
        side = 0
    if not waited:
        wait_for_previous()
    if block == 0 and lane == 0:
        notes[unsafe_offset=0] = shares.count
    ring.wait_empty()
    if lane == 0:
        store_header(ring.header(), Header(0, 0, 0, 0, END, 0))
        arrive(ring.full())
