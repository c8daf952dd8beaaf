"""Attention on any GPU, any dtype and any head dimension, without tensor cores: one block a query head of a token.

    warp v takes keys in groups of KEYS:  v, v + WARPS, ...       its lanes share the head dimension
        s_j = scale * q . k_j             a partial product a lane, then a warp sum; KEYS of them side by side
        m', l', a' = online softmax       every warp has its own m, l and a
    at the end the warps meet in shared memory:  o = sum_v a_v exp(m_v - m) / sum_v l_v exp(m_v - m)

It serves float32, whose results must not be rounded to tf32, and the shapes that the tensor-core kernels do not take.
"""

from .attention import AttentionShape
from .common import Ptr
from .gpu_common import log2_exact, warp_index
from max.gpu import WARP_SIZE, barrier, block_idx, lane_id, thread_idx
from max.gpu.host import DeviceContext
from max.gpu.memory import AddressSpace
from max.gpu.primitives import warp
from std.math import ceildiv, exp
from std.memory import stack_allocation

comptime WARPS = 8
comptime KEYS = 4


@always_inline
def request_of(row_offsets: Ptr[DType.int32], requests: Int, token: Int) -> Int:
    """The request b with row_offsets[b] <= token < row_offsets[b + 1], by bisection.
    """
    var low = 0
    var high = requests
    while high - low > 1:
        var middle = (low + high) // 2
        if Int(row_offsets[unsafe_offset=middle]) <= token:
            low = middle
        else:
            high = middle
    return low


@__name(t"mili_attention_simple_{dtype}_{D}")
def attention_simple_kernel[
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
    heads: Int32,
    kv_heads: Int32,
    page_shift: Int32,
    table_width: Int32,
    window: Int32,
):
    """Block (t, h) writes query head h of token t."""
    comptime F32 = DType.float32
    comptime parts = ceildiv(D, WARP_SIZE)
    var t = Int(block_idx.x)
    var h = Int(block_idx.y)
    var lane = Int(lane_id())
    var kv_head = h // Int(heads // kv_heads)
    var b = request_of(row_offsets, Int(requests), t)
    var last = (
        Int(context_lengths[unsafe_offset=b])
        - Int(row_offsets[unsafe_offset=b + 1])
        + t
    )
    var first = max(0, last - Int(window) + 1) if window > 0 else 0
    var mask = (1 << Int(page_shift)) - 1

    var query = stack_allocation[parts, Float32]()
    var acc = stack_allocation[parts, Float32]()
    comptime for i in range(parts):
        var d = lane + i * WARP_SIZE
        query[unsafe_offset=i] = 0
        acc[unsafe_offset=i] = 0
        if d < D:
            query[unsafe_offset=i] = (
                q[unsafe_offset=(t * Int(heads) + h) * D + d].cast[F32]()
                * scale
            )
    var greatest = Float32.MIN_FINITE
    var total = Float32(0)
    var rows = stack_allocation[KEYS, Int]()
    var scores = stack_allocation[KEYS, Float32]()
    for start in range(first + warp_index() * KEYS, last + 1, WARPS * KEYS):
        comptime for i in range(KEYS):
            var j = min(start + i, last)
            var page = Int(
                page_table[
                    unsafe_offset=b * Int(table_width) + (j >> Int(page_shift))
                ]
            )
            rows[unsafe_offset=i] = (
                ((page * 2 * Int(kv_heads) + kv_head) << Int(page_shift))
                + (j & mask)
            ) * D
            var score = Float32(0)
            comptime for part in range(parts):
                var d = lane + part * WARP_SIZE
                if d < D:
                    score += (
                        query[unsafe_offset=part]
                        * kv[unsafe_offset=rows[unsafe_offset=i] + d].cast[
                            F32
                        ]()
                    )
            scores[unsafe_offset=i] = score
        var best = greatest
        comptime for i in range(KEYS):
            var score = warp.sum(scores[unsafe_offset=i])
            scores[unsafe_offset=i] = (
                score if start + i <= last else Float32.MIN
            )
            best = max(best, scores[unsafe_offset=i])
        var rescale = exp(greatest - best)
        greatest = best
        total *= rescale
        comptime for part in range(parts):
            acc[unsafe_offset=part] *= rescale
        comptime for i in range(KEYS):
            var p = exp(scores[unsafe_offset=i] - best)
            total += p
            var value = rows[unsafe_offset=i] + (
                (Int(kv_heads) << Int(page_shift)) * D
            )
            comptime for part in range(parts):
                var d = lane + part * WARP_SIZE
                if d < D:
                    acc[unsafe_offset=part] += (
                        p * kv[unsafe_offset=value + d].cast[F32]()
                    )

    var sums = stack_allocation[
        WARPS * D, Float32, address_space=AddressSpace.SHARED
    ]()
    var greatests = stack_allocation[
        WARPS, Float32, address_space=AddressSpace.SHARED
    ]()
    var totals = stack_allocation[
        WARPS, Float32, address_space=AddressSpace.SHARED
    ]()
    comptime for part in range(parts):
        var d = lane + part * WARP_SIZE
        if d < D:
            sums[unsafe_offset=warp_index() * D + d] = acc[unsafe_offset=part]
    if lane == 0:
        greatests[unsafe_offset=warp_index()] = greatest
        totals[unsafe_offset=warp_index()] = total
    barrier()
    var best = Float32.MIN_FINITE
    comptime for v in range(WARPS):
        best = max(best, greatests[unsafe_offset=v])
    for d in range(Int(thread_idx.x), D, WARPS * WARP_SIZE):
        var numerator = Float32(0)
        var denominator = Float32(0)
        comptime for v in range(WARPS):
            var weight = exp(greatests[unsafe_offset=v] - best)
            numerator += sums[unsafe_offset=v * D + d] * weight
            denominator += totals[unsafe_offset=v] * weight
        var result = numerator / denominator if denominator > 0 else Float32(0)
        o[unsafe_offset=(t * Int(heads) + h) * D + d] = result.cast[dtype]()


def attention_simple_gpu[
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
    ctx.enqueue_function[attention_simple_kernel[D, dtype]](
        o,
        q,
        kv,
        row_offsets,
        context_lengths,
        page_table,
        scale,
        Int32(shape.requests),
        Int32(shape.heads),
        Int32(shape.kv_heads),
        Int32(log2_exact(shape.page_size)),
        Int32(shape.table_width),
        Int32(shape.window),
        grid_dim=(shape.tokens, shape.heads),
        block_dim=WARPS * WARP_SIZE,
    )
