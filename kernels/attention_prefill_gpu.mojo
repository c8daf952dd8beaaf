"""Attention of many new tokens on NVIDIA tensor cores (FlashAttention-2, arXiv:2307.08691), ragged and paged.

Query heads that share a key/value head are rows of the same tile, so a key tile serves all of them:

    row r of request b  =  token r / G, head r % G of the group           (G = H / KH)

    block   ROWS = 16 rows a warp; keys and values in tiles of 64, two of each in shared memory
    warp    S [16, 64] = Q K^T  ->  online softmax in registers  ->  O [16, D] += P V
            Q and O stay in registers; the accumulator of S is the A operand P of the second product

    keys     | 0..63 | 64..127 | ...          a tile that no row of the block may see is not visited:
    row 0    | xx    |         |              the loop runs from the first key of the first row's window
    row 1    | xxx   |         |              to the position of the last row
     ...     | xxxxxx| xx      |  <- masked only where the diagonal or the window's edge crosses the tile

Which request a block works for is found on the device: attention_find_tile_gpu.mojo.
"""

from .attention import AttentionShape
from .attention_find_tile_gpu import find_tile
from .common import Ptr
from .gpu_common import SharedPtr, group_max, group_sum, log2_exact, warp_index
from .mma_gpu import (
    TILE_K,
    commit_copies,
    copy_async_16,
    load_b_pair,
    load_b_pair_transposed,
    mma_16x8x16,
    swizzled,
    wait_copies,
)
from max.gpu import (
    MAX_THREADS_PER_BLOCK_METADATA,
    WARP_SIZE,
    barrier,
    block_idx,
    lane_id,
    thread_idx,
)
from max.gpu.host import DeviceContext, FuncAttribute
from max.gpu.memory import AddressSpace, external_memory
from max.gpu.primitives import warp
from std.math import ceildiv, exp2
from std.math.constants import log2e
from std.memory import stack_allocation
from std.sys import size_of
from std.utils import StaticTuple

comptime KEYS = 64
"""Keys of a tile."""


