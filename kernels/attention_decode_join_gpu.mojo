"""Joins the parts of items that the blocks of decode attention have cut (attention_decode_plan_gpu.mojo).

Part i of a token and a tile of heads has left the greatest score m_i (in powers of two), the sum l_i of 2^(score - m_i),
and the sum a_i of the values weighted by the same. With m the greatest of all m_i:

    o = sum_i a_i 2^(m_i - m) / sum_i l_i 2^(m_i - m)

    sums [2 G, GROUP, D], stats [2 G, GROUP, 2] (m_i, l_i), notes [G, 4] of the G blocks:
    note p   [token, first head, heads, parts]: left by block p, in which the item begins; no parts: nothing to join
    places   2p + 1 (the beginning), then 2 (p + 1), 2 (p + 2), ...
"""

from .attention_decode_tile_gpu import GROUP
from .common import Ptr
from .gpu_common import load_vector, wait_for_previous, warp_index
from max.gpu import (
    MAX_THREADS_PER_BLOCK_METADATA,
    WARP_SIZE,
    barrier,
    block_idx,
    lane_id,
    thread_idx,
)
from max.gpu.memory import AddressSpace
from max.gpu.primitives import warp
from std.math import ceildiv, exp2
from std.memory import stack_allocation
from std.utils import StaticTuple

comptime WARPS = 4
comptime UNROLL = 4
comptime MAX_PARTS = 512
"""Blocks that one item can be cut among."""


@__llvm_metadata(
    MAX_THREADS_PER_BLOCK_METADATA=StaticTuple[Int32, 1](
        Int32(WARPS * WARP_SIZE)
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
    heads: Int32,
):
    """Block (p, h) joins head h of the item of note p; 4 divides D."""
    comptime F32 = DType.float32
    comptime chunks = ceildiv(D, 4 * WARP_SIZE)
    var p = Int(block_idx.x)
    var h = Int(block_idx.y)
    var lane = Int(lane_id())
    wait_for_previous()
    var note = load_vector[DType.int32, 4](notes, p * 4)
    var parts = min(Int(note[3]), MAX_PARTS)
    if h >= Int(note[2]) or parts == 0:
        return
    var weights = stack_allocation[
        MAX_PARTS, Float32, address_space=AddressSpace.SHARED
    ]()
    var partial = stack_allocation[
        WARPS * D, Float32, address_space=AddressSpace.SHARED, alignment=16
    ]()

    @always_inline
    def place(part: Int) {imm} -> Int:
        return (2 * (p + part) + (1 if part == 0 else 0)) * GROUP + h

    var best = Float32.MIN_FINITE
    for i in range(lane, parts, WARP_SIZE):
        best = max(best, stats[unsafe_offset=place(i) * 2])
    best = warp.max(best)
    var denominator = Float32(0)
    for i in range(lane, parts, WARP_SIZE):
        var weight = exp2(stats[unsafe_offset=place(i) * 2] - best)
        denominator += weight * stats[unsafe_offset=place(i) * 2 + 1]
        if warp_index() == 0:
            weights[unsafe_offset=i] = weight
    denominator = warp.sum(denominator)
    barrier()
    comptime for c in range(chunks):
        var d = (c * WARP_SIZE + lane) * 4
        if d < D:
            var numerator = SIMD[F32, 4](0)
            for first in range(warp_index(), parts, WARPS * UNROLL):
                # Loads one after the other would each wait for the whole latency of memory.
                var loaded = stack_allocation[UNROLL, SIMD[F32, 4]]()
                comptime for u in range(UNROLL):
                    loaded[unsafe_offset=u] = load_vector[F32, 4](
                        sums, place(min(first + u * WARPS, parts - 1)) * D + d
                    )
                comptime for u in range(UNROLL):
                    var i = first + u * WARPS
                    if i < parts:
                        numerator += (
                            loaded[unsafe_offset=u] * weights[unsafe_offset=i]
                        )
            comptime for e in range(4):
                partial[unsafe_offset=warp_index() * D + d + e] = numerator[e]
    barrier()
    var row = Int(note[0]) * Int(heads) + Int(note[1]) + h
    for d in range(Int(thread_idx.x), D, WARPS * WARP_SIZE):
        var numerator = Float32(0)
        comptime for v in range(WARPS):
            numerator += partial[unsafe_offset=v * D + d]
        var result = numerator / denominator if denominator > 0 else Float32(0)
        o[unsafe_offset=row * D + d] = result.cast[dtype]()
