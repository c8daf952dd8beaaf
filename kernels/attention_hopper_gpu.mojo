"""Attention of many new tokens on Hopper (FlashAttention-3, arXiv:2407.08608): copies, products and softmax overlap.

Rows are as in `attention_prefill_gpu.mojo`: the query heads that share a key/value head are rows of the same tile.

    block      GROUPS x 64 rows of queries against tiles of KEYS keys; GROUPS + 1 warpgroups
    producer   one warpgroup copies tiles of keys and of values into a ring of STAGES each, page by page
    consumers  a warpgroup for each 64 rows:  S [64, KEYS] = Q K^T  ->  online softmax  ->  O [64, D] += P V
               Q, K, V are read from shared memory by `wgmma`; S, P and O stay in registers

`wgmma` runs while its warps go on, so a consumer starts the scores of the next tile before the values of this one, and
computes the softmax of the next while the tensor cores multiply the values of this one. With `turns` the consumers also
take turns in starting their products, so that one's softmax is to run beside the other's products:

    consumer 0   S1 | S2 = Q K2^T, O += P1 V1  softmax 2         | S3, O += P2 V2  softmax 3         |
    consumer 1         softmax 1         | S2 = Q K2^T, O += P1 V1  softmax 2         | S3 ...

Files: `attention_hopper_` block (memory, barriers, rows), producer, consumer, products, softmax; this one launches.

One causal prompt on an H100, bfloat16, pages of 16, microseconds; `of cuDNN` is the time of PyTorch 2.11's fastest
attention on dense tensors, which was cuDNN's, over this kernel's; TFLOP/s count 2 T^2 H D (`python -m
benchmarks.gpu.run_all --only prefill`; benchmarks/results/2026-11-26_h100_kernels.json):

                  16 query, 8 key/value heads of 128             32 query, 8 key/value heads of 128
       tokens      mma   this   TFLOP/s   of cuDNN                mma   this   TFLOP/s   of cuDNN
        1,024       44     19       224       1.00                 74     27       319       1.14
        2,048      133     39       442       1.34                210     75       456       1.08
        4,096      394    128       537       1.18                651    251       547       1.03
        8,192    1,252    466       589       1.04              2,444    934       589       0.97
       16,384    4,704  1,785       616       0.97              9,335  3,688       596       0.91

`mma` is `attention_prefill_gpu.mojo`, in the run of the tilings: microseconds at 4,096 tokens (16 query heads, 32) and
at 16,384 (32), `python -m benchmarks.gpu.prefill_variants`, benchmarks/results/2026-11-26_h100_prefill_variants.json.
With heads of 128 turns cost 5 to 15% from 4,096 tokens on: presumably two consumers fall into step by themselves. Three
have registers for 64 keys only and come ahead (2%) in the longest prompt alone.

    consumers   stages x keys      4,096 (16)    4,096 (32)    16,384 (32)         with turns
        2          2 x 128            126           253           3,692           132    280    4,079
        2          4 x 64             144           302           4,349           153    302    4,472
        3          4 x 64             143           260           3,615           147    269    3,838

With heads of 64 three consumers have registers for 128 keys. 9 query and 3 key/value heads, 4,096 tokens: 55 us with
turns (350 TFLOP/s, 1.27 of cuDNN), 56 without; two consumers 60 with turns; mma 176. Other sizes were not timed.
"""

from .attention import AttentionShape
from .attention_hopper_block_gpu import (
    GROUP_THREADS,
    BlockMemory,
    Copier,
    Work,
)
from .attention_hopper_consumer_gpu import consume
from .attention_hopper_producer_gpu import produce
from .common import Ptr
from .gpu_common import log2_exact, warp_index
from max.gpu import (
    MAX_THREADS_PER_BLOCK_METADATA,
    barrier,
    block_idx,
    thread_idx,
)
from max.gpu.host import DeviceContext, FuncAttribute
from max.gpu.intrinsics import warpgroup_reg_alloc, warpgroup_reg_dealloc
from max.gpu.memory import AddressSpace, external_memory
from max.gpu.primitives import warp
from std.math import ceildiv
from std.utils import StaticTuple


