"""Linear on the GPU, step 3: 64 x 64 outputs a block; tiles of x and w in shared memory serve all of them.

    shared   x [16 k, 64 rows], w [16 k, 64 columns]        each element comes from memory once a block: 64 times fewer bytes
    thread   4 x 4 outputs in registers                     8 loads from shared memory for 16 multiply-adds

It is the tile kernel that the engine keeps for float32 (`linear_simple_gpu.mojo`): now the multiply-add units are the
limit, 67 TFLOP/s on an H100 by its data sheet. Step 4 leaves them.
"""

from ..common import Ptr
from ..linear_simple_gpu import THREADS, TILE, linear_square_kernel
from max.gpu.host import DeviceContext
from std.math import ceildiv


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
    ctx.enqueue_function[linear_square_kernel[dtype, dtype]](
        y,
        x,
        w,
        Int32(m),
        Int32(n),
        Int32(k),
        grid_dim=(ceildiv(n, TILE), ceildiv(m, TILE)),
        block_dim=THREADS,
    )
