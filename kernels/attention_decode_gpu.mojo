"""Attention of one new token a request on NVIDIA tensor cores: bound by reading keys and values once.

A warp takes 16 keys at a time straight from memory to registers, 16 bytes a lane, and computes them for up to eight
query heads at once: attention_decode_tile_gpu.mojo draws the tile.

No shared memory and no barrier in the loop. The context of a request is cut into SPLITS ranges, so that one request
also fills the GPU; a second kernel joins their results (attention_join_gpu.mojo).

How far each range reaches is computed on the device from the context length, so a captured graph stays valid when
contexts grow.
"""

from .attention import AttentionShape
from .attention_decode_tile_gpu import (
    GROUP,
    attend_16_keys,
    joined_state,
    key_slices,
    load_query,
    store_state,
    value_chunks,
)
from .attention_join_gpu import (
    MAX_SPLITS,
    UNIT,
    WARPS,
    attention_join_kernel,
    split_units,
)
from .common import Ptr
from .gpu_common import (
    early_launch,
    load_vector,
    log2_exact,
    wait_for_previous,
    warp_index,
)
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
from std.math import ceildiv
from std.math.constants import log2e
from std.memory import stack_allocation
from std.utils import StaticTuple

comptime BLOCKS_PER_SM = 4
"""Blocks of the attention kernel that the registers of an SM hold."""


@__llvm_metadata(
    MAX_THREADS_PER_BLOCK_METADATA=StaticTuple[Int32, 1](
        Int32(WARPS * WARP_SIZE)
    ),
    `nvvm.minctasm`=SIMDLength(BLOCKS_PER_SM if D <= 128 else 2),
)
@__name(t"mili_attention_decode_{dtype}_{D}_{split}")
def attention_decode_kernel[
    D: Int, dtype: DType, split: Bool
](
    o: Ptr[dtype],
    partial_sums: Ptr[DType.float32],
    partial_stats: Ptr[DType.float32],
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
    window: Int32,
    splits_: Int32,
):
    """Block (s, c, b): range s of the context of request b for the c-th tile of query heads; 8 divides D.
    """
    comptime F32 = DType.float32
    comptime chunks = value_chunks[D]()
    comptime slices = key_slices[D]()
    var heads = Int(heads_)
    var kv_heads = Int(kv_heads_)
    var shift = Int(page_shift_)
    var splits = Int(splits_)
    var group = heads // kv_heads
    var tiles = ceildiv(group, GROUP)
    var s = Int(block_idx.x)
    var kv_head = Int(block_idx.y) // tiles
    var head0 = kv_head * group + Int(block_idx.y) % tiles * GROUP
    var head_count = min(GROUP, (kv_head + 1) * group - head0)
    var b = Int(block_idx.z)
    var lane = Int(lane_id())
    var g = lane >> 2
    var t = lane & 3
    var table = page_table.unsafe_offset(b * Int(table_width))
    var value_step = (kv_heads << shift) * D
    wait_for_previous()
    var first_token = Int(row_offsets[unsafe_offset=b])
    var end_token = Int(row_offsets[unsafe_offset=b + 1])

    @always_inline
    def key_row(j: Int) {imm} -> Int:
        var page = Int(table[unsafe_offset=j >> shift])
        return (
            ((page * 2 * kv_heads + kv_head) << shift)
            + (j & ((1 << shift) - 1))
        ) * D

    for token in range(first_token, end_token):
        var last = Int(context_lengths[unsafe_offset=b]) - end_token + token
        var first = max(0, last - Int(window) + 1) if window > 0 else 0
        var per_split = (
            split_units(ceildiv(last + 1 - first, UNIT), splits) * UNIT
        )
        var begin = first + s * per_split
        var end = min(begin + per_split, last + 1)
        if split and begin >= end:
            continue

        var query = stack_allocation[slices, SIMD[dtype, 8]]()
        load_query[D](query, q, token * heads + head0, head_count)
        var acc = stack_allocation[chunks * 4, SIMD[F32, 4]]()
        comptime for i in range(chunks * 4):
            acc[unsafe_offset=i] = SIMD[F32, 4](0)
        var greatest = Float32.MIN_FINITE
        var total = Float32(0)
        var keys = stack_allocation[2 * slices, SIMD[dtype, 8]]()
        var values = stack_allocation[4 * chunks, SIMD[dtype, 8]]()
        for base in range(begin + warp_index() * 16, end, UNIT):
            comptime for i in range(2):
                var row = key_row(min(base + i * 8 + g, end - 1))
                comptime for c in range(slices):
                    var at = c * 32 + t * 8
                    comptime if D % 32 != 0:
                        at = min(at, D - 8)  # the query is zero there
                    keys[unsafe_offset=i * slices + c] = load_vector[dtype, 8](
                        kv, row + at
                    )
            comptime for i in range(4):
                var j = base + 2 * t + (i & 1) + (i >> 1) * 8
                var row = key_row(min(j, end - 1)) + value_step
                comptime for c in range(chunks):
                    var at = c * 64 + g * 8
                    comptime if D % 64 != 0:
                        at = min(at, D - 8)  # those sums are not stored
                    var v = load_vector[dtype, 8](kv, row + at)
                    values[
                        unsafe_offset=i * chunks + c
                    ] = v if j < end else SIMD[dtype, 8](0)

            attend_16_keys[D](
                query,
                keys,
                values,
                acc,
                greatest,
                total,
                scale * Float32(log2e),
                base,
                begin,
                end,
            )

        var sums = stack_allocation[
            WARPS * GROUP * D,
            Float32,
            address_space=AddressSpace.SHARED,
            alignment=16,
        ]().as_unsafe_any_origin()
        var stats = stack_allocation[
            WARPS * GROUP * 2, Float32, address_space=AddressSpace.SHARED
        ]().as_unsafe_any_origin()
        barrier()
        store_state[D](sums, stats, acc, greatest, total, warp_index())
        barrier()
        for i in range(Int(thread_idx.x), head_count * D, WARPS * WARP_SIZE):
            var head = i // D
            var joined = joined_state[D, WARPS](sums, stats, head, i % D)
            var row = token * heads + head0 + head
            comptime if split:
                row = row * splits + s
                partial_sums[unsafe_offset=row * D + i % D] = joined[0]
                if i % D == 0:
                    partial_stats[unsafe_offset=row * 2] = joined[1]
                    partial_stats[unsafe_offset=row * 2 + 1] = joined[2]
            else:
                var result = joined[0] / joined[2] if joined[
                    2
                ] > 0 else Float32(0)
                o[unsafe_offset=row * D + i % D] = result.cast[dtype]()


