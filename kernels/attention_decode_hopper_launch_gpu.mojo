"""How decode attention of many requests starts on Hopper: the kernel that takes shares, and the one that joins parts.
"""

from .attention import AttentionShape
from .attention_decode_hopper_gpu import (
    THREADS,
    attention_decode_hopper_kernel,
    blocks_per_sm,
    shared_bytes,
)
from .attention_decode_join_gpu import (
    JOIN_WARPS,
    attention_decode_join_kernel,
)
from .attention_decode_plan_gpu import MOST
from .attention_decode_tile_gpu import GROUP
from .common import Ptr
from .device_counter_gpu import device_counter
from .gpu_common import early_launch, log2_exact
from max.gpu import WARP_SIZE
from max.gpu.host import DeviceContext, FuncAttribute
from std.math import ceildiv


def attention_decode_hopper_gpu[
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
    """Writes the rows of o [T, H, D] of requests with one new token, and all rows when there are as many tokens as
    requests; 8 divides D, D at most 256.
    """
    comptime blocks = (
        blocks_per_sm[D]() * DeviceContext.default_device_info.sm_count
    )
    comptime bytes = shared_bytes[D, dtype]()
    comptime places = 2 * MOST * blocks * GROUP
    var workspace = ctx.enqueue_create_buffer[DType.float32](
        places * (D + 2) + 2 * (MOST * blocks + JOIN_WARPS)
    )
    var sums = workspace.unsafe_ptr().as_unsafe_any_origin()
    var stats = sums.unsafe_offset(places * D)
    var notes = stats.unsafe_offset(places * 2).unsafe_bitcast[Int32]()
    ctx.enqueue_function[attention_decode_hopper_kernel[D, dtype, blocks]](
        o,
        sums,
        stats,
        device_counter(ctx),
        notes,
        q,
        kv,
        row_offsets,
        context_lengths,
        page_table,
        scale,
        Int32(shape.tokens != shape.requests),
        Int32(shape.requests),
        Int32(shape.heads),
        Int32(shape.kv_heads),
        Int32(log2_exact(shape.page_size)),
        Int32(shape.table_width),
        Int32(shape.window),
        grid_dim=blocks,
        block_dim=THREADS,
        shared_mem_bytes=bytes,
        func_attribute=FuncAttribute.MAX_DYNAMIC_SHARED_SIZE_BYTES(
            UInt32(bytes)
        ),
        attributes=early_launch(),
    )
    ctx.enqueue_function[attention_decode_join_kernel[D, dtype]](
        o,
        sums,
        stats,
        notes,
        Int32(shape.heads // shape.kv_heads),
        grid_dim=(
            ceildiv(MOST * blocks, JOIN_WARPS),
            min(GROUP, shape.heads // shape.kv_heads),
        ),
        block_dim=JOIN_WARPS * WARP_SIZE,
        attributes=early_launch(),
    )
    _ = workspace^
