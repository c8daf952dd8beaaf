"""What the consumer warps of decode attention do at the end of a part, and how an item's parts are joined.

The warps of a block join their states in shared memory. Where that is all of an item, its result is written. Else the
part is left in memory and noted. When a block has no more work it counts its parts in, and whoever finds that all of
an item's are there joins them in their order, so that it does not matter who that is. (To count each part in at once
would be wrong to hurry: the fence before it waits for all the copies that are under way.) Part i has left the greatest
score m_i (in powers of two), the sum l_i of 2^(score - m_i), and the sum a_i of the values weighted by the same. With
m the greatest of all m_i:

    o = sum_i a_i 2^(m_i - m) / sum_i l_i 2^(m_i - m)

    sums [2 S, GROUP, D], stats [2 S, GROUP, 2] (m_i, l_i) of S shares; an item that begins in share s and is cut:
    places       2s + 1 (the beginning), then 2 (s + 1), 2 (s + 2), ...
    counters[s]  how many of its parts are there; zero again after the join
"""

from .attention_decode_fetch_gpu import Header
from .attention_decode_tile_gpu import GROUP, joined_state
from .common import Ptr
from .gpu_common import SharedPtr, load_vector, warp_index
from max.gpu import WARP_SIZE, lane_id, thread_idx
from max.gpu.primitives import warp
from max.gpu.sync import named_barrier
from std.math import ceildiv, exp2
from std.memory import stack_allocation
from std.sys._assembly import inlined_assembly

comptime UNROLL = 4
comptime NOTES = 16
"""Parts that a block notes before it counts them in, at most a warp of them."""


@always_inline
def arrived_before(counter: Ptr[DType.int32]) -> Int32:
    """Adds one to a counter, after all that this block has written (a block barrier before) and before all that it
    will read; the value before.
    """
    return inlined_assembly[
        "atom.acq_rel.gpu.global.add.u32 $0, [$1], 1;",
        Int32,
        constraints="=r,l,~{memory}",
        has_side_effect=True,
    ](Int64(Int(counter)))


@always_inline
def end_part[
    D: Int, dtype: DType, warps: Int
](
    o: Ptr[dtype],
    sums: Ptr[DType.float32],
    stats: Ptr[DType.float32],
    warp_sums: SharedPtr[DType.float32],
    warp_stats: SharedPtr[DType.float32],
    header: Header,
    heads: Int,
):
    """Joins the states of the warps, all in shared memory, and writes the result of an item or the part of one.
    """
    var whole = header.place < 0
    var place = Int(header.place) * GROUP
    for i in range(Int(thread_idx.x), heads * D, warps * WARP_SIZE):
        var head = Int(UInt32(i) // UInt32(D))
        var joined = joined_state[D, warps](
            warp_sums, warp_stats, head, i - head * D
        )
        if whole:
            var result = joined[0] / joined[2] if joined[2] > 0 else Float32(0)
            o[unsafe_offset=Int(header.row) * D + i] = result.cast[dtype]()
        else:
            sums[unsafe_offset=place * D + i] = joined[0]
            if i == head * D:
                stats[unsafe_offset=(place + head) * 2] = joined[1]
                stats[unsafe_offset=(place + head) * 2 + 1] = joined[2]


@always_inline
def note_part(
    notes: SharedPtr[DType.int32], number: Int, header: Header, heads: Int
):
    """Thread 0 remembers a part that others must be joined with."""
    if thread_idx.x == 0:
        notes.unsafe_store[width=4, alignment=16](
            number * 4,
            SIMD[DType.int32, 4](
                header.share, header.parts, header.row, Int32(heads)
            ),
        )


@always_inline
def settle[
    D: Int, dtype: DType, warps: Int
](
    o: Ptr[dtype],
    sums: Ptr[DType.float32],
    stats: Ptr[DType.float32],
    counters: Ptr[DType.int32],
    notes: SharedPtr[DType.int32],
    noted: Int,
):
    """Counts in the parts that are noted, and joins those items of which they are the last ones.
    """
    named_barrier[Int32(warps * WARP_SIZE)](1)
    var lane = Int(thread_idx.x)
    if lane < noted:
        var counter = counters.unsafe_offset(Int(notes[unsafe_offset=lane * 4]))
        if arrived_before(counter) == notes[unsafe_offset=lane * 4 + 1] - 1:
            counter[unsafe_offset=0] = 0
        else:
            notes[unsafe_offset=lane * 4 + 1] = 0
    named_barrier[Int32(warps * WARP_SIZE)](1)
    var turn = 0
    for number in range(noted):
        var note = notes.unsafe_load[width=4, alignment=16](number * 4)
        if note[1] == 0:
            continue
        for head in range(Int(note[3])):
            if turn % warps == warp_index():
                join_parts[D](
                    o,
                    sums,
                    stats,
                    Int(note[0]),
                    Int(note[1]),
                    Int(note[2]),
                    head,
                )
            turn += 1
    named_barrier[Int32(warps * WARP_SIZE)](1)


@always_inline
def join_parts[
    D: Int, dtype: DType
](
    o: Ptr[dtype],
    sums: Ptr[DType.float32],
    stats: Ptr[DType.float32],
    share: Int,
    parts: Int,
    row: Int,
    head: Int,
):
    """A warp joins the parts of an item for one head of its tile; 4 divides D.
    """
    comptime F32 = DType.float32
    var lane = Int(lane_id())

    @always_inline
    def place(part: Int) {imm} -> Int:
        return (2 * (share + part) + (1 if part == 0 else 0)) * GROUP + head

    var best = Float32.MIN_FINITE
    var denominator = Float32(0)
    for i in range(lane, parts, WARP_SIZE):
        var greatest = stats[unsafe_offset=place(i) * 2]
        var total = stats[unsafe_offset=place(i) * 2 + 1]
        var more = max(best, greatest)
        denominator = denominator * exp2(best - more) + total * exp2(
            greatest - more
        )
        best = more
    var most = warp.max(best)
    denominator = warp.sum(denominator * exp2(best - most))
    for d in range(lane * 4, D, 4 * WARP_SIZE):
        var numerator = SIMD[F32, 4](0)
        for first in range(0, parts, UNROLL):
            # Loads one after the other would each wait for the whole latency of memory.
            var loaded = stack_allocation[UNROLL, SIMD[F32, 4]]()
            var weights = SIMD[F32, UNROLL](0)
            comptime for u in range(UNROLL):
                var i = min(first + u, parts - 1)
                loaded[unsafe_offset=u] = load_vector[F32, 4](
                    sums, place(i) * D + d
                )
                weights[u] = stats[unsafe_offset=place(i) * 2]
            comptime for u in range(UNROLL):
                if first + u < parts:
                    numerator += loaded[unsafe_offset=u] * exp2(
                        weights[u] - most
                    )
        var result = numerator / denominator if denominator > 0 else SIMD[
            F32, 4
        ](0)
        o.unsafe_store[width=4, alignment=8](
            (row + head) * D + d, result.cast[dtype]()
        )
