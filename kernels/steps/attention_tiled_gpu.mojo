"""Attention of many tokens on the GPU, step 3: tiles of keys and values in shared memory serve 64 query rows.

    block    64 tokens of one request and one query head, two lanes a token
    tile     32 keys and values, copied with 16-byte loads; all lanes read the same key at the same time: one broadcast
    lane     chunks of 8 of D, every second one:  lane 2 r has chunks 0, 2, 4, ..., lane 2 r + 1 has 1, 3, 5, ...
             its half of q and of a in registers; a score is two halves, added with one shuffle

Each key comes from memory once for 64 rows; what limits now are the multiply-adds. Step 4
(`attention_prefill_gpu.mojo`) does both products on tensor cores.
"""

from ..attention import AttentionShape
from ..common import Ptr
from ..gpu_common import group_sum, load_vector, log2_exact, store_vector
from max.gpu import (
    MAX_THREADS_PER_BLOCK_METADATA,
    barrier,
    block_idx,
    thread_idx,
)
from max.gpu.host import DeviceContext
from max.gpu.memory import AddressSpace
from std.math import ceildiv, exp
from std.memory import stack_allocation
from std.utils import StaticTuple

comptime ROWS = 64
comptime THREADS = 2 * ROWS
comptime KEYS = 32
comptime AT_ONCE = 8
"""Keys between two rescales."""


@__llvm_metadata(
    MAX_THREADS_PER_BLOCK_METADATA=StaticTuple[Int32, 1](Int32(THREADS))
)
@__name(t"mili_step_attention_tiled_{dtype}_{D}")
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
    heads_: Int32,
    kv_heads_: Int32,
    page_shift_: Int32,
    table_width: Int32,
    window_: Int32,
):
    """Block (i, h, b) writes query head h of tokens 64 i to 64 i + 63 of request b; 16 divides D.
    """
    comptime F32 = DType.float32
    comptime parts = D // 16
    var heads = Int(heads_)
    var kv_heads = Int(kv_heads_)
    var page_shift = Int(page_shift_)
    var window = Int(window_)
    var h = Int(block_idx.y)
    var b = Int(block_idx.z)
    var end = Int(row_offsets[unsafe_offset=b + 1])
    var token0 = Int(row_offsets[unsafe_offset=b]) + Int(block_idx.x) * ROWS
    if token0 >= end:
        return
    var before = Int(context_lengths[unsafe_offset=b]) - end
    var thread = Int(thread_idx.x)
    var half = thread & 1
    var token = min(token0 + thread // 2, end - 1)
    var last = before + token
    var first = max(0, last - window + 1) if window > 0 else 0
    var low = max(0, before + token0 - window + 1) if window > 0 else 0
    var high = before + min(token0 + ROWS, end)

    var keys = stack_allocation[
        KEYS * D,
        Scalar[dtype],
        address_space=AddressSpace.SHARED,
        alignment=16,
    ]()
    var values = stack_allocation[
        KEYS * D,
        Scalar[dtype],
        address_space=AddressSpace.SHARED,
        alignment=16,
    ]()
    var query = stack_allocation[parts, SIMD[F32, 8]]()
    var sums = stack_allocation[parts, SIMD[F32, 8]]()
    var at = (token * heads + h) * D + half * 8
    comptime for i in range(parts):
        query[unsafe_offset=i] = (
            load_vector[dtype, 8](q, at + i * 16).cast[F32]() * scale
        )
        sums[unsafe_offset=i] = SIMD[F32, 8](0)
    var greatest = Float32.MIN_FINITE
    var total = Float32(0)
    var kv_head = h // (heads // kv_heads)
    var scores = stack_allocation[AT_ONCE, Float32]()
    for start in range(low, high, KEYS):
        barrier()
        for index in range(thread, KEYS * (D // 8), THREADS):
            var j = min(start + index // (D // 8), high - 1)
            var d = index % (D // 8) * 8
            var page = Int(
                page_table[
                    unsafe_offset=b * Int(table_width) + (j >> page_shift)
                ]
            )
            var source = (
                ((page * 2 * kv_heads + kv_head) << page_shift)
                + (j & ((1 << page_shift) - 1))
            ) * D + d
            keys.unsafe_store[width=8, alignment=16](
                index * 8, load_vector[dtype, 8](kv, source)
            )
            values.unsafe_store[width=8, alignment=16](
                index * 8,
                load_vector[dtype, 8](
                    kv, source + (kv_heads << page_shift) * D
                ),
            )
        barrier()
        for j0 in range(0, KEYS, AT_ONCE):
            var now = greatest
            comptime for j in range(AT_ONCE):
                var lanes = SIMD[F32, 8](0)
                comptime for i in range(parts):
                    var key = keys.unsafe_load[width=8, alignment=16](
                        (j0 + j) * D + i * 16 + half * 8
                    ).cast[F32]()
                    lanes = key.fma(query[unsafe_offset=i], lanes)
                var score = group_sum[2](lanes.reduce_add())
                var position = start + j0 + j
                var seen = position >= first and position <= last
                scores[unsafe_offset=j] = score if seen else Float32.MIN
                now = max(now, scores[unsafe_offset=j])
            var rescale = exp(greatest - now)
            greatest = now
            total *= rescale
            comptime for i in range(parts):
                sums[unsafe_offset=i] *= rescale
            comptime for j in range(AT_ONCE):
                var p = exp(scores[unsafe_offset=j] - now)
                total += p
                comptime for i in range(parts):
                    var value = values.unsafe_load[width=8, alignment=16](
                        (j0 + j) * D + i * 16 + half * 8
                    ).cast[F32]()
                    sums[unsafe_offset=i] = value.fma(
                        SIMD[F32, 8](p), sums[unsafe_offset=i]
                    )
    if token0 + thread // 2 < end:
        comptime for i in range(parts):
            store_vector[dtype, 8](
                o,
                at + i * 16,
                (sums[unsafe_offset=i] / total).cast[dtype](),
            )


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
    """Writes o [T, H, D] for queries q [T, H, D] over the cache [pages, 2, KH, PS, D]; 16 divides D, two-byte elements.
    """
    ctx.enqueue_function[attention_kernel[D, dtype]](
        o,
        q,
        kv,
        row_offsets,
        context_lengths,
        page_table,
        scale,
        Int32(shape.heads),
        Int32(shape.kv_heads),
        Int32(log2_exact(shape.page_size)),
        Int32(shape.table_width),
        Int32(shape.window),
        grid_dim=(ceildiv(shape.tokens, ROWS), shape.heads, shape.requests),
        block_dim=THREADS,
    )
