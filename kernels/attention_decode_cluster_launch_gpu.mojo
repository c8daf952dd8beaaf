"""Launches decode attention by clusters (attention_decode_cluster_gpu.mojo): how large they are, and where they may run.

Microseconds on an H100 (132 SMs), 16 query and 8 key/value heads of 128 in bfloat16, pages of 16, by warps of a block W and
blocks of a cluster C:

    W, C                              8, 1     8, 2     8, 4     8, 8     4, 1     4, 2     4, 4     4, 8
    2 requests of 2,048               15.6     10.1      8.4      9.8     25.4     14.6      9.7      8.4
    8 of 2,048                        25.5     24.9     26.8     28.4     30.9     25.6     27.0     26.8
    16 of 2,048                       46.7     50.1     49.1              48.3     47.0     50.3
    16 of up to 16,000, most short    53.9     49.7     45.6              70.1     52.9     47.8
    64 of 512                         52.2     56.6                       47.5     48.5     49.2     51.1
    64 of 100 to 2,000                95.8     99.2                       96.8     95.7     95.6     97.3
    256 of 512                       185.5    198.2                      180.1    182.6    180.8    190.8
    256 of 100 to 2,000              366.2    377.1                      366.7    364.8    365.3    373.6
    63 of 500 and one of 16,000      152.0    109.7     88.6    103.7    222.2    141.1    101.1     86.2
    31 of 1,000 and one of 30,000    227.5    133.3     99.4     87.7    373.1    213.1    136.8     97.7

More blocks read one context faster; but a cluster starts when there is room for each of its blocks, later the larger it is
and the fuller the GPU. The length of the longest request is not known here, only what the page table has room for. (A
kernel that cut the line of all keys into even shares, and took the last of them from a counter, took 54 us of the sixth
row's 96 more, 103, and 374 of the eighth's 365: finding shares and joining them by a second launch costs more than an uneven
end, but with one request of 16,000 at the end of 256 it took 216 where this takes 235.)
"""

from .attention import AttentionShape
from .attention_decode_cluster_gpu import (
    attention_decode_cluster_kernel,
    shared_bytes,
)
from .attention_decode_tile_gpu import GROUP
from .common import Ptr
from .gpu_common import early_launch, log2_exact
from max.gpu import WARP_SIZE
from max.gpu.host import DeviceContext, Dim, FuncAttribute
from std.math import ceildiv


comptime FEW = 8
comptime MANY = 4
"""Warps of a block: few, large blocks where there is an SM for each cluster, else four blocks an SM."""
comptime LONG = 8192
"""Keys from which on contexts of one step are taken to differ so much that the longest would decide."""


def cluster_size(clusters: Int, longest: Int) -> Int:
    """Blocks of a cluster, a power of two, when contexts have up to `longest` keys. 16 are more than every GPU with
    clusters allows.
    """
    comptime sm_count = DeviceContext.default_device_info.sm_count
    comptime sixteen = DeviceContext.default_device_info.compute == 9.0
    if sixteen and longest >= 4096 and clusters * 16 <= sm_count // 2:
        return 16
    if clusters * 8 <= sm_count // 2 or longest > LONG:
        return 8
    if clusters > sm_count:
        return 1 if longest <= 1024 else 2 if longest <= 2048 else 4
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
    """Writes the rows of o [T, H, D] of requests with one new token, and all rows when there are as many tokens as
    requests (right, but slow, if some have more than one); 8 divides D, D at most 256.
    """
    var group = shape.heads // shape.kv_heads
    var clusters = shape.kv_heads * ceildiv(group, GROUP) * shape.requests
    var longest = shape.table_width * shape.page_size
    if shape.window > 0:
        longest = min(longest, shape.window)
    var blocks = cluster_size(clusters, longest)

    @always_inline
    def launch[warps: Int]() raises {imm}:
        comptime info = DeviceContext.default_device_info
        comptime half = info.shared_memory_per_multiprocessor // 2
        comptime most = max(shared_bytes[D, dtype, warps](GROUP, 16), half)
        var bytes = shared_bytes[D, dtype, warps](min(group, GROUP), blocks)
        var used = clusters * blocks
        if used <= info.sm_count and used * 8 > info.sm_count * 7:
            # Where nearly every SM has to have a block, none may have two: they would take longer than the others.
            bytes = max(bytes, half)
        ctx.enqueue_function[attention_decode_cluster_kernel[D, dtype, warps]](
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
            Int32(shape.tokens != shape.requests),
            grid_dim=(
                blocks,
                shape.kv_heads * ceildiv(group, GROUP),
                shape.requests,
            ),
            cluster_dim=Dim(blocks),
            block_dim=warps * WARP_SIZE,
            shared_mem_bytes=bytes,
            func_attribute=FuncAttribute.MAX_DYNAMIC_SHARED_SIZE_BYTES(
                UInt32(most)
            ),
            attributes=early_launch(),
        )

    if clusters > DeviceContext.default_device_info.sm_count:
        launch[MANY]()
    else:
        launch[FEW]()