@__llvm_metadata(
    MAX_THREADS_PER_BLOCK_METADATA=StaticTuple[Int32, 1](
        Int32((groups + 1) * GROUP_THREADS)
    )
)
@__name(t"mili_attention_hopper_{dtype}_{D}_{groups}_{keys}_{stages}_{turns}")
def attention_hopper_kernel[
    D: Int,
    dtype: DType,
    groups: Int,
    keys: Int,
    stages: Int,
    turns: Bool,
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
    shift: Int32,
    table_width: Int32,
    window: Int32,
    least: Int32,
):
    """Block (h, i) writes 64 * groups rows of tile i for key/value head h; 16 divides D, scale is above 0.
    """
    comptime assert (
        groups == 2 or groups == 3
    ), "registers are shared out for two and for three consumers"
    comptime Memory = BlockMemory[D, dtype, groups, keys, stages]
    var work = Work.of_block[Memory.rows, keys](
        row_offsets,
        context_lengths,
        requests,
        heads,
        kv_heads,
        Int32(block_idx.x),
        Int(block_idx.y),
        window,
        least,
    )
    if work.request < 0:
        return
    var shared = external_memory[
        Scalar[dtype], address_space=AddressSpace.SHARED, alignment=1024
    ]()
    var memory = Memory(Int(shared))
    if thread_idx.x == 0:
        memory.init_barriers()
    barrier()

    # A thread has 168 registers at entry, 128 where there are three consumers; they take what the producer gives back.
    var me = warp.shuffle_idx(Int32(warp_index() // 4), UInt32(0))
    var copier = Copier[D].of_thread()
    if me == Int32(groups):
        warpgroup_reg_dealloc[40 if groups == 2 else 32]()
        var table = page_table.unsafe_offset(work.request * Int(table_width))
        produce(memory, work, copier, kv, table, kv_heads, shift)
    else:
        warpgroup_reg_alloc[232 if groups == 2 else 160]()
        consume[turns=turns](memory, work, copier, me, o, q, scale)


def hopper_serves(shape: AttentionShape) -> Bool:
    """Whether `attention_hopper_gpu` takes the pages, and has rows enough to fill its tiles.

    Measured with 16 query heads of 128: a prompt of 128 tokens takes 7.0 us, and 7.1 by `attention_prefill_gpu`; 256
    tokens 9.0 and 9.9; 512 tokens 12 and 24. Below 128 tokens it was not measured.
    """
    return shape.page_size >= 8 and shape.tokens * shape.heads >= 2048


def attention_hopper_gpu[
    D: Int,
    dtype: DType,
    groups: Int = 2 if D > 64 else 3,
    keys: Int = 128,
    stages: Int = 2 if D > 64 else 3,
    turns: Bool = D <= 64,
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
    least: Int = 1,
) raises:
    """Writes o [T, H, D] for queries q [T, H, D] over the cache [pages, 2, KH, PS, D]; 16 divides D, PS is at least 8.

    least: requests of fewer new tokens are left out.
    """
    comptime Memory = BlockMemory[D, dtype, groups, keys, stages]
    var rows = shape.tokens * (shape.heads // shape.kv_heads)
    ctx.enqueue_function[
        attention_hopper_kernel[D, dtype, groups, keys, stages, turns]
    ](
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
        Int32(least),
        grid_dim=(
            shape.kv_heads,
            ceildiv(rows, Memory.rows) + shape.requests,
        ),
        block_dim=Memory.threads,
        shared_mem_bytes=Memory.bytes,
        func_attribute=FuncAttribute.MAX_DYNAMIC_SHARED_SIZE_BYTES(
            UInt32(Memory.bytes)
        ),
    )
