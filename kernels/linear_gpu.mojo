"""Linear on a GPU: y = x @ w.T over row-major weights [N, K]; which kernel runs is decided here.

    bfloat16, float16 on NVIDIA, K a multiple of 8
        M <= 64     linear_skinny_gpu.mojo    bound by reading w: loads to registers, tensor cores
        more        linear_tiled_gpu.mojo     bound by arithmetic: tiles in shared memory, tensor cores
    everything else linear_simple_gpu.mojo    float32 products
"""

from .common import Ptr
from .linear_simple_gpu import linear_simple_gpu
from .linear_skinny_gpu import linear_skinny_gpu
from .linear_tiled_gpu import linear_tiled_gpu
from max.gpu.host import DeviceContext

comptime SKINNY_ROWS = 64


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
    comptime if DeviceContext.default_device_info.api == "cuda" and dtype.is_half_float():
        if k % 8 == 0 and m <= SKINNY_ROWS:
            linear_skinny_gpu(y, x, w, m, n, k, ctx)
            return
        elif k % 8 == 0:
            linear_tiled_gpu(y, x, w, m, n, k, ctx)
            return
    linear_simple_gpu(y, x, w, m, n, k, ctx)
