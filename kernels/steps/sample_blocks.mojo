"""Sampling, step 3: leave out what cannot be kept (`sample_row` of `sample.mojo`), on one core.

    the k-th greatest of the blocks' maxima <= the k-th greatest logit      blocks whose maximum is less hold none of the k

The maximum is needed anyway; with those of blocks of 256 logits, weights are computed and counted in a few blocks only.
Step 4, all cores, is `sample.mojo`; only rows are cut among cores.
"""

from ..common import Ptr
from ..sample import FIELDS, sample_row, scratch_size
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
    var scratch = unsafe_alloc[Float32](scratch_size(width))
    for t in range(rows):
        tokens[unsafe_offset=t] = sample_row(
            logits.unsafe_offset(t * width),
            width,
            fields.unsafe_offset(t * FIELDS),
            scratch.as_unsafe_any_origin(),
        )
    scratch.unsafe_free()
