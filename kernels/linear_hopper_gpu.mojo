"""Linear for many rows on Hopper's warpgroup tensor instructions: `wgmma` reads both tiles from shared memory itself.

    block   128 x BN outputs, two warpgroups of 64 rows; k in steps of 64, STAGES of them in shared memory

`mma.sync` wants its operands in registers, so a warp spends its time on `ldmatrix`; `wgmma` takes a descriptor of a
tile in shared memory, 64 x BN x 16 products at a time, and runs while the threads go on. Copies go two steps behind
the products in the ring of stages: the buffer that is filled at step s was read at step s - 2, and every warpgroup
has waited for that before the barrier of step s.

The chunks of a tile are swizzled as in `mma_gpu.mojo`, which is the order that a descriptor calls 128-byte swizzle.
"""

from .common import Ptr
from .gpu_common import SharedPtr, warp_index
from .linear_tiled_gpu import BAND, load_tile
from .mma_gpu import TILE_K, commit_copies, wait_copies
from .wgmma_gpu import descriptor, fence_async
from max.gpu import (
    MAX_THREADS_PER_BLOCK_METADATA,
    barrier,
    block_idx,
    lane_id,
)
from max.gpu.compute.mma import (
    wgmma_async,
    wgmma_commit_group_sync,
    wgmma_fence_aligned,
    wgmma_wait_group_sync,
)
from max.gpu.host import DeviceContext, FuncAttribute
from max.gpu.memory import AddressSpace, external_memory
from std.math import ceildiv
from std.sys import size_of
from std.utils import StaticTuple

comptime BM = 128
comptime THREADS = 256


@__llvm_metadata(
    MAX_THREADS_PER_BLOCK_METADATA=StaticTuple[Int32, 1](Int32(THREADS))
)
@__name(t"mili_linear_hopper_{dtype}_{out_dtype}_{bn}_{stages}")
def linear_hopper_kernel[
    dtype: DType, out_dtype: DType, bn: Int, stages: Int
](
    y: Ptr[out_dtype],
    x: Ptr[dtype],
    w: Ptr[dtype],
    m_: Int32,
    n_: Int32,
    k_: Int32,
):
    """Writes one 128 x bn tile of y [m, n]; 8 divides k, 2 divides n."""
    comptime F32 = DType.float32
    comptime stage_size = (BM + bn) * TILE_K
    comptime width = bn // 2
    var m = Int(m_)
    var n = Int(n_)
    var k = Int(k_)
    var shared = external_memory[
        Scalar[dtype], address_space=AddressSpace.SHARED, alignment=1024
    ]()
    var memory = SharedPtr[dtype](unsafe_from_address=Int(shared))

    var row_blocks = UInt32(ceildiv(m, BM))
    var column_blocks = UInt32(ceildiv(n, bn))
    var block = UInt32(block_idx.x)
    var band = block // (UInt32(BAND) * column_blocks)
    var band_rows = min(UInt32(BAND), row_blocks - band * UInt32(BAND))
    var within = block - band * UInt32(BAND) * column_blocks
    var row0 = Int(band * UInt32(BAND) + within % band_rows) * BM
    var column0 = Int(within // band_rows) * bn

    @always_inline
    def start_stage(step: Int) {imm}:
        var tile = memory.unsafe_offset(step % stages * stage_size)
        load_tile[dtype, BM, THREADS](tile, x, row0, m - 1, step * TILE_K, k)
        load_tile[dtype, bn, THREADS](
            tile.unsafe_offset(BM * TILE_K), w, column0, n - 1, step * TILE_K, k
        )

    var steps = ceildiv(k, TILE_K)
    comptime for s in range(stages - 2):
        if s < steps:
            start_stage(s)
        commit_copies()

    var group_row = warp_index() // 4 * 64
    var acc = SIMD[F32, width](0)
    for step in range(steps):
        wait_copies[stages - 3]()
        fence_async()
        barrier()
        if step + stages - 2 < steps:
            start_stage(step + stages - 2)
        commit_copies()
        var x_tile = memory.unsafe_offset(
            step % stages * stage_size + group_row * TILE_K
        )
        var w_tile = memory.unsafe_offset(
            step % stages * stage_size + BM * TILE_K
        )
        wgmma_fence_aligned()
        comptime for kk in range(TILE_K // 16):
            acc = wgmma_async[
                64, bn, 16, F32, width, a_type=dtype, b_type=dtype
            ](descriptor(x_tile, kk), descriptor(w_tile, kk), acc)
        wgmma_commit_group_sync()
        wgmma_wait_group_sync[1]()
    wgmma_wait_group_sync[0]()

    var row = row0 + group_row + (warp_index() & 3) * 16 + (Int(lane_id()) >> 2)
    var column1 = column0 + (Int(lane_id()) & 3) * 2
    comptime for half in range(2):
        var r = row + half * 8
        if r < m:
            comptime for j in range(bn // 8):
                var column = column1 + j * 8
                if column < n:
                    y.unsafe_store[width=2, alignment=2 * size_of[out_dtype]()](
                        r * n + column,
                        acc.slice[2, offset=j * 4 + half * 2]().cast[
                            out_dtype
                        ](),
                    )


def linear_hopper_gpu[
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
    """Writes y [m, n] = x [m, k] @ w.T for two-byte elements, k a multiple of 8 and an even n.
    """

    def go[bn: Int, stages: Int]() raises {imm}:
        comptime bytes = stages * (BM + bn) * TILE_K * size_of[dtype]()
        ctx.enqueue_function[
            linear_hopper_kernel[dtype, out_dtype, bn, stages]
        ](
            y,
            x,
            w,
            Int32(m),
            Int32(n),
            Int32(k),
            grid_dim=ceildiv(m, BM) * ceildiv(n, bn),
            block_dim=THREADS,
            shared_mem_bytes=bytes,
            func_attribute=FuncAttribute.MAX_DYNAMIC_SHARED_SIZE_BYTES(
                UInt32(bytes)
            ),
        )

    if ceildiv(m, BM) * ceildiv(n, 256) >= 96:
        go[256, 4]()
    else:
        go[128, 5]()
