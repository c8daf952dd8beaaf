"""Attention of one new token a request on Hopper: the copy engine streams pages, tensor cores keep up with it.

Time is the time to read keys and values once. A warp that loads into its registers has nothing under way while it
computes; here one warp does nothing but ask for pages, a block's head start being STAGES units of 64 keys:

    pages of the cache       [pages, 2, KH, PS, D]: PS x D elements of a head are contiguous, one bulk copy
       |
    producer warp            lane i asks for piece i of the block's units, a page or 64 keys of one, keys and values
       v
    ring in shared memory    | K 64 x D | V 64 x D | header | x STAGES          192 KB under way on each SM
       v
    four consumer warps      16 keys each: attention_decode_tile_gpu.mojo
       v
    end of a part            attention_decode_join_gpu.mojo

Which units a block takes: attention_decode_plan_gpu.mojo. Rows of a stage are as in memory, without a swizzle: reading
keys meets two rows in a bank, reading values four, a third of what shared memory can do.

The ladder, microseconds on an H100, 16 query and 8 key/value heads of 128 in bfloat16, pages of 16:

    256 requests                                     512 keys     100 to 2,000 keys
    an equal share a block                                197                   390
    lengths loaded at once, 32-bit numbers, code
    once; page numbers before the wait; pages leave
    the L2 cache first                                    188                   390
    small shares by turns                                 187                   375
    PyTorch's SDPA, keys in one piece                     179

(`python -m benchmarks.gpu.run_all --only decode`, benchmarks/results/2026-11-26_h100_decode.json, for the last two; the
second is this kernel with equal shares.)
"""

from .attention_decode_fetch_gpu import fetch
from .attention_decode_join_gpu import end_part
from .attention_decode_line_gpu import UNIT, Lengths
from .attention_decode_ring_gpu import (
    END,
    FIRST,
    HEADER,
    LAST,
    Ring,
    load_header,
    stages,
)
from .attention_decode_tile_gpu import (
    GROUP,
    attend_16_keys,
    key_slices,
    load_16_keys,
    load_query,
    store_state,
    value_chunks,
)
from .bulk_copy_gpu import Stage
from .common import Ptr
from .gpu_common import wait_for_previous, warp_index
from .mbarrier_gpu import (
    arrive,
    fence_barriers,
    init_barrier,
    wait_barrier,
)
from max.gpu import (
    MAX_THREADS_PER_BLOCK_METADATA,
    WARP_SIZE,
    barrier,
    block_idx,
    lane_id,
    thread_idx,
)
from max.gpu.memory import AddressSpace, external_memory
from max.gpu.sync import named_barrier, syncwarp
from std.math.constants import log2e
from std.memory import stack_allocation
from std.sys import size_of
from std.utils import StaticTuple

comptime WARPS = UNIT // 16
"""Consumer warps of a block; one more is the producer."""
comptime CONSUMERS = WARPS * WARP_SIZE
comptime THREADS = CONSUMERS + WARP_SIZE


def blocks_per_sm[D: Int]() -> Int:
    """Blocks that share an SM."""
    return 2 if D <= 128 else 1


def shared_bytes[D: Int, dtype: DType]() -> Int:
    """The ring, and the states of the consumer warps."""
    return (
        stages[D]() * 2 * UNIT * D * size_of[dtype]()
        + WARPS * GROUP * (D + 2) * 4
    )


