"""Embedding and row gathering on a GPU: y[i, :] = x[rows[i], :], a thread for every 16 bytes.

    thread n  ->  row n / (width / 8),  vector n % (width / 8)        neighbours copy neighbouring 16 bytes

An index outside the table gives zeros: an index is data, and data must not make a kernel read foreign memory.
"""

from .common import Ptr
from .gpu_common import (
    early_launch,
    load_vector,
    store_vector,
    vector_width,
    wait_for_previous,
)
from max.gpu import block_idx, thread_idx
from max.gpu.host import DeviceContext
from std.math import ceildiv

comptime THREADS = 256


@__name(t"mili_gather_rows_{dtype}_{vector}")
def gather_rows_kernel[
    dtype: DType, vector: Int
](
    y: Ptr[dtype],
    x: Ptr[dtype],
    rows: Ptr[DType.int32],
    vectors: UInt32,
    row_vectors: UInt32,
    source_rows: Int32,
):
    """One thread a vector of y; a row has `row_vectors` of them."""
    wait_for_previous()
    var n = UInt32(block_idx.x) * UInt32(THREADS) + UInt32(thread_idx.x)
    if n >= vectors:
        return
    var row = n // row_vectors
    var column = Int(n - row * row_vectors)
    var source = rows[unsafe_offset=Int(row)]
    var v = SIMD[dtype, vector](0)
    if source >= 0 and source < source_rows:
        v = load_vector[dtype, vector](
            x, (Int(source) * Int(row_vectors) + column) * vector
        )
    store_vector[dtype, vector](y, Int(n) * vector, v)


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
    comptime wide = vector_width[dtype]()

    def go[w: Int]() raises {imm}:
        var vectors = count * width // w
        ctx.enqueue_function[gather_rows_kernel[dtype, w]](
            y,
            x,
            rows,
            UInt32(vectors),
            UInt32(width // w),
            Int32(source_rows),
            grid_dim=ceildiv(vectors, THREADS),
            block_dim=THREADS,
            attributes=early_launch(),
        )

    if count == 0:
        return
    if width % wide == 0:
        go[wide]()
    else:
        go[1]()
