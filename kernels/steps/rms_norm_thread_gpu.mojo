"""RMSNorm on the GPU, step 1: one thread a row, the loop of the CPU as it stands.

    lane 0   x[0, 0] x[0, 1] ...        at each moment the lanes of a warp read elements a whole row apart:
    lane 1   x[1, 0] x[1, 1] ...        32 sectors of 32 bytes for 64 bytes that are wanted, and one row keeps one lane busy
"""

from ..common import Ptr
from max.gpu import global_idx
from max.gpu.host import DeviceContext
from std.math import ceildiv, rsqrt

comptime THREADS = 128


@__name(t"mili_step_rms_norm_thread_{dtype}")
def rms_norm_kernel[
    dtype: DType
](
    y: Ptr[dtype],
    x: Ptr[dtype],
    weight: Ptr[dtype],
    rows: Int32,
    cols_: Int32,
    eps: Float32,
):
    """Thread t normalises row t."""
    comptime F32 = DType.float32
    var cols = Int(cols_)
    var t = Int(global_idx.x)
    if t >= Int(rows):
        return
    var squares = Float32(0)
    for i in range(cols):
        var v = x[unsafe_offset=t * cols + i].cast[F32]()
        squares += v * v
    var scale = rsqrt(squares / Float32(cols) + eps)
    for i in range(cols):
        var v = x[unsafe_offset=t * cols + i].cast[F32]() * scale
        y[unsafe_offset=t * cols + i] = (
            v * weight[unsafe_offset=i].cast[F32]()
        ).cast[dtype]()


def rms_norm[
    dtype: DType
](
    y: Ptr[dtype],
    x: Ptr[dtype],
    weight: Ptr[dtype],
    rows: Int,
    cols: Int,
    eps: Float32,
    ctx: DeviceContext,
) raises:
    """Writes y = RMSNorm(x) for x, y [rows, cols] and weight [cols]."""
    ctx.enqueue_function[rms_norm_kernel[dtype]](
        y,
        x,
        weight,
        Int32(rows),
        Int32(cols),
        eps,
        grid_dim=ceildiv(rows, THREADS),
        block_dim=THREADS,
    )
