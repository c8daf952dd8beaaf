"""Linear for many rows on NVIDIA tensor cores: `mma.sync` on tiles that asynchronous copies bring to shared memory.

    block   BM x BN outputs; k in steps of 64, STAGES of them in shared memory
    warp    WM x WN outputs in registers, 16 x 8 at a time

             w tile [BN][64]             while stage s is multiplied, the copies of
            +--------------+             stages s+1 ... s+STAGES-1 are on their way:
            | BN           |
    +----+  +--------------+             | s | s+1 | s+2 |  <- shared memory
    | BM |  |  y tile      |               ^ mma     ^ cp.async
    +----+  +--------------+
    x tile [BM][64]

Bytes from shared memory bound this form: a warp reads (WM + WN) * 128 bytes for WM * WN * 64 products. Blocks are
numbered in bands of eight row tiles, so that those that run together share tiles in L2.
"""

from .common import Ptr
from .gpu_common import SharedPtr, warp_index
from .mma_gpu import (
    TILE_K,
    commit_copies,
    copy_async_16,
    load_a,
    load_b_pair,
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
from std.math import ceildiv
from std.memory import stack_allocation
from std.sys import size_of
from std.utils import StaticTuple

comptime BAND = 8


@always_inline
def load_tile[
    dtype: DType, rows: Int, threads: Int
](
    tile: SharedPtr[dtype],
    source: Ptr[dtype],
    first_row: Int,
    last_row: Int,
    k_start: Int,
    k: Int,
):
    """Starts the copy of `rows` rows of 64 elements; rows beyond the last repeat it, k beyond the end is zero.
    """
    comptime for i in range(ceildiv(rows * 8, threads)):
        var index = Int(thread_idx.x) + i * threads
        var row = index >> 3
        var chunk = index & 7
        comptime partial = rows * 8 % threads != 0
        if not partial or row < rows:
            var at = k_start + chunk * 8
            var inside = at < k
            var from_row = min(first_row + row, last_row)
            copy_async_16(
                tile.unsafe_offset(swizzled(row, chunk)),
                source.unsafe_offset(from_row * k + (at if inside else 0)),
                inside,
            )


@__llvm_metadata(
    MAX_THREADS_PER_BLOCK_METADATA=StaticTuple[Int32, 1](
        Int32((bm // wm) * (bn // wn) * WARP_SIZE)
    )
)
@__name(t"mili_linear_tiled_{dtype}_{out_dtype}_{bm}_{bn}_{wm}_{wn}_{stages}")
def linear_tiled_kernel[
    dtype: DType,
    out_dtype: DType,
    bm: Int,
    bn: Int,
    wm: Int,
    wn: Int,
    stages: Int,
](
    y: Ptr[out_dtype],
    x: Ptr[dtype],
    w: Ptr[dtype],
    m_: Int32,
    n_: Int32,
    k_: Int32,
):
    """Writes one bm x bn tile of y [m, n]; 8 divides k."""
    comptime F32 = DType.float32
    comptime threads = (bm // wm) * (bn // wn) * WARP_SIZE
    comptime stage_size = (bm + bn) * TILE_K
    comptime mt = wm // 16
    comptime nt = wn // 8
    var m = Int(m_)
    var n = Int(n_)
    var k = Int(k_)
    var shared = external_memory[
        Scalar[dtype], address_space=AddressSpace.SHARED, alignment=128
    ]()
    var memory = SharedPtr[dtype](unsafe_from_address=Int(shared))

    var row_blocks = UInt32(ceildiv(m, bm))
    var column_blocks = UInt32(ceildiv(n, bn))
    var block = UInt32(block_idx.x)
    var band = block // (UInt32(BAND) * column_blocks)
    var band_rows = min(UInt32(BAND), row_blocks - band * UInt32(BAND))
    var within = block - band * UInt32(BAND) * column_blocks
    var row0 = Int(band * UInt32(BAND) + within % band_rows) * bm
    var column0 = Int(within // band_rows) * bn

    @always_inline
    def start_stage(step: Int) {imm}:
        var tile = memory.unsafe_offset(step % stages * stage_size)
        load_tile[dtype, bm, threads](tile, x, row0, m - 1, step * TILE_K, k)
        load_tile[dtype, bn, threads](
            tile.unsafe_offset(bm * TILE_K), w, column0, n - 1, step * TILE_K, k
        )

    var steps = ceildiv(k, TILE_K)
    comptime for s in range(stages - 1):
        if s < steps:
            start_stage(s)
        commit_copies()

    var warp_row = warp_index() // (bn // wn) * wm
    var warp_column = warp_index() % (bn // wn) * wn
    var acc = stack_allocation[mt * nt, SIMD[F32, 4]]()
    comptime for i in range(mt * nt):
        acc[unsafe_offset=i] = SIMD[F32, 4](0)
    var a = stack_allocation[mt, SIMD[dtype, 8]]()
    for step in range(steps):
        wait_copies[stages - 2]()
        barrier()
        if step + stages - 1 < steps:
            start_stage(step + stages - 1)
        commit_copies()
        var x_tile = memory.unsafe_offset(step % stages * stage_size)
        var w_tile = x_tile.unsafe_offset(bm * TILE_K)
        comptime for kk in range(TILE_K // 16):
            comptime for i in range(mt):
                a[unsafe_offset=i] = load_a(x_tile, warp_row + i * 16, kk)
            comptime for j in range(nt // 2):
                var b = load_b_pair(w_tile, warp_column + j * 16, kk)
                comptime for i in range(mt):
                    comptime at = i * nt + 2 * j
                    acc[unsafe_offset=at] = mma_16x8x16(
                        a[unsafe_offset=i],
                        b.slice[4, offset=0](),
                        acc[unsafe_offset=at],
                    )
                    acc[unsafe_offset=at + 1] = mma_16x8x16(
                        a[unsafe_offset=i],
                        b.slice[4, offset=4](),
                        acc[unsafe_offset=at + 1],
                    )

    var g = Int(lane_id()) >> 2
    var t = Int(lane_id()) & 3
    var pairs = n % 2 == 0
    comptime for i in range(mt):
        comptime for half in range(2):
            var row = row0 + warp_row + i * 16 + half * 8 + g
            if row < m:
                comptime for j in range(nt):
                    var column = column0 + warp_column + j * 8 + 2 * t
                    var c = (
                        acc[unsafe_offset=i * nt + j]
                        .slice[2, offset=half * 2]()
                        .cast[out_dtype]()
                    )
                    if pairs and column < n:
                        y.unsafe_store[
                            width=2, alignment=2 * size_of[out_dtype]()
                        ](row * n + column, c)
                    else:
                        if column < n:
                            y[unsafe_offset=row * n + column] = c[0]
                        if column + 1 < n:
                            y[unsafe_offset=row * n + column + 1] = c[1]


def linear_tiled_gpu[
    dtype: DType, out_dtype: DType
](
    y: Ptr[out_dtype],
    x: Ptr[dtype],
    w: Ptr[dtype],
    m: Int,
    n: Int,
    k: Int,
    ctx: DeviceContext,
) raises:
    """Writes y [m, n] = x [m, k] @ w.T for two-byte elements and k a multiple of 8.
    """

    def go[bm: Int, bn: Int, wm: Int, wn: Int, stages: Int]() raises {imm}:
        comptime bytes = stages * (bm + bn) * TILE_K * size_of[dtype]()
        ctx.enqueue_function[
            linear_tiled_kernel[dtype, out_dtype, bm, bn, wm, wn, stages]
        ](
            y,
            x,
            w,
            Int32(m),
            Int32(n),
            Int32(k),
            grid_dim=ceildiv(m, bm) * ceildiv(n, bn),
            block_dim=(bm // wm) * (bn // wn) * WARP_SIZE,
            shared_mem_bytes=bytes,
            func_attribute=FuncAttribute.MAX_DYNAMIC_SHARED_SIZE_BYTES(
                UInt32(bytes)
            ),
        )

    if ceildiv(m, 128) * ceildiv(n, 128) >= 120:
        go[128, 128, 64, 32, 3]()
    else:
        go[64, 64, 32, 32, 4]()
