"""Linear on a GPU: y = x @ w.T over row-major weights [N, K]; which kernel runs is decided here.

    bfloat16, float16 on NVIDIA, K a multiple of 8
        M <= 16     linear_skinny_gpu.mojo    bound by reading w: loads to registers, tensor cores
        more        linear_library_gpu.mojo   cuBLAS, where it is installed, else
        M <= 64     linear_skinny_gpu.mojo
        more        linear_hopper_gpu.mojo    bound by arithmetic: wgmma, on Hopper, where its tiles fill the GPU, else
                    linear_tiled_gpu.mojo     tiles in shared memory, mma.sync
    everything else linear_simple_gpu.mojo    float32 products

The ladder (`kernels/steps/linear_*_gpu.mojo`, `python -m benchmarks.ladder linear --device gpu`): one thread an output; a
warp an output with 16-byte loads; tiles in shared memory; tensor cores; asynchronous copies; wgmma.
"""

from .common import Ptr
from .linear_hopper_gpu import linear_hopper_gpu
from .linear_library_gpu import linear_library_gpu
from .linear_simple_gpu import linear_simple_gpu
from .linear_skinny_gpu import linear_skinny_gpu
from .linear_tiled_gpu import linear_tiled_gpu
from max.gpu.host import DeviceContext
from std.math import ceildiv

comptime SKINNY_ROWS = 64
comptime LIBRARY_ROWS = 17


def linear_gpu[
    dtype: DType, out_dtype: DType, library: Bool = True
](
    y: Ptr[out_dtype],
    x: Ptr[dtype],
    w: Ptr[dtype],
    m: Int,
    n: Int,
    k: Int,
    ctx: DeviceContext,
) raises:
    """Writes y [m, n] = x [m, k] @ w.T for row-major w [n, k]; with `library` False by this project's kernels alone.
    """
    if m == 0:
        return
    comptime if DeviceContext.default_device_info.api == "cuda" and dtype.is_half_float():
        if k % 8 == 0:
            comptime if library:
                if m >= LIBRARY_ROWS and linear_library_gpu(
                    y, x, w, m, n, k, ctx
                ):
                    return
            if m <= SKINNY_ROWS:
                linear_skinny_gpu(y, x, w, m, n, k, ctx)
                return
            comptime if DeviceContext.default_device_info.compute == 9.0:
                if n % 2 == 0 and ceildiv(m, 128) * ceildiv(n, 128) >= 120:
                    linear_hopper_gpu(y, x, w, m, n, k, ctx)
                    return
            linear_tiled_gpu(y, x, w, m, n, k, ctx)
            return
    linear_simple_gpu(y, x, w, m, n, k, ctx)
