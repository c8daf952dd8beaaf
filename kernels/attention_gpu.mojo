"""Attention on a GPU, first version: one block a query head of a token, keys in tiles of one a thread.

    tile of BLOCK keys:   thread j: s_j = scale * q . k_j  ->  shared memory
                          all: m' = max, p_j = exp(s_j - m')
                          thread d: a_d = a_d * exp(m - m') + sum_j p_j v_j[d]
"""

from .attention import AttentionShape
from .common import Ptr
from layout import TileTensor, row_major, stack_allocation
from max.gpu import barrier, block_idx, thread_idx
from max.gpu.host import DeviceContext
from max.gpu.memory import AddressSpace
from std.math import ceildiv, exp

comptime BLOCK = 128


def attention_kernel[
    D: Int, dtype: DType
](
    o: Ptr[dtype],
    q: Ptr[dtype],
    kv: Ptr[dtype],
    row_offsets: Ptr[DType.int32],
    context_lengths: Ptr[DType.int32],
    page_table: Ptr[DType.int32],
    scale: Float32,
    requests: Int32,
    kv_heads: Int32,
    page_size: Int32,
    table_width: Int32,
    window: Int32,
    heads: Int32,
):
    """Block (t, h) attends from query head h of token t."""
    comptime assert D <= BLOCK, "one thread a value of the output"
    var scores = stack_allocation[
        DType.float32, address_space=AddressSpace.SHARED
    ](row_major[BLOCK]())
    comptime assert scores.flat_rank == 1
    var t = Int(block_idx.x)
    var H = Int(heads)
    var KH = Int(kv_heads)
    var PS = Int(page_size)
    var head = Int(block_idx.y) * KH // H
    var thread = Int(thread_idx.x)
    var b = 0
    while b + 1 < Int(requests) and t >= Int(row_offsets[unsafe_offset=b + 1]):
        b += 1
    var last = (
        Int(context_lengths[unsafe_offset=b])
        - Int(row_offsets[unsafe_offset=b + 1])
        + t
    )
    var first = max(0, last - Int(window) + 1) if window > 0 else 0
    var pages = page_table.unsafe_offset(b * Int(table_width))
    var query = q.unsafe_offset((t * H + Int(block_idx.y)) * D)
    var greatest = Float32.MIN_FINITE
    var total = Float32(0)
    var acc = Float32(0)
    for start in range(first, last + 1, BLOCK):
        var count = min(BLOCK, last + 1 - start)
        var score = Float32.MIN
        if thread < count:
            var j = start + thread
            var page = Int(pages[unsafe_offset=j // PS]) * 2 * KH
            var key = kv.unsafe_offset(((page + head) * PS + j % PS) * D)
            score = 0
            for d in range(D):
                score += (
                    query[unsafe_offset=d].cast[DType.float32]()
                    * key[unsafe_offset=d].cast[DType.float32]()
                )
            score *= scale
        scores[thread] = score
        barrier()
        var before = greatest
        for j in range(count):
            greatest = max(greatest, scores[j])
        var rescale = exp(before - greatest)
        total *= rescale
        acc *= rescale
        for i in range(count):
            var j = start + i
            var p = exp(scores[i] - greatest)
            total += p
            if thread < D:
                var page = Int(pages[unsafe_offset=j // PS]) * 2 * KH
                var value = kv.unsafe_offset(
                    ((page + KH + head) * PS + j % PS) * D
                )
                acc += p * value[unsafe_offset=thread].cast[DType.float32]()
        barrier()
    if thread < D:
        var result = acc / total if total > 0 else Float32(0)
        o[unsafe_offset=(t * H + Int(block_idx.y)) * D + thread] = result.cast[
            dtype
        ]()


def attention_gpu[
    D: Int, dtype: DType
](
    o: Ptr[dtype],
    q: Ptr[dtype],
    kv: Ptr[dtype],
    row_offsets: Ptr[DType.int32],
    context_lengths: Ptr[DType.int32],
    page_table: Ptr[DType.int32],
    scale: Float32,
    shape: AttentionShape,
    ctx: DeviceContext,
) raises:
    """Writes o [T, H, D] for queries q [T, H, D] over the cache [pages, 2, KH, PS, D].
    """
    if shape.tokens == 0:
        return
    ctx.enqueue_function[attention_kernel[D, dtype]](
        o,
        q,
        kv,
        row_offsets,
        context_lengths,
        page_table,
        scale,
        Int32(shape.requests),
        Int32(shape.kv_heads),
        Int32(shape.page_size),
        Int32(shape.table_width),
        Int32(shape.window),
        Int32(shape.heads),
        grid_dim=(shape.tokens, shape.heads),
        block_dim=BLOCK,
    )
