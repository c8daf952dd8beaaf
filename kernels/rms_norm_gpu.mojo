"""RMSNorm on a GPU, first version: one block a row, a tree sum in shared memory."""

from .common import Ptr
from max.gpu import block_idx, thread_idx
from max.gpu.host import DeviceContext
from max.gpu.primitives import block
from std.math import sqrt

comptime BLOCK = 256


def rms_norm_kernel[
    dtype: DType, add: Bool
](
    y: Ptr[dtype],
    total: Ptr[dtype],
    x: Ptr[dtype],
    residual: Ptr[dtype],
    weight: Ptr[dtype],
    width: Int32,
    eps: Float32,
):
    """Block t normalises row t; with `add` it first writes total = residual + x and normalises that.
    """
    var start = Int(block_idx.x) * Int(width)
    var squares = Float32(0)
    for i in range(start + Int(thread_idx.x), start + Int(width), BLOCK):
        var v = x[unsafe_offset=i].cast[DType.float32]()
        comptime if add:
            total[unsafe_offset=i] = (
                v + residual[unsafe_offset=i].cast[DType.float32]()
            ).cast[dtype]()
            v = total[unsafe_offset=i].cast[DType.float32]()
        squares += v * v
    var scale = 1 / sqrt(
        block.sum[block_size=BLOCK](squares) / Float32(width) + eps
    )
    for e in range(Int(thread_idx.x), Int(width), BLOCK):
        var v = x[unsafe_offset=start + e].cast[DType.float32]()
        comptime if add:
            v = total[unsafe_offset=start + e].cast[DType.float32]()
        y[unsafe_offset=start + e] = (
            v * scale * weight[unsafe_offset=e].cast[DType.float32]()
        ).cast[dtype]()


def rms_norm_gpu[
    dtype: DType
](
    y: Ptr[dtype],
    x: Ptr[dtype],
    weight: Ptr[dtype],
    rows: Int,
    width: Int,
    eps: Float32,
    ctx: DeviceContext,
) raises:
    """Writes y = RMSNorm(x) for x, y [rows, width] and weight [width]."""
    if rows == 0:
        return
    ctx.enqueue_function[rms_norm_kernel[dtype, False]](
        y, y, x, x, weight, Int32(width), eps, grid_dim=rows, block_dim=BLOCK
    )


def add_rms_norm_gpu[
    dtype: DType
](
    y: Ptr[dtype],
    total: Ptr[dtype],
    x: Ptr[dtype],
    residual: Ptr[dtype],
    weight: Ptr[dtype],
    rows: Int,
    width: Int,
    eps: Float32,
    ctx: DeviceContext,
) raises:
    """Writes total = residual + x and y = RMSNorm(total); all [rows, width] but weight [width].
    """
    if rows == 0:
        return
    ctx.enqueue_function[rms_norm_kernel[dtype, True]](
        y,
        total,
        x,
        residual,
        weight,
        Int32(width),
        eps,
        grid_dim=rows,
        block_dim=BLOCK,
    )
