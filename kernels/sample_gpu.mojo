"""Sampling on the GPU: temperature, top-k, top-p, min-p and a draw; the mathematics stands in sample.mojo.

Two kernels. The first (sample_chunks_gpu.mojo) reads all logits once, in chunks of 4096, and leaves the maximum m_c and
the sum s_c of each. The second has one block a row and reads one chunk again, 16 KB of 608:

    top   = max_c m_c                      target = random * sum_c s_c 2^((m_c - top) scale)
    chunk = the first at which the running sum of s_c 2^((m_c - top) scale) passes the target
    token = the first of it at which the running sum of weights passes what is left of the target

    chunks   | s0 | s1 | s2 | s3 | ...      every warp for itself: a prefix sum over lanes
    target                 ^
    threads            |8|8|8|8|...         8 ids each: prefix sums over lanes, then warps, then ids

A greedy row is the same with a weight of 1 for what equals `top`, 0 for the rest, and a target of 0. A row with filters
finds its boundary in 31 more passes over the row for each of top-k and top-p, and sums its chunks again. Sums add up in
the same order every time, so the same logits and random number give the same token.
"""

from std.math import ceildiv, exp2
from std.memory import stack_allocation
from std.utils import StaticTuple

from max.gpu import (
    MAX_THREADS_PER_BLOCK_METADATA,
    WARP_SIZE,
    barrier,
    block_idx,
    lane_id,
    thread_idx,
)
from max.gpu.host import DeviceContext
from max.gpu.memory import AddressSpace
from max.gpu.primitives import warp

from .argmax_gpu import LOWEST
from .common import Ptr
from .gpu_common import SharedPtr, warp_index
from .sample import FIELDS
from .sample_chunks_gpu import (
    CHUNK,
    CHUNK_THREADS,
    Four,
    chunk_base,
    chunk_kernel,
    four,
    scale_of,
)
from .sample_draw_gpu import VECTORS, draw_in_chunk, find_chunk
from .sample_row_gpu import THREADS, WARPS, Row, kept


@__llvm_metadata(
    MAX_THREADS_PER_BLOCK_METADATA=StaticTuple[Int32, 1](Int32(THREADS))
)
@__name(t"mili_sample_draw_{aligned}")
def draw_kernel[
    aligned: Bool
](
    tokens: Ptr[DType.int32],
    stats: Ptr[DType.float32],
    logits: Ptr[DType.float32],
    fields: Ptr[DType.float32],
    cols_: Int32,
    chunks_: Int32,
):
    """One block a row draws its token; `stats` is what `chunk_kernel` has left.
    """
    var cols = Int(cols_)
    var chunks = Int(chunks_)
    var row = Int(block_idx.x)
    var logits_row = logits.unsafe_offset(row * cols)
    var own_stats = stats.unsafe_offset(row * chunks * 2)
    var at = fields.unsafe_offset(row * FIELDS)
    var scale = scale_of(at[unsafe_offset=0])
    var sums = stack_allocation[
        WARPS, Float32, address_space=AddressSpace.SHARED
    ]()
    var picks = stack_allocation[
        2 * WARPS, Int32, address_space=AddressSpace.SHARED
    ]()
    var sums_ptr = SharedPtr[DType.float32](unsafe_from_address=Int(sums))
    var picks_ptr = SharedPtr[DType.int32](unsafe_from_address=Int(picks))
    var top = LOWEST
    for chunk in range(Int(lane_id()), chunks, WARP_SIZE):
        top = max(top, own_stats[unsafe_offset=2 * chunk])
    top = warp.max(top)

    var least = Float32(0)
    var last = cols
    var top_k = Int(at[unsafe_offset=1])
    var top_p = at[unsafe_offset=2]
    var min_p = at[unsafe_offset=3]
    if scale > 0 and ((0 < top_k and top_k < cols) or top_p < 1 or min_p > 0):
        var filtered = Row[aligned](logits_row, cols, top, scale, sums_ptr)
        least, last = filtered.limits(top_k, top_p, min_p)
        barrier()  # every warp has read the maxima
        for chunk in range(warp_index(), chunks, WARPS):
            var sum = filtered.chunk_sum(chunk, least, last)
            if lane_id() == 0:
                own_stats[unsafe_offset=2 * chunk] = top
                own_stats[unsafe_offset=2 * chunk + 1] = sum
        barrier()

    var chunk, left = find_chunk(
        own_stats, chunks, top, scale, at[unsafe_offset=4]
    )
    var token = Int32(-1)
    if chunk >= 0:
        var greatest = own_stats[unsafe_offset=2 * chunk]
        var base = chunk_base(greatest)
        var first_id = chunk * CHUNK + Int(thread_idx.x) * 4 * VECTORS
        var weights = stack_allocation[VECTORS, Four]()
        comptime for i in range(VECTORS):
            weights[unsafe_offset=i] = four[aligned](
                logits_row, cols, first_id + 4 * i
            )
        comptime for i in range(VECTORS):
            var v = weights[unsafe_offset=i]
            if scale > 0:
                weights[unsafe_offset=i] = kept(
                    exp2((v - base) * scale), first_id + 4 * i, least, last
                )
            else:
                weights[unsafe_offset=i] = v.eq(top).select(Four(1), Four(0))
        if scale > 0:
            left /= exp2((greatest - top) * scale)
        token = draw_in_chunk(weights, first_id, left, sums_ptr, picks_ptr)
    if thread_idx.x == 0:
        # A greedy row of nothing but NaN gives 0, as on the CPU; it would find nothing, or what lies beyond the row.
        var found = token >= 0 and token < Int32(cols)
        tokens[unsafe_offset=row] = token if scale > 0 or found else Int32(0)


def sample_gpu(
    tokens: Ptr[DType.int32],
    logits: Ptr[DType.float32],
    fields: Ptr[DType.float32],
    rows: Int,
    width: Int,
    ctx: DeviceContext,
) raises:
    """Writes tokens [rows] from logits [rows, width] and fields [rows, FIELDS].
    """
    if rows == 0:
        return
    var chunks = ceildiv(width, CHUNK)
    var workspace = ctx.enqueue_create_buffer[DType.float32](rows * chunks * 2)
    var stats = workspace.unsafe_ptr().as_unsafe_any_origin()

    def go[aligned: Bool]() raises {imm}:
        ctx.enqueue_function[chunk_kernel[aligned]](
            stats,
            logits,
            fields,
            Int32(width),
            Int32(chunks),
            grid_dim=(chunks, rows),
            block_dim=CHUNK_THREADS,
        )
        ctx.enqueue_function[draw_kernel[aligned]](
            tokens,
            stats,
            logits,
            fields,
            Int32(width),
            Int32(chunks),
            grid_dim=rows,
            block_dim=THREADS,
        )

    if width % 4 == 0:
        go[True]()
    else:
        go[False]()
    _ = workspace^
