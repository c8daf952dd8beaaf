"""What the consumer warps of decode attention do at the end of a part, and the kernel that joins an item's parts.

The warps of a block join their states in shared memory. Where that is all of an item, its result is written. Else the
part is left in memory, and a second kernel joins the parts of each item. (A block that finds its part to be the last one
could do it too. But it must wait for a fence first, and that for all copies under way: 4 to 15 us, where the second kernel
takes 3.) Part i has left the greatest score m_i (in powers of two), the sum l_i of 2^(score - m_i), and the sum a_i of the
values weighted by the same. With m the greatest of all m_i:

    o = sum_i a_i 2^(m_i - m) / sum_i l_i 2^(m_i - m)

    sums [2 S, GROUP, D], stats [2 S, GROUP, 2] (m_i, l_i), notes [1 + S, 2] for S shares:
    note 0       the number of shares
    note 1 + s   [row of the first head in o, parts] of the item that begins in share s and goes on in the next; no parts:
                 there is none
    places       2s + 1 (its beginning), then 2 (s + 1), 2 (s + 2), ...
"""

from .attention_decode_ring_gpu import Header
from .attention_decode_tile_gpu import GROUP, joined_state
from .common import Ptr
from .gpu_common import SharedPtr, load_vector, wait_for_previous, warp_index
from max.gpu import (
    MAX_THREADS_PER_BLOCK_METADATA,
    WARP_SIZE,
    block_idx,
    lane_id,
    thread_idx,
)
from max.gpu.primitives import warp
from std.math import exp2
from std.memory import stack_allocation
from std.utils import StaticTuple

comptime UNROLL = 4
comptime JOIN_WARPS = 4


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


@__llvm_metadata(
    MAX_THREADS_PER_BLOCK_METADATA=StaticTuple[Int32, 1](
        Int32(JOIN_WARPS * WARP_SIZE)
    )
)
@__name(t"mili_attention_decode_join_{dtype}_{D}")
def attention_decode_join_kernel[
    D: Int, dtype: DType
](
    o: Ptr[dtype],
    sums: Ptr[DType.float32],
    stats: Ptr[DType.float32],
    notes: Ptr[DType.int32],
    group: Int32,
):
    """Warp w of block (b, h) joins head h of the item that begins in share JOIN_WARPS b + w, of a tile of up to GROUP of
    the `group` query heads that share a key/value head; 4 divides D.
    """
    comptime F32 = DType.float32
    var share = Int(block_idx.x) * JOIN_WARPS + warp_index()
    var head = Int(block_idx.y)
    var lane = Int(lane_id())
    wait_for_previous()
    var shares = notes[unsafe_offset=0]
    var row = notes[unsafe_offset=2 * (1 + share)]
    var parts = Int(notes[unsafe_offset=2 * (1 + share) + 1])
    # Beyond the last share notes are of an earlier launch; the last tile of a group may have fewer heads.
    var first = Int32(UInt32(row) % UInt32(group))
    if Int32(share) >= shares or first + Int32(head) >= group or parts == 0:
        return

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
        for first_part in range(0, parts, UNROLL):
            # Loads one after the other would each wait for the whole latency of memory.
            var loaded = stack_allocation[UNROLL, SIMD[F32, 4]]()
            var weights = SIMD[F32, UNROLL](0)
            comptime for u in range(UNROLL):
                var i = min(first_part + u, parts - 1)
                loaded[unsafe_offset=u] = load_vector[F32, 4](
                    sums, place(i) * D + d
                )
                weights[u] = stats[unsafe_offset=place(i) * 2]
            comptime for u in range(UNROLL):
                var weight = exp2(weights[u] - most)
                numerator += loaded[unsafe_offset=u] * (
                    weight if first_part + u < parts else Float32(0)
                )
        var result = numerator / denominator if denominator > 0 else SIMD[
            F32, 4
        ](0)
        o.unsafe_store[width=4, alignment=8](
            (Int(row) + head) * D + d, result.cast[dtype]()
        )
