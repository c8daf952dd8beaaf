"""Linear on a GPU: y = x @ w.T over row-major weights [N, K]; which kernel runs is decided here.

    bfloat16, float16 on NVIDIA, K a multiple of 8
        Hopper, M <= 128    linear_stream_gpu.mojo    bound by reading w: the copy engine, wgmma; of a small w to M = 256
        M <= 16             linear_skinny_gpu.mojo    the same, loads to registers, mma.sync; on Hopper small w, M <= 8
        more                linear_library_gpu.mojo   cuBLAS, where it is installed, else
        Hopper, more        linear_hopper_gpu.mojo    bound by arithmetic: wgmma; where its tiles would not fill the GPU
                            linear_stream_gpu.mojo    to M = 256
        M <= 64             linear_skinny_gpu.mojo
        more                linear_tiled_gpu.mojo     tiles in shared memory, mma.sync
    everything else         linear_simple_gpu.mojo    float32 products

The ladder (`kernels/steps/linear_*_gpu.mojo`, `python -m benchmarks.ladder linear --device gpu`): microseconds on an H100
that copies 2,430 GB/s and does 749 TFLOP/s, N = 6144, K = 1024 in bfloat16, w not in the cache:

    rows                                     1          8         64        128       2048
    one thread an output                  68.2        269      1,582      3,323     51,494
    one warp an output, 16-byte loads      6.4       18.8        123        246      3,860
    64 x 64 tiles in shared memory        64.2       63.6       63.9       91.1        859    30 TFLOP/s: float32 units
    tensor cores                          21.3       21.3       26.8       27.9        197
    asynchronous copies, stages           21.1       19.7        9.2       11.3       95.2
    wgmma                                 23.4       22.9       16.9       10.9       59.9    430 TFLOP/s
    weights straight to registers          4.9        5.0       14.4                          linear_skinny_gpu.mojo
    weights by the copy engine             5.2        5.3        5.3        6.5               linear_stream_gpu.mojo
    what is chosen here                    4.9        5.0        5.3        6.5       39.4    cuBLAS for the last
    PyTorch 2.11                           7.0        7.0        7.3        7.1       42.9
"""

from .common import Ptr
from .linear_hopper_gpu import linear_hopper_gpu
from .linear_library_gpu import linear_library_gpu
from .linear_simple_gpu import linear_simple_gpu
from .linear_skinny_gpu import linear_skinny_gpu
from .linear_stream_gpu import MOST_ROWS, linear_stream_gpu
from .linear_tiled_gpu import linear_tiled_gpu
from max.gpu.host import DeviceContext
from std.math import ceildiv

comptime SKINNY_ROWS = 64
comptime LIBRARY_ROWS = 17
comptime LARGE_LIBRARY_ROWS = 5
"""The same where w is large."""
comptime LARGE = 20_000_000
"""Elements of such a w."""
comptime STREAMED = 8_000_000
"""Elements of w from which the copy engine is faster for 1 to 8 rows too: it starts later, but has more under way."""


def streams(m: Int, n: Int, k: Int) -> Bool:
    """Whether `linear_stream_gpu` is the fastest on Hopper, cuBLAS included."""
    if n % 2 != 0:
        return False
    var small = n * k < STREAMED
    if m <= 8:
        return not small
    # Of more than 128 rows w is read twice from the L2 cache, which pays where all blocks run at once.
    return m <= 128 or small and m <= MOST_ROWS and n <= 4096


def linear_gpu[
    dtype: DType,
    out_dtype: DType,
    library: Bool = True,
    N: Int = 0,
    K: Int = 0,
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

    N and K, if not 0, are n and k, known when compiling: then only the kernels that this w needs are compiled.
    """
    if m == 0:
        return
    comptime if DeviceContext.default_device_info.api == "cuda" and dtype.is_half_float():
        if k % 8 == 0:
            comptime hopper = DeviceContext.default_device_info.compute == 9.0
            # Whether the copy engine's kernel takes all rows up to 128 but, of a small w, the first 8.
            comptime streamed = hopper and N > 0 and K > 0 and N % 2 == 0
            comptime small = N * K < STREAMED
            comptime if hopper:
                if streams(m, n, k):
                    linear_stream_gpu[
                        N=N, K=K, least=9 if streamed and small else 1
                    ](y, x, w, m, n, k, ctx)
                    return
            comptime if library:
                var least = (
                    LARGE_LIBRARY_ROWS if n * k >= LARGE else LIBRARY_ROWS
                )
                if m >= least and linear_library_gpu(y, x, w, m, n, k, ctx):
                    return
            comptime if streamed:
                comptime if small:
                    if m <= 8:
                        linear_skinny_gpu[N=N, K=K, most=8](
                            y, x, w, m, n, k, ctx
                        )
                        return
            else:
                if m <= SKINNY_ROWS:
                    linear_skinny_gpu(y, x, w, m, n, k, ctx)
                    return
            comptime if hopper:
                if n % 2 == 0:
                    if (
                        m <= MOST_ROWS
                        and ceildiv(m, 128) * ceildiv(n, 128) < 120
                    ):
                        linear_stream_gpu[N=N, K=K, least=129](
                            y, x, w, m, n, k, ctx
                        )
                    else:
                        linear_hopper_gpu(y, x, w, m, n, k, ctx)
                    return
            comptime if not streamed:
                linear_tiled_gpu(y, x, w, m, n, k, ctx)
                return
    comptime if K == 0 or K % 8 != 0 or not dtype.is_half_float():
        linear_simple_gpu(y, x, w, m, n, k, ctx)
