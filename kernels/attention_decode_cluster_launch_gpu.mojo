"""Launches decode attention by clusters (attention_decode_cluster_gpu.mojo): how large they are, and where they may run.

Microseconds on an H100 (132 SMs) by the size of a cluster, 8 key/value heads of 128, in a captured graph of nothing else
and, in brackets, with a kernel of another kind between two of them:

    blocks                        1              2              4              8
    1 request of 512 keys                                                      3.1   (3.2)
    2 requests of 2,048                                         8.7   (8.9)    10.3  (9.1)
    4 requests of 2,048                          15.0  (15.2)   16.1  (15.2)
    8 requests of 2,048           27.4  (27.7)   25.5  (27.2)
    the same, a block an SM                      25.7  (25.8)
"""

from .attention import AttentionShape
from .attention_decode_cluster_gpu import (
    WARPS,
    attention_decode_cluster_kernel,
    shared_bytes,
)
from .attention_decode_tile_gpu import GROUP
from .common import Ptr
from .gpu_common import early_launch, log2_exact
from max.gpu import WARP_SIZE
from max.gpu.host import DeviceContext, Dim, FuncAttribute
from std.math import ceildiv


def cluster_size(clusters: Int, longest: Int) -> Int:
    """Blocks of a cluster, a power of two, when contexts have up to `longest` keys.

    More blocks read faster, up to one an SM; but a cluster starts when an SM is free for each of its blocks, later the
    larger it is and the fuller the GPU. 16 blocks are more than every GPU with clusters allows.
    """
    comptime sm_count = DeviceContext.default_device_info.sm_count
    comptime sixteen = DeviceContext.default_device_info.compute == 9.0
    if sixteen and longest >= 4096 and clusters * 16 <= sm_count // 2:
        return 16
    if clusters * 8 <= sm_count // 2:
        return 8
    if clusters * 4 <= sm_count * 3 // 4:
        return 4
    return 2 if clusters * 2 <= sm_count else 1


def attention_decode_cluster_gpu[
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
    comptime info = DeviceContext.default_device_info
    var group = shape.heads // shape.kv_heads
    var tiles = shape.kv_heads * ceildiv(group, GROUP)
    var longest = shape.table_width * shape.page_size
    if shape.window > 0:
        longest = min(longest, shape.window)
    var clusters = tiles * shape.requests
    var blocks = cluster_size(clusters, longest)
    var bytes = shared_bytes[D, dtype](min(group, GROUP), blocks)
    comptime half = info.shared_memory_per_multiprocessor // 2
    comptime most = max(shared_bytes[D, dtype](GROUP, 16), half)
    if blocks <= 2 and clusters * blocks * 8 > info.sm_count * 7:
        # Where nearly every SM has to have a block, none may have two: they would take longer than the others.
        bytes = max(bytes, half)
    ctx.enqueue_function[attention_decode_cluster_kernel[D, dtype]](
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
        Int32(log2_exact(blocks)),
        grid_dim=(blocks, tiles, shape.requests),
        cluster_dim=Dim(blocks),
        block_dim=WARPS * WARP_SIZE,
        shared_mem_bytes=bytes,
        func_attribute=FuncAttribute.MAX_DYNAMIC_SHARED_SIZE_BYTES(
            UInt32(most)
        ),
        attributes=early_launch(),
    )
