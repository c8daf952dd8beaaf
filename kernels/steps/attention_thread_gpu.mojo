"""Attention on the GPU, step 1: one thread a query head of a token, with the online softmax.

    m, l and a [D] in registers; each key and each value is read 2 bytes at a time by every thread that needs it

The lanes of a warp have 32 heads: those of a group read the same keys, others another part of the page. Decoding one
request keeps no more threads busy than it has heads. Step 2 (`attention_simple_gpu.mojo`) gives a block to each query
head: lanes share D, warps share the keys.
"""

from ..attention import AttentionShape
from ..attention_simple_gpu import request_of
from ..common import Ptr
from ..gpu_common import log2_exact
from max.gpu import MAX_THREADS_PER_BLOCK_METADATA, global_idx
from max.gpu.host import DeviceContext
from std.math import ceildiv, exp
from std.memory import stack_allocation
from std.utils import StaticTuple

comptime THREADS = 64


@__llvm_metadata(
    MAX_THREADS_PER_BLOCK_METADATA=StaticTuple[Int32, 1](Int32(THREADS))
)
@__name(t"mili_step_attention_thread_{dtype}_{D}")
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
    rows: Int32,
    requests: Int32,
    heads: Int32,
    kv_heads: Int32,
    page_shift: Int32,
    table_width: Int32,
    window: Int32,
):
    """Thread i writes query head i % H of token i / H."""
    comptime F32 = DType.float32
    var row = Int(global_idx.x)
    if row >= Int(rows):
        return
    var t = row // Int(heads)
    var kv_head = row % Int(heads) // Int(heads // kv_heads)
    var b = request_of(row_offsets, Int(requests), t)
    var last = (
        Int(context_lengths[unsafe_offset=b])
        - Int(row_offsets[unsafe_offset=b + 1])
        + t
    )
    var first = max(0, last - Int(window) + 1) if window > 0 else 0
    var mask = (1 << Int(page_shift)) - 1
    var values = (Int(kv_heads) << Int(page_shift)) * D
    var sums = stack_allocation[D, Float32]()
    comptime for d in range(D):
        sums[unsafe_offset=d] = 0
    var greatest = Float32.MIN_FINITE
    var total = Float32(0)
    for j in range(first, last + 1):
        var page = Int(
            page_table[
                unsafe_offset=b * Int(table_width) + (j >> Int(page_shift))
            ]
        )
        var key = (
            ((page * 2 * Int(kv_heads) + kv_head) << Int(page_shift))
            + (j & mask)
        ) * D
        var score = Float32(0)
        for d in range(D):
            score += (
                q[unsafe_offset=row * D + d].cast[F32]()
                * kv[unsafe_offset=key + d].cast[F32]()
            )
        score *= scale
        var now = max(greatest, score)
        var rescale = exp(greatest - now)
        var p = exp(score - now)
        greatest = now
        total = total * rescale + p
        comptime for d in range(D):
            sums[unsafe_offset=d] = (
                sums[unsafe_offset=d] * rescale
                + p * kv[unsafe_offset=key + values + d].cast[F32]()
            )
    comptime for d in range(D):
        o[unsafe_offset=row * D + d] = (sums[unsafe_offset=d] / total).cast[
            dtype
        ]()


def attention[
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
    var rows = shape.tokens * shape.heads
    ctx.enqueue_function[attention_kernel[D, dtype]](
        o,
        q,
        kv,
        row_offsets,
        context_lengths,
        page_table,
        scale,
        Int32(rows),
        Int32(shape.requests),
        Int32(shape.heads),
        Int32(shape.kv_heads),
        Int32(log2_exact(shape.page_size)),
        Int32(shape.table_width),
        Int32(shape.window),
        grid_dim=ceildiv(rows, THREADS),
        block_dim=THREADS,
    )
