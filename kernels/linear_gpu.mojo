"""Linear on a GPU over row-major weights, first version: one thread an output."""

from .common import Ptr
from max.gpu import block_idx, thread_idx
from max.gpu.host import DeviceContext
from std.math import ceildiv

comptime BLOCK = 128


def linear_kernel[
    dtype: DType, out_dtype: DType
](y: Ptr[out_dtype], x: Ptr[dtype], w: Ptr[dtype], n: Int32, k: Int32):
    """Block (c, m) writes outputs c * BLOCK ... of row m of y [M, n] = x [M, k] @ w.T, w [n, k].
    """
    var column = Int(block_idx.x) * BLOCK + Int(thread_idx.x)
    var row = Int(block_idx.y)
    if column >= Int(n):
        return
    var acc = Float32(0)
    for i in range(Int(k)):
        var a = x[unsafe_offset=row * Int(k) + i].cast[DType.float32]()
        acc += a * w[unsafe_offset=column * Int(k) + i].cast[DType.float32]()
    y[unsafe_offset=row * Int(n) + column] = acc.cast[out_dtype]()


def linear_gpu[
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
    """Writes y [m, n] = x [m, k] @ w.T for row-major w [n, k]."""
    if m == 0:
        return
    ctx.enqueue_function[linear_kernel[dtype, out_dtype]](
        y,
        x,
        w,
        Int32(n),
        Int32(k),
        grid_dim=(ceildiv(n, BLOCK), m),
        block_dim=BLOCK,
    )
