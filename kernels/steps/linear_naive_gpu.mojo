"""Linear on the GPU, step 1: one thread an output, w row-major [N, K].

    thread (c, r):  y[r, c] = sum_k x[r, k] * w[c, k]        the lanes of a warp have 32 neighbouring columns c

At each k the lanes read elements of w that lie a row apart: 32 sectors of memory for 64 bytes that are wanted.
"""

from ..common import Ptr
from max.gpu import global_idx
from max.gpu.host import DeviceContext
from std.math import ceildiv

comptime COLUMNS = 32
comptime ROWS = 8


@__name(t"mili_step_linear_naive_{dtype}")
def linear_kernel[
    dtype: DType
](y: Ptr[dtype], x: Ptr[dtype], w: Ptr[dtype], m: Int32, n: Int32, k_: Int32,):
    """Thread (c, r) writes y[r, c]."""
    comptime F32 = DType.float32
    var k = Int(k_)
    var column = Int(global_idx.x)
    var row = Int(global_idx.y)
    if column >= Int(n) or row >= Int(m):
        return
    var total = Float32(0)
    for i in range(k):
        total += (
            x[unsafe_offset=row * k + i].cast[F32]()
            * w[unsafe_offset=column * k + i].cast[F32]()
        )
    y[unsafe_offset=row * Int(n) + column] = total.cast[dtype]()


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
    """Writes y [m, n] = x [m, k] @ w [n, k].T."""
    ctx.enqueue_function[linear_kernel[dtype]](
        y,
        x,
        w,
        Int32(m),
        Int32(n),
        Int32(k),
        grid_dim=(ceildiv(n, COLUMNS), ceildiv(m, ROWS)),
        block_dim=(COLUMNS, ROWS),
    )
