"""Attention of one new token a request on Hopper: the copy engine streams pages, tensor cores keep up with it.

Time is the time to read keys and values once. A warp that loads into its registers has nothing under way while it
computes; here one warp does nothing but ask for pages, a block's head start being STAGES units of 64 keys:

    pages of the cache       [pages, 2, KH, PS, D]: PS x D elements of a head are contiguous, one bulk copy
       |
    producer warp            lane i asks for piece i of the block's units, a page or 64 keys of one, keys and values
       v
    ring in shared memory    | K 64 x D | V 64 x D | x STAGES          192 KB under way on each SM
       v
    four consumer warps      16 keys each: attention_decode_tile_gpu.mojo; their states are joined at an item's end

What a block works on, and how its parts find together: attention_decode_plan_gpu.mojo. Rows of a stage are as in memory,
without a swizzle: reading keys meets two rows in a bank, reading values four, a third of what shared memory can do.
"""

from .attention import AttentionShape
from .attention_decode_fetch_gpu import Ring, fetch, stages
from .attention_decode_join_gpu import (
    MAX_PARTS,
    attention_decode_join_kernel,
)
from .attention_decode_join_gpu import WARPS as JOIN_WARPS
from .attention_decode_plan_gpu import UNIT, Lengths, share_of
from .attention_decode_tile_gpu import (
    GROUP,
    attend_16_keys,
    joined_state,
    key_slices,
    load_16_keys,
    load_query,
    store_state,
    value_chunks,
)
from .bulk_copy_gpu import Stage
from .common import Ptr
from .gpu_common import (
    early_launch,
    log2_exact,
    wait_for_previous,
    warp_index,
)
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
    grid_dim,
    lane_id,
    thread_idx,
)
from max.gpu.host import DeviceContext, FuncAttribute
from max.gpu.memory import AddressSpace, external_memory
from max.gpu.sync import named_barrier, syncwarp
from std.math import ceildiv
from std.math.constants import log2e
from std.memory import stack_allocation
from std.sys import size_of
from std.utils import StaticTuple

