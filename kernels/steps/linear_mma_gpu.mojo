"""Linear on the GPU, step 4: tensor cores. A warp multiplies 16 x 16 by 16 x 8 with one `mma`.

    block    64 x 64 outputs, k in steps of 64; four warps of 32 x 32
    step     copy both tiles: 16-byte loads to registers, then to shared memory, swizzled | barrier
             `ldmatrix` to registers, 4 x 2 x 4 `mma` a warp                             | barrier

(`mma_gpu.mojo` says which lane holds what.) Copying and multiplying take turns: while one goes on the other waits. Step 5
(`linear_tiled_gpu.mojo`) copies asynchronously, some stages ahead; step 6 (`linear_hopper_gpu.mojo`) leaves out the
registers on the way to the tensor cores, with `wgmma`.
"""

from ..common import Ptr
from ..gpu_common import SharedPtr, load_vector, warp_index
from ..mma_gpu import TILE_K, load_a, load_b_pair, mma_16x8x16, swizzled
from max.gpu import WARP_SIZE, barrier, block_idx, lane_id, thread_idx
from max.gpu.host import DeviceContext
from max.gpu.memory import AddressSpace
from std.math import ceildiv
from std.memory import stack_allocation

comptime TILE = 64
comptime THREADS = 128


@always_inline
def copy_tile[
    dtype: DType
](
    tile: SharedPtr[dtype],
    source: Ptr[dtype],
    first_row: Int,
    last_row: Int,
    k_start: Int,
    k: Int,
):
    """Copies 64 rows x 64 k, zeros beyond k, the last row again beyond it."""
    comptime for i in range(TILE * 8 // THREADS):
        var index = Int(thread_idx.x) + i * THREADS
        var row = index >> 3
        var at = k_start + (index & 7) * 8
        var value = SIMD[dtype, 8](0)
        if at < k:
            value = load_vector[dtype, 8](
                source, min(first_row + row, last_row) * k + at
            )
        tile.unsafe_store[width=8, alignment=16](
            swizzled(row, index & 7), value
        )


@__name(t"mili_step_linear_mma_{dtype}")
def linear_kernel[
    dtype: DType
](
    y: Ptr[dtype],
    x: Ptr[dtype],
    w: Ptr[dtype],
    m_: Int32,
    n_: Int32,
    k_: Int32,
):
    """Block (c, r) writes the 64 x 64 outputs from row 64 r and column 64 c; 8 divides k.
    """
    comptime F32 = DType.float32
    var m = Int(m_)
    var n = Int(n_)
    var k = Int(k_)
    var row0 = Int(block_idx.y) * TILE
    var column0 = Int(block_idx.x) * TILE
    var x_memory = stack_allocation[
        TILE * TILE_K,
        Scalar[dtype],
        address_space=AddressSpace.SHARED,
        alignment=128,
    ]()
    var w_memory = stack_allocation[
        TILE * TILE_K,
        Scalar[dtype],
        address_space=AddressSpace.SHARED,
        alignment=128,
    ]()
    var x_tile = x_memory.as_unsafe_any_origin()
    var w_tile = w_memory.as_unsafe_any_origin()
    var warp_row = warp_index() // 2 * 32
    var warp_column = warp_index() % 2 * 32
    var acc = stack_allocation[8, SIMD[F32, 4]]()
    comptime for i in range(8):
        acc[unsafe_offset=i] = SIMD[F32, 4](0)
    for start in range(0, k, TILE_K):
        copy_tile[dtype](x_tile, x, row0, m - 1, start, k)
        copy_tile[dtype](w_tile, w, column0, n - 1, start, k)
        barrier()
        comptime for kk in range(TILE_K // 16):
            var a0 = load_a(x_tile, warp_row, kk)
            var a1 = load_a(x_tile, warp_row + 16, kk)
            comptime for j in range(2):
                var b = load_b_pair(w_tile, warp_column + j * 16, kk)
                comptime for half in range(2):
                    comptime at = 2 * j + half
                    var part = b.slice[4, offset=4 * half]()
                    acc[unsafe_offset=at] = mma_16x8x16(
                        a0, part, acc[unsafe_offset=at]
                    )
                    acc[unsafe_offset=4 + at] = mma_16x8x16(
                        a1, part, acc[unsafe_offset=4 + at]
                    )
        barrier()
    var g = Int(lane_id()) >> 2
    var t = Int(lane_id()) & 3
    comptime for i in range(2):
        comptime for half in range(2):
            var row = row0 + warp_row + i * 16 + half * 8 + g
            if row < m:
                comptime for j in range(4):
                    var column = column0 + warp_column + j * 8 + 2 * t
                    comptime for e in range(2):
                        if column + e < n:
                            y[unsafe_offset=row * n + column + e] = acc[
                                unsafe_offset=4 * i + j
                            ][2 * half + e].cast[dtype]()


def linear[
    dtype: DType
](
    y: Ptr[dtype],
    x: Ptr[dtype],
    w: Ptr[dtype],
    m: Int,
    n: Int,
    k: Int,
    ctx: DeviceContext,
) raises:
    """Writes y [m, n] = x [m, k] @ w [n, k].T for two-byte elements and k a multiple of 8.
    """
    ctx.enqueue_function[linear_kernel[dtype]](
        y,
        x,
        w,
        Int32(m),
        Int32(n),
        Int32(k),
        grid_dim=(ceildiv(n, TILE), ceildiv(m, TILE)),
        block_dim=THREADS,
    )
