"""RMSNorm with the residual, step 1: the definition, element by element, in two passes over the whole matrix.

    total = residual + x                          all rows: written to memory
    y     = total / rms(total) * weight           all rows: read again

Each addition of a square waits for the one before, and each element is widened from bfloat16 by itself.
"""

from ..common import Ptr
from std.math import sqrt


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
    comptime F32 = DType.float32
    for i in range(rows * width):
        var sum = (
            residual[unsafe_offset=i].cast[F32]()
            + x[unsafe_offset=i].cast[F32]()
        )
        total[unsafe_offset=i] = sum.cast[dtype]()
    for t in range(rows):
        var row = total.unsafe_offset(t * width)
        var squares = Float32(0)
        for i in range(width):
            var v = row[unsafe_offset=i].cast[F32]()
            squares += v * v
        var scale = 1 / sqrt(squares / Float32(width) + eps)
        for i in range(width):
            var v = row[unsafe_offset=i].cast[F32]() * scale
            y[unsafe_offset=t * width + i] = (
                v * weight[unsafe_offset=i].cast[F32]()
            ).cast[dtype]()
