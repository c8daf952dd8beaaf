"""Sampling, step 1: sort the vocabulary, as the definitions of top-k and top-p suggest.

    keys    greatest weight first, of equal weights the lowest index        V log V comparisons
    kept    the first top_k of them, as many as reach top_p of their sum, those from min_p on
    draw    over the kept weights in the order of the vocabulary

A weight lies in [0, 1], where the bits of a float32 have the order of the numbers, so a weight and its index are one
whole number, and sorting compares nothing else.
"""

from ..argmax import argmax_row
from ..common import Ptr
from ..sample import FIELDS
from ..sample_weights import greatest
from std.collections import List
from std.math import exp
from std.memory import bitcast
from std.utils.numerics import isfinite

comptime LARGEST = Int64(0x7FFFFFFF)


def kept_weights(
    logits: Ptr[DType.float32],
    width: Int,
    top: Float32,
    fields: Ptr[DType.float32],
) -> List[Float32]:
    """Returns the weights [width] of one row, those that the filters take away as 0.
    """
    var temperature = fields[unsafe_offset=0]
    var top_k = Int(fields[unsafe_offset=1])
    var top_p = fields[unsafe_offset=2]
    var min_p = fields[unsafe_offset=3]
    var weights = List[Float32](capacity=width)
    var keys = List[Int64](capacity=width)
    for v in range(width):
        var w = exp((logits[unsafe_offset=v] - top) / temperature)
        weights.append(w)
        var bits = Int64(bitcast[DType.int32, 1](w))
        keys.append((LARGEST - bits) << 32 | Int64(v))
    sort(keys)
    var most = top_k if 0 < top_k < width else width
    var whole = Float64(0)
    for i in range(most):
        whole += Float64(weights[Int(keys[i] & LARGEST)])
    var kept = List[Float32](length=width, fill=Float32(0))
    var passed = Float64(0)
    for i in range(most):
        var v = Int(keys[i] & LARGEST)
        if i > 0 and top_p < 1 and passed >= Float64(top_p) * whole:
            break
        passed += Float64(weights[v])
        if weights[v] >= min_p:
            kept[v] = weights[v]
    return kept^


def sample_row(
    logits: Ptr[DType.float32], width: Int, fields: Ptr[DType.float32]
) -> Int32:
    """Returns the token of one row, -1 for logits that are no numbers."""
    if fields[unsafe_offset=0] <= 0:
        return argmax_row(logits, width)
    var top = greatest(logits, width)
    if not isfinite(top):
        return -1
    var kept = kept_weights(logits, width, top, fields)
    var whole = Float64(0)
    for v in range(width):
        whole += Float64(kept[v])
    var target = whole * Float64(fields[unsafe_offset=4])
    var passed = Float64(0)
    var token = Int32(-1)
    for v in range(width):
        if kept[v] > 0:
            passed += Float64(kept[v])
            token = Int32(v)
            if passed > target:
                break
    return token


def sample(
    tokens: Ptr[DType.int32],
    logits: Ptr[DType.float32],
    fields: Ptr[DType.float32],
    rows: Int,
    width: Int,
):
    """Writes tokens [rows] from logits [rows, width] and fields [rows, FIELDS].
    """
    for t in range(rows):
        tokens[unsafe_offset=t] = sample_row(
            logits.unsafe_offset(t * width),
            width,
            fields.unsafe_offset(t * FIELDS),
        )
