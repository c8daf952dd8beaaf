"""Linear on the GPU, step 2: one warp an output; its lanes read neighbouring 16 bytes of x and w.

    w[c, :]   | lane 0: 16 B | lane 1: 16 B | ... | lane 31 | lane 0 | ...        512 bytes with one instruction, all wanted
    y[r, c]   = sum over the lanes (shuffles)

Nothing is lost between memory and the lanes, but each output reads its row of w again: with many rows of x the same bytes
come again and again from the cache, two loads for eight multiply-adds. Step 3 shares them.
"""

from ..common import Ptr
from ..gpu_common import load_vector, vector_width, warp_index
from max.gpu import WARP_SIZE, block_idx, lane_id
from max.gpu.host import DeviceContext
from max.gpu.primitives import warp
from std.math import ceildiv

comptime WARPS = 8


@__name(t"mili_step_linear_warp_{dtype}")
def linear_kernel[
    dtype: DType
](y: Ptr[dtype], x: Ptr[dtype], w: Ptr[dtype], n_: Int32, k_: Int32,):
    """Warp v of block (b, r) writes y[r, b * WARPS + v]; 8 two-byte elements divide k.
    """
    comptime F32 = DType.float32
    comptime W = vector_width[dtype]()
    var n = Int(n_)
    var k = Int(k_)
    var column = Int(block_idx.x) * WARPS + warp_index()
    var row = Int(block_idx.y)
    if column >= n:
        return
    var sums = SIMD[F32, W](0)
    for i in range(Int(lane_id()) * W, k, WARP_SIZE * W):
        var a = load_vector[dtype, W](x, row * k + i).cast[F32]()
        var b = load_vector[dtype, W](w, column * k + i).cast[F32]()
        sums = a.fma(b, sums)
    var total = warp.sum(sums.reduce_add())
    if lane_id() == 0:
        y[unsafe_offset=row * n + column] = total.cast[dtype]()


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
    """Writes y [m, n] = x [m, k] @ w [n, k].T; 16 bytes divide a row of k."""
    ctx.enqueue_function[linear_kernel[dtype]](
        y,
        x,
        w,
        Int32(n),
        Int32(k),
        grid_dim=(ceildiv(n, WARPS), m),
        block_dim=WARPS * WARP_SIZE,
    )
