"""RMSNorm on the GPU, step 2: one block a row; the sum goes through warp shuffles and shared memory.

    WIDTH 1   lane i reads element i, i + THREADS, ...        neighbours read neighbours: 64 bytes of a warp are two sectors
    squares -> warp shuffle -> shared memory -> one sum for the block (`block_sum` of `gpu_common.mojo`)

Step 3 is the same with WIDTH 8: 16 bytes a lane, 512 bytes a warp with one instruction, an eighth of the instructions.
Both read the row twice, the second time from the cache; step 4 (`rms_norm_gpu.mojo`) keeps it in registers.
"""

from ..common import Ptr
from ..gpu_common import block_sum, load_vector, store_vector
from max.gpu import block_idx, thread_idx
from max.gpu.host import DeviceContext
from std.math import rsqrt

comptime THREADS = 256


@__name(t"mili_step_rms_norm_block_{dtype}_{W}")
def rms_norm_kernel[
    dtype: DType, W: Int
](y: Ptr[dtype], x: Ptr[dtype], weight: Ptr[dtype], cols_: Int32, eps: Float32):
    """Block t normalises row t; W divides cols."""
    comptime F32 = DType.float32
    var cols = Int(cols_)
    var row = Int(block_idx.x) * cols
    var squares = SIMD[F32, W](0)
    for i in range(Int(thread_idx.x) * W, cols, THREADS * W):
        var v = load_vector[dtype, W](x, row + i).cast[F32]()
        squares = v.fma(v, squares)
    var mean = block_sum[THREADS](squares.reduce_add()) / Float32(cols)
    var scale = rsqrt(mean + eps)
    for i in range(Int(thread_idx.x) * W, cols, THREADS * W):
        var v = load_vector[dtype, W](x, row + i).cast[F32]() * scale
        var w = load_vector[dtype, W](weight, i).cast[F32]()
        store_vector[dtype, W](y, row + i, (v * w).cast[dtype]())


def rms_norm[
    dtype: DType, W: Int
](
    y: Ptr[dtype],
    x: Ptr[dtype],
    weight: Ptr[dtype],
    rows: Int,
    cols: Int,
    eps: Float32,
    ctx: DeviceContext,
) raises:
    """Writes y = RMSNorm(x) for x, y [rows, cols] and weight [cols]; W divides cols.
    """
    ctx.enqueue_function[rms_norm_kernel[dtype, W]](
        y, x, weight, Int32(cols), eps, grid_dim=rows, block_dim=THREADS
    )
