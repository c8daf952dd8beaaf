"""The draw of sampling on the GPU: which chunk of a row holds the token, and which id of the chunk it is.

Both are a search for the place where a running sum passes a target, over lanes by prefix sums. What has no weight is never
drawn, also where rounding lets the sum end short of the target: then the last with a weight is it.
"""

from std.math import exp2

from max.gpu import WARP_SIZE, barrier, lane_id
from max.gpu.primitives import warp

from .common import Ptr
from .gpu_common import SharedPtr, warp_index
from .sample_chunks_gpu import CHUNK, Four
from .sample_row_gpu import THREADS, WARPS

comptime VECTORS = CHUNK // (4 * THREADS)
"""Vectors of four neighbouring ids that a thread has of a chunk."""


@always_inline
def chunk_weight(
    stats: Ptr[DType.float32],
    chunk: Int,
    chunks: Int,
    top: Float32,
    scale: Float32,
) -> Float32:
    """The weight of a chunk in its row: of a greedy row, whose scale is 0, 1 if it holds the maximum.
    """
    if chunk >= chunks:
        return 0
    var greatest = stats[unsafe_offset=2 * chunk]
    if scale == 0:
        return 1 if greatest == top else 0
    return stats[unsafe_offset=2 * chunk + 1] * exp2((greatest - top) * scale)


@always_inline
def find_chunk(
    stats: Ptr[DType.float32],
    chunks: Int,
    top: Float32,
    scale: Float32,
    random: Float32,
) -> Tuple[Int, Float32]:
    """The chunk that holds the token, and what is left of the target there; -1 without a sum.

    Every warp computes it.
    """
    var whole = Float32(0)
    for start in range(0, chunks, WARP_SIZE):
        var chunk = start + Int(lane_id())
        whole += warp.sum(chunk_weight(stats, chunk, chunks, top, scale))
    if not whole > 0:  # also where it is no number
        return (-1, Float32(0))
    var target = random * whole if scale > 0 else Float32(0)
    var passed = Float32(0)
    var found = Int32(-1)
    var left = Float32(0)
    for start in range(0, chunks, WARP_SIZE):
        var chunk = start + Int(lane_id())
        var own = chunk_weight(stats, chunk, chunks, top, scale)
        var after = passed + warp.prefix_sum(own)
        var first = Int32.MAX
        if own > 0 and after > target:
            first = Int32(chunk)
        first = warp.min(first)
        var last = warp.max(Int32(chunk) if own > 0 else Int32(-1))
        var at = last if first == Int32.MAX else first
        if at >= 0:
            found = at
            left = target - warp.shuffle_idx(
                after - own, UInt32(Int(at) - start)
            )
        if first != Int32.MAX:
            break
        passed = warp.shuffle_idx(after, UInt32(WARP_SIZE - 1))
    return (Int(found), left)


@always_inline
def draw_in_chunk(
    weights: Pointer[Four, _],
    first_id: Int,
    left: Float32,
    sums: SharedPtr[DType.float32],
    picks: SharedPtr[DType.int32],
) -> Int32:
    """The first id at which the running sum over the block's weights passes `left`; else the last with a weight, or -1.

    A thread has 4 VECTORS neighbouring weights, from `first_id` on; every thread gets the id.
    """
    var own = Float32(0)
    comptime for i in range(VECTORS):
        own += weights[unsafe_offset=i].reduce_add()
    var inclusive = warp.prefix_sum(own)
    if Int(lane_id()) == WARP_SIZE - 1:
        sums[unsafe_offset=warp_index()] = inclusive
    barrier()
    var running = inclusive - own
    comptime for i in range(WARPS):
        if i < warp_index():
            running += sums[unsafe_offset=i]
    var first = Int32.MAX
    var last = Int32(-1)
    comptime for i in range(4 * VECTORS):
        var w = weights[unsafe_offset=i // 4][i % 4]
        if w > 0:
            last = Int32(first_id + i)
            running += w
            if running > left and first == Int32.MAX:
                first = last
    first = warp.min(first)
    last = warp.max(last)
    if lane_id() == 0:
        picks[unsafe_offset=warp_index()] = first
        picks[unsafe_offset=WARPS + warp_index()] = last
    barrier()
    comptime for i in range(WARPS):
        first = min(first, picks[unsafe_offset=i])
        last = max(last, picks[unsafe_offset=WARPS + i])
    return last if first == Int32.MAX else first
