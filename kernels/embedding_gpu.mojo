"""Embedding and row gathering on a GPU: one block a row, neighbouring threads on neighbouring elements."""

from .common import Ptr
from max.gpu import block_dim, block_idx, thread_idx
from max.gpu.host import DeviceContext


def gather_rows_kernel[
    dtype: DType
](
    y: Ptr[dtype],
    x: Ptr[dtype],
    rows: Ptr[DType.int32],
    width: Int32,
    source_rows: Int32,
):
    """Block i copies row rows[i] of x [source_rows, width] to row i of y."""
    var i = Int(block_idx.x)
    var row = Int(rows[unsafe_offset=i])
    var known = row >= 0 and row < Int(source_rows)
    for e in range(Int(thread_idx.x), Int(width), Int(block_dim.x)):
        y[unsafe_offset=i * Int(width) + e] = x[
            unsafe_offset=row * Int(width) + e
        ] if known else 0


def gather_rows_gpu[
    dtype: DType
](
    y: Ptr[dtype],
    x: Ptr[dtype],
    rows: Ptr[DType.int32],
    count: Int,
    width: Int,
    source_rows: Int,
    ctx: DeviceContext,
) raises:
    """Writes y[i, :] = x[rows[i], :] for `count` rows; an index outside [0, source_rows) gives zeros.
    """
    if count == 0:
        return
    ctx.enqueue_function[gather_rows_kernel[dtype]](
        y,
        x,
        rows,
        Int32(width),
        Int32(source_rows),
        grid_dim=count,
        block_dim=256,
    )
