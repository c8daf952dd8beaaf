"""Argmax, step 1: the definition, one value after another."""

from ..common import Ptr


def argmax(
    tokens: Ptr[DType.int32], logits: Ptr[DType.float32], rows: Int, width: Int
):
    """Writes tokens [rows] from logits [rows, width]."""
    for t in range(rows):
        var row = logits.unsafe_offset(t * width)
        var best = Float32.MIN
        var place = -1
        for i in range(width):
            if row[unsafe_offset=i] > best:
                best = row[unsafe_offset=i]
                place = i
        tokens[unsafe_offset=t] = Int32(max(place, 0))
