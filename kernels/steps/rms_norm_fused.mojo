"""RMSNorm with the residual, step 3: a row is added and normalised before the next is touched.

    row t   add -> total (in the nearest cache) -> squares -> scale -> y

`total` is read back from the cache next to the core instead of from memory. Step 4, all cores, is `rms_norm.mojo`.
"""

from ..common import Ptr
from ..rms_norm import norm_row
from .rms_norm_vector import add


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
    for t in range(rows):
        var at = t * width
        var row = total.unsafe_offset(at)
        add(row, residual.unsafe_offset(at), x.unsafe_offset(at), width)
        norm_row(y.unsafe_offset(at), row, weight, width, eps)
