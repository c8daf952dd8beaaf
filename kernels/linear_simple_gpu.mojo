"""Linear on any GPU, any dtype and any size, without tensor cores: float32 products and sums.

float32 runs here because a tensor core would round its operands to tf32, and so does a K that is no multiple of 8 and
an AMD GPU. Two kernels:

    few rows    a warp has one weight row, its lanes load 16 bytes each in turn; one warp sum a row of x
    many rows   64 x 64 outputs a block, 16 k at a time through shared memory; a thread has 4 x 4 outputs

The tile cuts the bytes from memory by 64, the 4 x 4 registers those from shared memory by 4.
"""

from .common import Ptr
from .gpu_common import load_vector, vector_width, warp_index
from max.gpu import WARP_SIZE, barrier, block_idx, lane_id, thread_idx
from max.gpu.host import DeviceContext
from max.gpu.memory import AddressSpace
from max.gpu.primitives import warp
from std.math import ceildiv
from std.memory import stack_allocation

comptime THREADS = 256
comptime ROWS = 4
comptime TILE = 64
comptime DEPTH = 16


@__name(t"mili_linear_rows_{dtype}_{out_dtype}_{vector}")
def linear_rows_kernel[
    dtype: DType, out_dtype: DType, vector: Int
](
    y: Ptr[out_dtype],
    x: Ptr[dtype],
    w: Ptr[dtype],
    m_: Int32,
    n_: Int32,
    k_: Int32,
):
    """Warp v of block (b, r) writes column b * warps + v of rows 4 r ... 4 r + 3; `vector` divides k.
    """
    comptime F32 = DType.float32
    var m = Int(m_)
    var n = Int(n_)
    var k = Int(k_)
    var column = Int(block_idx.x) * (THREADS // WARP_SIZE) + warp_index()
    var row0 = Int(block_idx.y) * ROWS
    if column >= n:
        return
    var acc = stack_allocation[ROWS, SIMD[F32, vector]]()
    comptime for r in range(ROWS):
        acc[unsafe_offset=r] = SIMD[F32, vector](0)
    for e in range(Int(lane_id()) * vector, k, WARP_SIZE * vector):
        var weights = load_vector[dtype, vector](w, column * k + e).cast[F32]()
        comptime for r in range(ROWS):
            var v = load_vector[dtype, vector](
                x, min(row0 + r, m - 1) * k + e
            ).cast[F32]()
            acc[unsafe_offset=r] = v.fma(weights, acc[unsafe_offset=r])
    comptime for r in range(ROWS):
        var total = warp.sum(acc[unsafe_offset=r].reduce_add())
        if lane_id() == 0 and row0 + r < m:
            y[unsafe_offset=(row0 + r) * n + column] = total.cast[out_dtype]()


@__name(t"mili_linear_square_{dtype}_{out_dtype}")
def linear_square_kernel[
    dtype: DType, out_dtype: DType
](
    y: Ptr[out_dtype],
    x: Ptr[dtype],
    w: Ptr[dtype],
    m_: Int32,
    n_: Int32,
    k_: Int32,
):
    """Block (c, r) writes the 64 x 64 outputs from row 64 r and column 64 c."""
    comptime F32 = DType.float32
    comptime stride = TILE + 4
    var m = Int(m_)
    var n = Int(n_)
    var k = Int(k_)
    var thread = Int(thread_idx.x)
    var row0 = Int(block_idx.y) * TILE
    var column0 = Int(block_idx.x) * TILE
    var xs = stack_allocation[
        DEPTH * stride, Float32, address_space=AddressSpace.SHARED, alignment=16
    ]()
    var ws = stack_allocation[
        DEPTH * stride, Float32, address_space=AddressSpace.SHARED, alignment=16
    ]()
    var acc = stack_allocation[4, SIMD[F32, 4]]()
    comptime for i in range(4):
        acc[unsafe_offset=i] = SIMD[F32, 4](0)
    var ty = thread // 16 * 4
    var tx = thread % 16 * 4
    for start in range(0, k, DEPTH):
        comptime for i in range(TILE * DEPTH // THREADS):
            var row = thread // DEPTH + i * (THREADS // DEPTH)
            var depth = thread % DEPTH
            var inside = start + depth < k
            var at = start + depth if inside else 0
            var a = x[unsafe_offset=min(row0 + row, m - 1) * k + at].cast[F32]()
            var b = w[unsafe_offset=min(column0 + row, n - 1) * k + at].cast[
                F32
            ]()
            xs[unsafe_offset=depth * stride + row] = a if inside else 0
            ws[unsafe_offset=depth * stride + row] = b if inside else 0
        barrier()
        comptime for depth in range(DEPTH):
            var a = xs.unsafe_load[width=4, alignment=16](depth * stride + ty)
            var b = ws.unsafe_load[width=4, alignment=16](depth * stride + tx)
            comptime for i in range(4):
                acc[unsafe_offset=i] = b.fma(
                    SIMD[F32, 4](a[i]), acc[unsafe_offset=i]
                )
        barrier()
    comptime for i in range(4):
        comptime for j in range(4):
            if row0 + ty + i < m and column0 + tx + j < n:
                y[unsafe_offset=(row0 + ty + i) * n + column0 + tx + j] = acc[
                    unsafe_offset=i
                ][j].cast[out_dtype]()


def linear_simple_gpu[
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
    """Writes y [m, n] = x [m, k] @ w.T for any sizes."""

    def few[vector: Int]() raises {imm}:
        ctx.enqueue_function[linear_rows_kernel[dtype, out_dtype, vector]](
            y,
            x,
            w,
            Int32(m),
            Int32(n),
            Int32(k),
            grid_dim=(ceildiv(n, THREADS // WARP_SIZE), ceildiv(m, ROWS)),
            block_dim=THREADS,
        )

    comptime vector = vector_width[dtype]()
    if m > 4 * ROWS:
        ctx.enqueue_function[linear_square_kernel[dtype, out_dtype]](
            y,
            x,
            w,
            Int32(m),
            Int32(n),
            Int32(k),
            grid_dim=(ceildiv(n, TILE), ceildiv(m, TILE)),
            block_dim=THREADS,
        )
    elif k % vector == 0:
        few[vector]()
    else:
        few[1]()