comptime WARPS = UNIT // 16
"""Consumer warps of a block; one more is the producer."""
comptime THREADS = (WARPS + 1) * WARP_SIZE


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
    D: Int, dtype: DType
](
    o: Ptr[dtype],
    sums: Ptr[DType.float32],
    stats: Ptr[DType.float32],
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
    """Block p computes its share of the units; 8 divides D."""
    comptime F32 = DType.float32
    comptime STAGES = stages[D]()
    var heads = Int(heads_)
    var kv_heads = Int(kv_heads_)
    var group = heads // kv_heads
    var group_tiles = ceildiv(group, GROUP)
    var tiles = kv_heads * group_tiles
    var block = Int(block_idx.x)
    var shared = external_memory[
        Scalar[dtype], address_space=AddressSpace.SHARED, alignment=128
    ]()
    var memory = Stage[dtype](unsafe_from_address=Int(shared))
    var barriers = stack_allocation[
        2 * STAGES, UInt64, address_space=AddressSpace.SHARED, alignment=8
    ]()
    if thread_idx.x == 0:
        comptime for s in range(STAGES):
            init_barrier(barriers.unsafe_offset(s), 1)
            init_barrier(barriers.unsafe_offset(STAGES + s), WARPS)
        fence_barriers()
    barrier()
    # Pages too: a request may share some that another one of this step has only now filled.
    wait_for_previous()
    var lengths = Lengths(
        row_offsets.unsafe_origin_cast[MutUntrackedOrigin](),
        context_lengths.unsafe_origin_cast[MutUntrackedOrigin](),
        Int(requests),
        Int(window),
        mixed != 0,
    )
    var share = share_of(block, Int(grid_dim.x), lengths, tiles)
    var ring = Ring[D, dtype](memory, barriers, 0)
    if warp_index() == WARPS:
        fetch(
            ring,
            share,
            lengths,
            kv,
            page_table,
            tiles,
            group_tiles,
            kv_heads,
            Int(page_shift),
            Int(table_width),
        )
        return

    var states = memory.unsafe_offset(STAGES * Ring[D, dtype].STAGE)
    var warp_sums = states.unsafe_bitcast[Float32]().as_unsafe_any_origin()
    var warp_stats = warp_sums.unsafe_offset(WARPS * GROUP * D)
    var lane = Int(lane_id())
    var row0 = warp_index() * 16
    var query = stack_allocation[key_slices[D](), SIMD[dtype, 8]]()
    var keys = stack_allocation[2 * key_slices[D](), SIMD[dtype, 8]]()
    var values = stack_allocation[4 * value_chunks[D](), SIMD[dtype, 8]]()
    var acc = stack_allocation[4 * value_chunks[D](), SIMD[F32, 4]]()
    if thread_idx.x == 0:
        notes[unsafe_offset=block * 4 + 3] = 0
    for number in range(block, Int(requests), Int(grid_dim.x)):
        var item = lengths.item(number)
        if item.units() == 0 and item.token >= 0:  # is in no block's share
            for i in range(Int(thread_idx.x), heads * D, WARPS * WARP_SIZE):
                o[unsafe_offset=item.token * heads * D + i] = 0
    while share.units > 0:
        var item = lengths.item(share.item)
        var units = item.units()
        if units == 0:
            share.advance(0, 0, tiles)
            continue
        var kv_head = share.tile // group_tiles
        var head0 = kv_head * group + share.tile % group_tiles * GROUP
        var head_count = min(GROUP, (kv_head + 1) * group - head0)
        var count = min(units - share.offset, share.units)
        load_query[D](query, q, item.token * heads + head0, head_count)
        comptime for i in range(4 * value_chunks[D]()):
            acc[unsafe_offset=i] = SIMD[F32, 4](0)
        var greatest = Float32.MIN_FINITE
        var total = Float32(0)
        for unit in range(count):
            var base = (item.first_unit() + share.offset + unit) * UNIT + row0
            wait_barrier(ring.full(), ring.phase())
            # A warp whose keys are all outside has nothing to add.
            if base < item.end and base + 16 > item.begin:
                var stage = ring.stage()
                load_16_keys[D, UNIT](
                    keys,
                    values,
                    stage.unsafe_offset(row0 * D).as_unsafe_any_origin(),
                    item.begin - base,
                    item.end - base,
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
                    item.begin,
                    item.end,
                )
            syncwarp()
            if lane == 0:
                arrive(ring.empty())
            ring.uses += 1

        named_barrier[Int32(WARPS * WARP_SIZE)](
            1
        )  # the states of the item before have been read
        store_state[D](
            warp_sums, warp_stats, acc, greatest, total, warp_index()
        )
        named_barrier[Int32(WARPS * WARP_SIZE)](1)
        var whole = share.offset == 0 and count == units
        var place = (2 * block + (1 if share.offset == 0 else 0)) * GROUP
        for i in range(Int(thread_idx.x), head_count * D, WARPS * WARP_SIZE):
            var head = i // D
            var joined = joined_state[D, WARPS](
                warp_sums, warp_stats, head, i % D
            )
            if whole:
                var result = joined[0] / joined[2] if joined[
                    2
                ] > 0 else Float32(0)
                o[
                    unsafe_offset=(item.token * heads + head0 + head) * D
                    + i % D
                ] = result.cast[dtype]()
            else:
                sums[unsafe_offset=(place + head) * D + i % D] = joined[0]
                if i % D == 0:
                    stats[unsafe_offset=(place + head) * 2] = joined[1]
                    stats[unsafe_offset=(place + head) * 2 + 1] = joined[2]
        if share.offset == 0 and not whole and thread_idx.x == 0:
            var last = share.block_of(share.before + units - 1)
            notes.unsafe_store[width=4, alignment=16](
                block * 4,
                SIMD[DType.int32, 4](
                    Int32(item.token),
                    Int32(head0),
                    Int32(head_count),
                    Int32(last - block + 1),
                ),
            )
        share.advance(count, units, tiles)


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
    comptime blocks = min(
        blocks_per_sm[D]() * DeviceContext.default_device_info.sm_count,
        MAX_PARTS,
    )
    comptime bytes = shared_bytes[D, dtype]()
    var places = 2 * blocks * GROUP
    var workspace = ctx.enqueue_create_buffer[DType.float32](
        places * (D + 2) + 4 * blocks
    )
    var sums = workspace.unsafe_ptr().as_unsafe_any_origin()
    var stats = sums.unsafe_offset(places * D)
    var notes = stats.unsafe_offset(places * 2).unsafe_bitcast[Int32]()
    ctx.enqueue_function[attention_decode_hopper_kernel[D, dtype]](
        o,
        sums,
        stats,
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
        Int32(shape.heads),
        grid_dim=(blocks, min(GROUP, shape.heads // shape.kv_heads)),
        block_dim=JOIN_WARPS * WARP_SIZE,
        attributes=early_launch(),
    )
    _ = workspace^