@__llvm_metadata(
    MAX_THREADS_PER_BLOCK_METADATA=StaticTuple[Int32, 1](
        Int32(warps * WARP_SIZE)
    )
)
@__name(t"mili_attention_prefill_{dtype}_{D}_{warps}")
def attention_prefill_kernel[
    D: Int, dtype: DType, warps: Int
](
    o: Ptr[dtype],
    q: Ptr[dtype],
    kv: Ptr[dtype],
    row_offsets: Ptr[DType.int32],
    context_lengths: Ptr[DType.int32],
    page_table: Ptr[DType.int32],
    scale: Float32,
    requests: Int32,
    heads_: Int32,
    kv_heads_: Int32,
    page_shift_: Int32,
    table_width: Int32,
    window: Int32,
):
    """Block (i, h) writes 16 * warps rows of tile i for key/value head h; 16 divides D.
    """
    comptime F32 = DType.float32
    comptime panels = ceildiv(D, TILE_K)
    comptime tile_size = panels * KEYS * TILE_K
    comptime steps = D // 16
    comptime columns = D // 8
    comptime threads = warps * WARP_SIZE
    var heads = Int(heads_)
    var kv_heads = Int(kv_heads_)
    var shift = Int(page_shift_)
    var group = heads // kv_heads
    var kv_head = Int(block_idx.y)
    var b, tile = find_tile(
        row_offsets, Int(requests), group, warps * 16, Int(block_idx.x)
    )
    if b < 0:
        return
    var first_token = Int(row_offsets[unsafe_offset=b])
    var tokens = Int(row_offsets[unsafe_offset=b + 1]) - first_token
    var position0 = Int(context_lengths[unsafe_offset=b]) - tokens
    var rows = tokens * group
    var row0 = tile * (warps * 16)
    var lane = Int(lane_id())
    var g = lane >> 2
    var t = lane & 3
    var shared = external_memory[
        Scalar[dtype], address_space=AddressSpace.SHARED, alignment=128
    ]()
    var memory = SharedPtr[dtype](unsafe_from_address=Int(shared))
    var table = page_table.unsafe_offset(b * Int(table_width))

    # Keys that the first and the last row of the block see.
    var earliest = position0 + Int(UInt32(row0) // UInt32(group))
    var latest = position0 + Int(
        UInt32(min(row0 + warps * 16, rows) - 1) // UInt32(group)
    )
    var first_key = max(0, earliest - Int(window) + 1) if window > 0 else 0
    var first_tile = first_key // KEYS
    var end_tile = latest // KEYS + 1

    @always_inline
    def start_copies(key_tile: Int) {imm}:
        var stage = memory.unsafe_offset((key_tile & 1) * (2 * tile_size))
        comptime pieces = KEYS * (D // 8)
        comptime for i in range(ceildiv(pieces, threads)):
            var index = Int(thread_idx.x) + i * threads
            var row = index // (D // 8)
            var chunk = index % (D // 8)
            if pieces % threads == 0 or row < KEYS:
                var j = key_tile * KEYS + row
                var known = j <= latest
                var page = Int(table[unsafe_offset=j >> shift]) if known else 0
                var key = ((page * 2 * kv_heads + kv_head) << shift) + (
                    j & ((1 << shift) - 1)
                )
                var source = kv.unsafe_offset(key * D + chunk * 8)
                var at = (chunk >> 3) * (KEYS * TILE_K) + swizzled(
                    row, chunk & 7
                )
                copy_async_16(stage.unsafe_offset(at), source, known)
                copy_async_16(
                    stage.unsafe_offset(tile_size + at),
                    source.unsafe_offset((kv_heads << shift) * D),
                    known,
                )

    start_copies(first_tile)
    commit_copies()

    # The two rows of this lane, g and g + 8 of the warp's 16; rows beyond the end repeat the last one.
    var row_at = stack_allocation[2, Int]()
    var positions = stack_allocation[2, Int]()
    comptime for i in range(2):
        var row = min(row0 + warp_index() * 16 + i * 8 + g, rows - 1)
        var token = Int(UInt32(row) // UInt32(group))
        row_at[unsafe_offset=i] = (
            (first_token + token) * heads
            + kv_head * group
            + row
            - token * group
        ) * D
        positions[unsafe_offset=i] = position0 + token
    var query = stack_allocation[steps, SIMD[dtype, 8]]()
    comptime for k in range(steps):
        var p = SIMD[dtype, 8](0)
        comptime for i in range(4):
            var at = row_at[unsafe_offset=i & 1] + k * 16 + (i >> 1) * 8 + 2 * t
            var pair = q.unsafe_load[width=2, alignment=2 * size_of[dtype]()](
                at
            )
            p[2 * i] = pair[0]
            p[2 * i + 1] = pair[1]
        query[unsafe_offset=k] = p

    var acc = stack_allocation[columns, SIMD[F32, 4]]()
    comptime for i in range(columns):
        acc[unsafe_offset=i] = SIMD[F32, 4](0)
    var greatest = SIMD[F32, 2](Float32.MIN_FINITE)
    var total = SIMD[F32, 2](0)
    var factor = scale * Float32(log2e)
    var s = stack_allocation[KEYS // 8, SIMD[F32, 4]]()
    for key_tile in range(first_tile, end_tile):
        wait_copies[0]()
        barrier()
        if key_tile + 1 < end_tile:
            start_copies(key_tile + 1)
        commit_copies()
        var keys = memory.unsafe_offset((key_tile & 1) * (2 * tile_size))
        var values = keys.unsafe_offset(tile_size)
        comptime for i in range(KEYS // 8):
            s[unsafe_offset=i] = SIMD[F32, 4](0)
        comptime for k in range(steps):
            comptime for i in range(KEYS // 16):
                var panel = keys.unsafe_offset((k // 4) * (KEYS * TILE_K))
                var kb = load_b_pair(panel, i * 16, k % 4)
                s[unsafe_offset=2 * i] = mma_16x8x16(
                    query[unsafe_offset=k],
                    kb.slice[4, offset=0](),
                    s[unsafe_offset=2 * i],
                )
                s[unsafe_offset=2 * i + 1] = mma_16x8x16(
                    query[unsafe_offset=k],
                    kb.slice[4, offset=4](),
                    s[unsafe_offset=2 * i + 1],
                )
        comptime for i in range(KEYS // 8):
            s[unsafe_offset=i] *= factor
        var start = key_tile * KEYS
        if start + KEYS - 1 > earliest or (
            window > 0 and start <= latest - Int(window)
        ):
            comptime for i in range(KEYS // 8):
                comptime for e in range(4):
                    var j = start + i * 8 + 2 * t + (e & 1)
                    var position = positions[unsafe_offset=e >> 1]
                    if j > position or (
                        window > 0 and j <= position - Int(window)
                    ):
                        s[unsafe_offset=i][e] = Float32.MIN
        var best = greatest
        comptime for i in range(KEYS // 8):
            var c = s[unsafe_offset=i]
            best = max(best, SIMD[F32, 2](max(c[0], c[1]), max(c[2], c[3])))
        best = SIMD[F32, 2](group_max[4](best[0]), group_max[4](best[1]))
        var rescale = exp2(greatest - best)
        greatest = best
        total *= rescale
        var factors = SIMD[F32, 4](
            rescale[0], rescale[0], rescale[1], rescale[1]
        )
        comptime for i in range(columns):
            acc[unsafe_offset=i] *= factors
        var bests = SIMD[F32, 4](best[0], best[0], best[1], best[1])
        comptime for k in range(KEYS // 16):
            var p0 = exp2(s[unsafe_offset=2 * k] - bests)
            var p1 = exp2(s[unsafe_offset=2 * k + 1] - bests)
            var sums = p0 + p1
            total += SIMD[F32, 2](sums[0] + sums[1], sums[2] + sums[3])
            var p = p0.join(p1).cast[dtype]()
            comptime for i in range(columns // 2):
                var panel = values.unsafe_offset((i // 4) * (KEYS * TILE_K))
                var v = load_b_pair_transposed(panel, k * 16, (i % 4) * 2)
                acc[unsafe_offset=2 * i] = mma_16x8x16(
                    p, v.slice[4, offset=0](), acc[unsafe_offset=2 * i]
                )
                acc[unsafe_offset=2 * i + 1] = mma_16x8x16(
                    p, v.slice[4, offset=4](), acc[unsafe_offset=2 * i + 1]
                )

    total = SIMD[F32, 2](group_sum[4](total[0]), group_sum[4](total[1]))
    comptime for i in range(2):
        if row0 + warp_index() * 16 + i * 8 + g < rows:
            var scale_out = 1 / total[i] if total[i] > 0 else Float32(0)
            comptime for c in range(columns):
                var pair = (
                    acc[unsafe_offset=c].slice[2, offset=i * 2]() * scale_out
                ).cast[dtype]()
                o.unsafe_store[width=2, alignment=2 * size_of[dtype]()](
                    row_at[unsafe_offset=i] + c * 8 + 2 * t, pair
                )


def attention_prefill_gpu[
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
    """Writes o [T, H, D] for queries q [T, H, D] over the cache [pages, 2, KH, PS, D]; 16 divides D.
    """
    comptime stage = 2 * ceildiv(D, TILE_K) * KEYS * TILE_K * size_of[dtype]()
    comptime bytes = 2 * stage

    def go[warps: Int]() raises {imm}:
        var rows = shape.tokens * (shape.heads // shape.kv_heads)
        ctx.enqueue_function[attention_prefill_kernel[D, dtype, warps]](
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
            grid_dim=(
                ceildiv(rows, warps * 16) + shape.requests,
                shape.kv_heads,
            ),
            block_dim=warps * WARP_SIZE,
            shared_mem_bytes=bytes,
            func_attribute=FuncAttribute.MAX_DYNAMIC_SHARED_SIZE_BYTES(
                UInt32(bytes)
            ),
        )

    if shape.tokens * shape.heads >= 64 * 128:
        go[8]()
    else:
        go[4]()
