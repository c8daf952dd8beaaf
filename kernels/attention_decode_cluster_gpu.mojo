"""Attention of one new token a request on Hopper: a cluster of blocks a request and key/value head, one launch.

Time is the time to start, to read keys and values once, and to join. A cluster of C blocks of eight warps takes one tile
of query heads of one request; warp s of its S = 8 C warps takes keys in sixteens, every S-th of them:

    keys of the request     | 0 | 1 | 2 |  ...  | S-1 | S | S+1 | ...       sixteens of the context
                              |   |   |            |     |
    warp                      0   1   2     ...   S-1    0     1  ...       so that its pages are known before the length

    a warp's tiles          | K 16 x D | V 16 x D |     attention_decode_pages_gpu.mojo: the next sixteen is on its way while
                                                        this one is computed; no warp waits for another until the end
    products                attention_decode_products_gpu.mojo
    join                    attention_decode_exchange_gpu.mojo: the warps of a block, then the blocks of the cluster

Where there are more clusters than the GPU holds, a block that ends makes room for the next; two share an SM, so that one
reads while the other starts or joins. How many sixteens a warp has is found on the device, so a captured graph stays valid
when contexts grow. The ladder and how C is chosen: attention_decode_cluster_launch_gpu.mojo.
"""

from .attention_decode_exchange_gpu import Exchange, exchange_bytes
from .attention_decode_pages_gpu import (
    Pages,
    load_keys,
    load_values,
    tile_size,
)
from .attention_decode_products_gpu import F32, HeadsState
from .attention_decode_tile_gpu import (
    GROUP,
    key_slices,
    load_query,
    value_chunks,
)
from .cluster_gpu import cluster_arrive, cluster_wait
from .common import Ptr
from .gpu_common import (
    SharedPtr,
    wait_for_previous,
    warp_index,
)
from .mbarrier_gpu import (
    arrive_and_expect,
    fence_barriers,
    init_barrier,
    wait_barrier,
)
from .mma_gpu import commit_copies, wait_copies
from max.gpu import (
    MAX_THREADS_PER_BLOCK_METADATA,
    WARP_SIZE,
    barrier,
    block_idx,
    lane_id,
    thread_idx,
)
from max.gpu.memory import AddressSpace, external_memory
from max.gpu.primitives.cluster import cluster_arrive as cluster_arrive_release
from max.gpu.sync import syncwarp
from std.math import ceildiv
from std.math.constants import log2e
from std.memory import stack_allocation
from std.sys import size_of
from std.utils import StaticTuple


comptime WARPS = 8
comptime ROUND_SHIFT = 7
"""Log2 of the keys that a block takes at a time: sixteen a warp."""


def shared_bytes[D: Int, dtype: DType](heads: Int, blocks: Int) -> Int:
    """A block's tiles of keys and values, and its places in the exchange."""
    comptime tiles = WARPS * 2 * tile_size[D]() * size_of[dtype]()
    return tiles + exchange_bytes(D, heads, blocks)


