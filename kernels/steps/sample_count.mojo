"""Sampling, step 2: count instead of sorting, on one core.

    which t is the greatest such that k weights are at least t?      bisection over the 31 bits of t, a count for each

Counting has no order, so sixteen lanes count at once; sorting has. All weights are computed, and each pass reads all.
"""

from ..argmax import argmax_row
from ..common import Ptr
from ..sample import FIELDS, draw
from ..sample_filter import find_boundary, keep_boundary, mass_from
from ..sample_weights import BLOCK, greatest, weigh
from std.math import ceildiv
from std.memory.alloc import unsafe_alloc
from std.utils.numerics import isfinite


def sample_row(
    logits: Ptr[DType.float32],
    width: Int,
    fields: Ptr[DType.float32],
    w: Ptr[DType.float32],
) -> Int32:
    """Returns the token of one row; `w` is scratch of `width` rounded up to whole blocks.
    """
    if fields[unsafe_offset=0] <= 0:
        return argmax_row(logits, width)
    var padded = ceildiv(width, BLOCK) * BLOCK
    var top = greatest(logits, width)
    if not isfinite(top):
        return -1
    weigh(logits, width, top, fields[unsafe_offset=0], w)
    var top_k = Int(fields[unsafe_offset=1])
    var top_p = fields[unsafe_offset=2]
    var whole = mass_from(w, padded, 0)
    var found = find_boundary(w, padded, width, whole, top_k, top_p)
    keep_boundary(w, padded, found, fields[unsafe_offset=3])
    return draw(w, padded, fields[unsafe_offset=4])


def sample(
    tokens: Ptr[DType.int32],
    logits: Ptr[DType.float32],
    fields: Ptr[DType.float32],
    rows: Int,
    width: Int,
):
    """Writes tokens [rows] from logits [rows, width] and fields [rows, FIELDS].
    """
    var scratch = unsafe_alloc[Float32](ceildiv(width, BLOCK) * BLOCK)
    for t in range(rows):
        tokens[unsafe_offset=t] = sample_row(
            logits.unsafe_offset(t * width),
            width,
            fields.unsafe_offset(t * FIELDS),
            scratch.as_unsafe_any_origin(),
        )
    scratch.unsafe_free()
