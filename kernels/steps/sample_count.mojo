"""Sampling, step 2: count instead of sorting (`sample_row` of `sample.mojo`), on one core.

    which t is the greatest such that k weights are at least t?      bisection over the 31 bits of t, a count for each

Counting has no order, so sixteen lanes count at once; sorting has. Step 3, all cores, is `sample.mojo`; only rows are
cut among cores.
"""

from ..common import Ptr
from ..sample import BLOCK, FIELDS, sample_row
from std.math import ceildiv
from std.memory.alloc import unsafe_alloc


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
