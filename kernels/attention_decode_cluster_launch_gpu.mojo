"""Launches decode attention by clusters (attention_decode_cluster_gpu.mojo): how large they are.

Microseconds on an H100 (132 SMs) by the blocks of a cluster, 16 query and 8 key/value heads of 128 in bfloat16, pages of 16;
"mixed" are exponentially distributed contexts, 1,500 keys on average and up to some 10,000:

    requests                                 1        2        4        8
    2 of 2,048                            15.9     10.2      8.4     12.0
    8 of 2,048                            25.5     24.9     26.7     28.0
    16 of 2,048                           46.6     47.2     48.5     50.7
    32 of 512                             24.9     26.0     27.7     39.7
    64 of 512                             47.1     48.4     50.4     73.8
    64 of 100 to 2,000                    94.6     94.0     96.1    109.1
    256 of 512                           178.8    179.4    187.1    284.3
    256 of 100 to 2,000                  363.2    362.9    371.3    430.2
    64 of 8,192                          703.2    703.8    705.3    700.7
    12 mixed                              38.4     32.7     31.6     31.9
    64 mixed                             153.0    140.5    135.0    153.2
    256 mixed                            523.4    512.8    518.2    586.7
    63 of 500, one of 16,000             155.0     92.9     70.2     89.0
    31 of 1,000, one of 30,000           237.8    155.0    115.0     99.2

More blocks read one context faster; but a cluster starts when there is room for each of its blocks, later the larger it is
and the fuller the GPU. What the longest context is, is not known here, only what the page table has room for.

What came before, on the same GPU: two kernels, of which the first kept loads in registers, 6.3 us for one request of 512 where
this takes 3.0; one that cut the line of all keys into even shares, fed by the copy engine and joined by a second launch, 187
for 256 of 512 and 375 for 256 of 100 to 2,000. (`python -m benchmarks.gpu.run_all --only decode` measures what is chosen.)
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
    if clusters * 8 <= sm_count // 2:
        return 8
    if clusters * 4 <= sm_count * 3 // 4 or longest > LONG:
        return 4
    if clusters > sm_count:
        return 1 if longest <= 1024 else 2
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

    comptime info = DeviceContext.default_device_info
    comptime half = info.shared_memory_per_multiprocessor // 2
    comptime most = max(shared_bytes[D, dtype](GROUP, 16), half)
    var bytes = shared_bytes[D, dtype](min(group, GROUP), blocks)
    var used = clusters * blocks
    if used <= info.sm_count and used * 8 > info.sm_count * 7:
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
        Int32(shape.tokens != shape.requests),
        grid_dim=(blocks, clusters // shape.requests, shape.requests),
        cluster_dim=Dim(blocks),
        block_dim=WARPS * WARP_SIZE,
        shared_mem_bytes=bytes,
        func_attribute=FuncAttribute.MAX_DYNAMIC_SHARED_SIZE_BYTES(
            UInt32(most)
        ),
        attributes=early_launch(),
    )
