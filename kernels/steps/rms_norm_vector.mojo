"""RMSNorm with the residual, step 2: sixteen elements at once; still two passes over the whole matrix.

    total  | 16 lanes | 16 lanes | ... | tail |      squares: one sum a lane, added together at the end of the row

`norm_row` of `rms_norm.mojo` is the vectorised norm. Where the matrix does not fit the caches, `total` goes to memory and
comes back, and vectors do not help with that: step 3 does.
"""

from ..common import LANES, Ptr, load_float32, store_rounded
from ..rms_norm import norm_row


@always_inline
def add[
    dtype: DType
](total: Ptr[dtype], residual: Ptr[dtype], x: Ptr[dtype], count: Int):
    """Writes total = residual + x, `count` elements each."""
    var full = count // LANES * LANES
    for i in range(0, full, LANES):
        store_rounded(total, i, load_float32(residual, i) + load_float32(x, i))
    for i in range(full, count):
        store_rounded(
            total,
            i,
            load_float32[width=1](residual, i) + load_float32[width=1](x, i),
        )


def add_rms_norm[
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
):
    """Writes total = residual + x and y = RMSNorm(total); all [rows, width] but weight [width].
    """
    add(total, residual, x, rows * width)
    for t in range(rows):
        norm_row(
            y.unsafe_offset(t * width),
            total.unsafe_offset(t * width),
            weight,
            width,
            eps,
        )