def choose_splits(blocks: Int, units: Int, slots: Int) -> Int:
    """Into how many ranges to cut contexts of up to `units` rounds when `blocks` blocks would run without cutting.

    `slots` blocks run at a time. A block costs its rounds and about one more to start and finish; joining costs two.
    """
    var best = 1
    var least = ceildiv(blocks, slots) * (units + 1)
    for splits in range(2, min(units, MAX_SPLITS) + 1):
        var cost = (
            ceildiv(blocks * splits, slots) * (ceildiv(units, splits) + 1) + 2
        )
        if cost < least:
            least = cost
            best = splits
    return best


def attention_decode_gpu[
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
    """Writes o [T, H, D] when each request has one new token (right, but slow, if some have more); 8 divides D.
    """
    comptime sm_count = DeviceContext.default_device_info.sm_count
    var tiles = shape.kv_heads * ceildiv(shape.heads // shape.kv_heads, GROUP)
    var longest = shape.table_width * shape.page_size
    if shape.window > 0:
        longest = min(longest, shape.window)
    var splits = choose_splits(
        tiles * shape.requests,
        ceildiv(longest, UNIT),
        BLOCKS_PER_SM * sm_count,
    )

    def go[
        split: Bool
    ](sums: Ptr[DType.float32], stats: Ptr[DType.float32]) raises {imm}:
        ctx.enqueue_function[attention_decode_kernel[D, dtype, split]](
            o,
            sums,
            stats,
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
            Int32(splits),
            grid_dim=(splits, tiles, shape.requests),
            block_dim=WARPS * WARP_SIZE,
            attributes=early_launch(),
        )

    if splits == 1:
        var unused = q.unsafe_bitcast[Float32]()
        go[False](unused, unused)
        return
    var rows = shape.tokens * shape.heads * splits
    var workspace = ctx.enqueue_create_buffer[DType.float32](rows * (D + 2))
    var sums = workspace.unsafe_ptr().as_unsafe_any_origin()
    var stats = sums.unsafe_offset(rows * D)
    go[True](sums, stats)
    ctx.enqueue_function[attention_join_kernel[D, dtype]](
        o,
        sums,
        stats,
        row_offsets,
        context_lengths,
        Int32(shape.heads),
        Int32(shape.window),
        Int32(splits),
        grid_dim=(shape.heads, shape.requests),
        block_dim=WARPS * WARP_SIZE,
        attributes=early_launch(),
    )
    _ = workspace^
