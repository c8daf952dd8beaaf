"""Joins the ranges that a context was cut into for decode attention (flash decoding).

Range s of a token and head has left the greatest score m_s (in powers of two), the sum l_s of 2^(score - m_s), and the
sum a_s of the values weighted by the same. With m the greatest of all m_s:

    o = sum_s a_s 2^(m_s - m) / sum_s l_s 2^(m_s - m)
"""

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
comptime UNIT = WARPS * 16
"""Keys of one round of a block."""
comptime MAX_SPLITS = 64
"""Ranges that a context is cut into at most: two a lane when they are joined."""
comptime JOIN_UNROLL = 4


@always_inline
def split_units(units: Int, splits: Int) -> Int:
    """Rounds that each split takes."""
    return ceildiv(units, splits)


@__llvm_metadata(
    MAX_THREADS_PER_BLOCK_METADATA=StaticTuple[Int32, 1](
        Int32(WARPS * WARP_SIZE)
    )
)
@__name(t"mili_attention_join_{dtype}_{D}")
def attention_join_kernel[
    D: Int, dtype: DType
](
    o: Ptr[dtype],
    partial_sums: Ptr[DType.float32],
    partial_stats: Ptr[DType.float32],
    row_offsets: Ptr[DType.int32],
    context_lengths: Ptr[DType.int32],
    heads: Int32,
    window: Int32,
    splits: Int32,
):
    """Block (h, b) joins the ranges of query head h of the tokens of request b; at most MAX_SPLITS of them.

    Lane i of every warp takes the statistics of ranges i and i + 32; then the warps take ranges in turn, JOIN_UNROLL
    loads of 16 bytes a lane at once: one after the other, each would wait for the whole latency of memory.
    """
    comptime F32 = DType.float32
    comptime chunks = ceildiv(D, 4 * WARP_SIZE)
    var b = Int(block_idx.y)
    var lane = Int(lane_id())
    var weights = stack_allocation[
        MAX_SPLITS, Float32, address_space=AddressSpace.SHARED
    ]()
    var sums = stack_allocation[
        WARPS * D, Float32, address_space=AddressSpace.SHARED, alignment=16
    ]()
    wait_for_previous()
    var end_token = Int(row_offsets[unsafe_offset=b + 1])
    for token in range(Int(row_offsets[unsafe_offset=b]), end_token):
        var keys = Int(context_lengths[unsafe_offset=b]) - end_token + token + 1
        if window > 0:
            keys = min(keys, Int(window))
        var per_split = max(
            1, split_units(ceildiv(keys, UNIT), Int(splits)) * UNIT
        )
        var used = ceildiv(keys, per_split)
        var row = (token * Int(heads) + Int(block_idx.x)) * Int(splits)
        var greatest = SIMD[F32, 2](Float32.MIN_FINITE)
        var totals = SIMD[F32, 2](0)
        comptime for i in range(2):
            var s = lane + i * WARP_SIZE
            if s < used:
                greatest[i] = partial_stats[unsafe_offset=(row + s) * 2]
                totals[i] = partial_stats[unsafe_offset=(row + s) * 2 + 1]
        var best = warp.max(greatest.reduce_max())
        var factors = exp2(greatest - best)
        var denominator = warp.sum((totals * factors).reduce_add())
        barrier()  # the previous token is done
        if warp_index() == 0:
            comptime for i in range(2):
                weights[unsafe_offset=lane + i * WARP_SIZE] = factors[i]
        barrier()

        comptime for c in range(chunks):
            var d = (c * WARP_SIZE + lane) * 4
            var numerator = SIMD[F32, 4](0)
            if d < D:
                for first in range(warp_index(), used, WARPS * JOIN_UNROLL):
                    var parts = stack_allocation[JOIN_UNROLL, SIMD[F32, 4]]()
                    comptime for u in range(JOIN_UNROLL):
                        var s = min(first + u * WARPS, used - 1)
                        parts[unsafe_offset=u] = load_vector[F32, 4](
                            partial_sums, (row + s) * D + d
                        )
                    comptime for u in range(JOIN_UNROLL):
                        var s = first + u * WARPS
                        if s < used:
                            numerator += (
                                parts[unsafe_offset=u]
                                * weights[unsafe_offset=s]
                            )
                comptime for e in range(4):
                    sums[unsafe_offset=warp_index() * D + d + e] = numerator[e]
        barrier()
        for d in range(Int(thread_idx.x), D, WARPS * WARP_SIZE):
            var numerator = Float32(0)
            comptime for v in range(WARPS):
                numerator += sums[unsafe_offset=v * D + d]
            var result = (
                numerator / denominator if denominator > 0 else Float32(0)
            )
            o[
                unsafe_offset=(token * Int(heads) + Int(block_idx.x)) * D + d
            ] = result.cast[dtype]()