@__llvm_metadata(
    MAX_THREADS_PER_BLOCK_METADATA=StaticTuple[Int32, 1](Int32(THREADS)),
    `nvvm.minctasm`=SIMDLength(blocks_per_sm[D]()),
)
@__name(t"mili_attention_decode_hopper_{dtype}_{D}")
def attention_decode_hopper_kernel[
    D: Int, dtype: DType, blocks: Int
](
    o: Ptr[dtype],
    sums: Ptr[DType.float32],
    stats: Ptr[DType.float32],
    counter: Ptr[DType.int32],
    notes: Ptr[DType.int32],
    q: Ptr[dtype],
    kv: Ptr[dtype],
    row_offsets: Ptr[DType.int32],
    context_lengths: Ptr[DType.int32],
    page_table: Ptr[DType.int32],
    scale: Float32,
    mixed: Int32,
    requests: Int32,
    heads_: Int32,
    kv_heads_: Int32,
    page_shift: Int32,
    table_width: Int32,
    window: Int32,
):
    """Block p of `blocks` computes share p and then whichever is next; 8 divides D.
    """
    comptime F32 = DType.float32
    comptime STAGES = stages[D]()
    var heads = Int(heads_)
    var block = Int(block_idx.x)
    var shared = external_memory[
        Scalar[dtype], address_space=AddressSpace.SHARED, alignment=128
    ]()
    var memory = Stage[dtype](unsafe_from_address=Int(shared))
    var barriers = stack_allocation[
        2 * STAGES, UInt64, address_space=AddressSpace.SHARED, alignment=8
    ]()
    var headers = stack_allocation[
        HEADER * STAGES,
        Int32,
        address_space=AddressSpace.SHARED,
        alignment=16,
    ]()
    if thread_idx.x == 0:
        comptime for s in range(STAGES):
            init_barrier(barriers.unsafe_offset(s), 1)
            init_barrier(barriers.unsafe_offset(STAGES + s), CONSUMERS)
        fence_barriers()
    barrier()
    var lengths = Lengths(
        row_offsets.unsafe_origin_cast[MutUntrackedOrigin](),
        context_lengths.unsafe_origin_cast[MutUntrackedOrigin](),
        requests,
        window,
        mixed != 0,
    )
    var ring = Ring[D, dtype](memory, headers, barriers, 0)
    if warp_index() == WARPS:
        fetch[blocks=blocks](
            ring,
            lengths,
            Int32(block),
            counter,
            notes,
            kv,
            page_table,
            heads_,
            kv_heads_,
            page_shift,
            table_width,
        )
        return

    wait_for_previous()
    var states = memory.unsafe_offset(STAGES * Ring[D, dtype].STAGE)
    var warp_sums = states.unsafe_bitcast[Float32]().as_unsafe_any_origin()
    var warp_stats = warp_sums.unsafe_offset(WARPS * GROUP * D)
    var row0 = warp_index() * 16
    var query = stack_allocation[key_slices[D](), SIMD[dtype, 8]]()
    var keys = stack_allocation[2 * key_slices[D](), SIMD[dtype, 8]]()
    var values = stack_allocation[4 * value_chunks[D](), SIMD[dtype, 8]]()
    var acc = stack_allocation[4 * value_chunks[D](), SIMD[F32, 4]]()
    var greatest = Float32.MIN_FINITE
    var total = Float32(0)
    for number in range(block, Int(requests), blocks):
        var item = lengths.item(Int32(number))
        if item.units() == 0 and item.token >= 0:  # is in no share
            for i in range(Int(thread_idx.x), heads * D, CONSUMERS):
                o[unsafe_offset=Int(item.token) * heads * D + i] = 0
    while True:
        wait_barrier(ring.full(), ring.phase())
        var header = load_header(ring.header())
        if header.flags == END:
            break
        var head_count = Int(header.flags) & (FIRST - 1)
        if header.flags & FIRST != 0:
            load_query[D](query, q, Int(header.row), head_count)
            comptime for i in range(4 * value_chunks[D]()):
                acc[unsafe_offset=i] = SIMD[F32, 4](0)
            greatest = Float32.MIN_FINITE
            total = Float32(0)
        var base = Int(header.base) + row0
        var begin = Int(header.begin)
        var end = Int(header.end)
        # A warp whose keys are all outside has nothing to add.
        if base < end and base + 16 > begin:
            load_16_keys[D, UNIT](
                keys,
                values,
                ring.stage().unsafe_offset(row0 * D).as_unsafe_any_origin(),
                begin - base,
                end - base,
            )
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
        arrive(ring.empty())
        ring.uses += 1
        if header.flags & LAST != 0:
            named_barrier[Int32(CONSUMERS)](1)  # the states before are read
            store_state[D](
                warp_sums,
                warp_stats,
                acc,
                greatest,
                total,
                warp_index(),
                head_count,
            )
            named_barrier[Int32(CONSUMERS)](1)
            end_part[D, dtype, WARPS](
                o, sums, stats, warp_sums, warp_stats, header, head_count
            )
