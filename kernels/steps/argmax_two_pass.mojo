"""Argmax, step 2: sixteen lanes, in two passes. The first finds the greatest value, the second where it stands first, and stops there.

    pass 1   max, max, max, max       four registers of lanes that do not wait for each other
    pass 2   == ?                     on average half a row, from the cache

Without an index pass 1 is a load and a maximum. A NaN is never taken: `>` is false for it.
"""

from ..common import LANES, Ptr
from std.collections import Array

comptime CHAINS = 4
comptime Lanes = SIMD[DType.float32, LANES]


@always_inline
def greatest(row: Ptr[DType.float32], width: Int) -> Float32:
    """The greatest of `width` values; -infinity if there is none."""
    var best = Array[Lanes, CHAINS](fill=Lanes(Float32.MIN))
    var full = width // (CHAINS * LANES) * (CHAINS * LANES)
    for i in range(0, full, CHAINS * LANES):
        comptime for c in range(CHAINS):
            var v = row.unsafe_load[width=LANES](i + c * LANES)
            best[c] = v.gt(best[c]).select(v, best[c])
    var top = Float32.MIN
    comptime for c in range(CHAINS):
        top = max(top, best[c].reduce_max())
    for i in range(full, width):
        if row[unsafe_offset=i] > top:
            top = row[unsafe_offset=i]
    return top


@always_inline
def first_equal(row: Ptr[DType.float32], width: Int, top: Float32) -> Int:
    """The lowest index of a value equal to `top`; 0 if there is none."""
    var full = width // LANES * LANES
    var i = 0
    while i < full and not (
        row.unsafe_load[width=LANES](i).eq(Lanes(top)).reduce_or()
    ):
        i += LANES
    while i < width and row[unsafe_offset=i] != top:
        i += 1
    return i if i < width else 0


def argmax(
    tokens: Ptr[DType.int32], logits: Ptr[DType.float32], rows: Int, width: Int
):
    """Writes tokens [rows] from logits [rows, width]."""
    for t in range(rows):
        var row = logits.unsafe_offset(t * width)
        tokens[unsafe_offset=t] = Int32(
            first_equal(row, width, greatest(row, width))
        )
