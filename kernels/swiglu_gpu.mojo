"""SwiGLU on a GPU, first version: one thread an element."""

from .common import Ptr
from .swiglu import silu
from max.gpu import global_idx
from max.gpu.host import DeviceContext
from std.math import ceildiv

comptime BLOCK = 256


def swiglu_kernel[
    dtype: DType
](y: Ptr[dtype], gate_up: Ptr[dtype], size: Int32, width: Int32):
    """Thread i writes element i of y [rows, width]; `size` is rows * width."""
    var i = Int(global_idx.x)
    if i >= Int(size):
        return
    var at = i // Int(width) * 2 * Int(width) + i % Int(width)
    var gate = gate_up[unsafe_offset=at].cast[DType.float32]()
    var up = gate_up[unsafe_offset=at + Int(width)].cast[DType.float32]()
    y[unsafe_offset=i] = (silu(gate) * up).cast[dtype]()


def swiglu_gpu[
    dtype: DType
](
    y: Ptr[dtype],
    gate_up: Ptr[dtype],
    rows: Int,
    width: Int,
    ctx: DeviceContext,
) raises:
    """Writes y [rows, width] from gate_up [rows, 2 * width]."""
    var size = rows * width
    if size == 0:
        return
    ctx.enqueue_function[swiglu_kernel[dtype]](
        y,
        gate_up,
        Int32(size),
        Int32(width),
        grid_dim=ceildiv(size, BLOCK),
        block_dim=BLOCK,
    )