@__llvm_metadata(
    MAX_THREADS_PER_BLOCK_METADATA=StaticTuple[Int32, 1](
        Int32(WARPS * WARP_SIZE)
    ),
    `nvvm.minctasm`=SIMDLength(2 if D <= 128 else 1),
)
@__name(t"mili_attention_decode_cluster_{dtype}_{D}")
def attention_decode_cluster_kernel[
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
    kv_heads: Int32,
    page_shift: Int32,
    table_width: Int32,
    window: Int32,
    blocks_shift: Int32,
    mixed: Int32,
):
    """Block (r, c, b): block r of the cluster of request b and the c-th tile of query heads; 8 divides D.

    mixed: requests of more than one new token are left out.
    """
    comptime TILE = tile_size[D]()
    var heads = Int(heads_)
    var group = heads // Int(kv_heads)
    var tiles = ceildiv(group, GROUP)
    var rank = Int(block_idx.x)
    var kv_head = Int(block_idx.y) // tiles
    var head0 = kv_head * group + Int(block_idx.y) % tiles * GROUP
    var head_count = min(GROUP, (kv_head + 1) * group - head0)
    var b = Int(block_idx.z)
    var memory = SharedPtr[dtype](
        unsafe_from_address=Int(
            external_memory[
                Scalar[dtype],
                address_space=AddressSpace.SHARED,
                alignment=128,
            ]()
        )
    )
    var key_tile = memory.unsafe_offset(warp_index() * 2 * TILE)
    var value_tile = key_tile.unsafe_offset(TILE)
    var full = stack_allocation[
        1, UInt64, address_space=AddressSpace.SHARED, alignment=8
    ]()
    var exchange = Exchange[D, WARPS](
        memory.unsafe_bitcast[Float32]().unsafe_origin_cast[
            MutUntrackedOrigin
        ](),
        2 * TILE * size_of[dtype]() // 4,
        memory.unsafe_offset(WARPS * 2 * TILE)
        .unsafe_bitcast[Float32]()
        .unsafe_origin_cast[MutUntrackedOrigin](),
        full,
        rank,
        Int(blocks_shift),
        head_count,
    )
    var alone = blocks_shift == 0
    if not alone:
        if thread_idx.x == 0:
            init_barrier(full, 1)
            fence_barriers()
        barrier()
        if thread_idx.x == 0:
            arrive_and_expect(full, exchange.bytes())
        cluster_arrive()
    var number = Int32((warp_index() << Int(blocks_shift)) + rank)
    var pages = Pages[D, dtype](
        kv.unsafe_origin_cast[MutUntrackedOrigin](),
        page_table.unsafe_offset(b * Int(table_width)).unsafe_origin_cast[
            MutUntrackedOrigin
        ](),
        table_width,
        Int32(kv_head),
        kv_heads,
        page_shift,
        number * 16,
        Int32(1) << (blocks_shift + ROUND_SHIFT),
        0,
    )
    if window == 0:
        pages.find(0)
    var first_token = row_offsets[unsafe_offset=b]
    var end_token = row_offsets[unsafe_offset=b + 1]
    var length = context_lengths[unsafe_offset=b]
    if not alone:
        cluster_wait()  # all blocks have their barriers
    # Pages too: a request may share some that another one of this step has only now filled.
    wait_for_previous()
    if mixed != 0 and end_token - first_token != 1:
        return

    var query = stack_allocation[key_slices[D](), SIMD[dtype, 8]]()
    var acc = stack_allocation[4 * value_chunks[D](), SIMD[F32, 4]]()
    var g = Int32(lane_id()) >> 2
    for token in range(first_token, end_token):
        var end = length - end_token + token + 1
        var begin = max(Int32(0), end - window) if window > 0 else Int32(0)
        if window > 0 or token > first_token:
            pages.first = (begin & ~15) + number * 16
            pages.find(0)
        var count = max(Int32(0), end - pages.first + pages.step - 1) >> (
            blocks_shift + ROUND_SHIFT
        )

        @always_inline
        def fetch[values: Bool](n: Int32) {mut pages, imm}:
            """Starts a group of copies, empty after the last sixteen."""
            if n < count:
                comptime if not values:
                    if n > 0 and n & (pages.batch() - 1) == 0:
                        pages.find(n)
                pages.fetch[values](
                    n, begin, end, value_tile if values else key_tile
                )
            commit_copies()

        fetch[False](0)
        fetch[True](0)
        load_query[D](query, q, Int(token) * heads + head0, head_count)
        comptime for i in range(4 * value_chunks[D]()):
            acc[unsafe_offset=i] = SIMD[F32, 4](0)
        var state = HeadsState[D]()
        for n in range(count):
            var keys = stack_allocation[2 * key_slices[D](), SIMD[dtype, 8]]()
            var values = stack_allocation[
                4 * value_chunks[D](), SIMD[dtype, 8]
            ]()
            # Of the two groups under way the older one is needed; once in registers, the next takes its place.
            wait_copies[1]()
            syncwarp()
            load_keys[D](keys, key_tile)
            syncwarp()
            fetch[False](n + 1)
            var key = pages.first + n * pages.step + g
            var weights, factors = state.weigh(
                state.scores(query, keys),
                scale * Float32(log2e),
                key >= begin and key < end,
                key + 8 >= begin and key + 8 < end,
            )
            wait_copies[1]()
            syncwarp()
            load_values[D](values, value_tile)
            syncwarp()
            fetch[True](n + 1)
            state.add_values(acc, values, weights, factors)
        exchange.leave(acc, state)
        barrier()
        var row = o.unsafe_offset((Int(token) * heads + head0) * D)
        exchange.join_warps(row)
        if not alone:
            wait_barrier[cluster=True](full, Int((token - first_token) & 1))
            exchange.join_blocks(row)
        if (
            token + 1 < end_token
        ):  # states and places are read before they are written again
            if not alone and thread_idx.x == 0:
                arrive_and_expect(full, exchange.bytes())
            barrier()
            if not alone:
                cluster_arrive_release()
                cluster_wait()
