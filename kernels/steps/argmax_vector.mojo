"""Argmax, step 3: one pass; sixteen lanes, each with its greatest value and that value's index (`argmax_row`).

The index costs a second selection for each register, and saves reading half a row again.

Step 4, all cores, is `argmax.mojo`; only rows are cut among cores, so one row gains nothing.
"""

from ..argmax import argmax_row
from ..common import Ptr


def argmax(
    tokens: Ptr[DType.int32], logits: Ptr[DType.float32], rows: Int, width: Int
):
    """Writes tokens [rows] from logits [rows, width]."""
    for t in range(rows):
        tokens[unsafe_offset=t] = argmax_row(
            logits.unsafe_offset(t * width), width
        )
