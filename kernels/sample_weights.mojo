"""The weights of sampling: w[v] = exp((logits[v] - max logits) / temperature), of a row or of the blocks that matter.

    logits  #####################   one pass: the maximum of each block of 256
    maxima  :   .   |   :   |       their k-th greatest, t, is at most the k-th greatest logit
    w               ||  ::  |:      of the blocks whose maximum is t or more: no other holds one of the top k
"""

from .common import LANES, Ptr
from .sample_filter import Lanes, as_float, count_from, kth_weight
from std.math import align_up, ceildiv, exp
from std.utils.numerics import nan

comptime BLOCK = 256
"""Logits that are looked at or left out together."""
comptime TINY = 0x0DA24260
"""Bits of 1e-30: above it rounding is relative."""


def greatest(logits: Ptr[DType.float32], width: Int) -> Float32:
    """Returns the greatest of `width` values, NaN if there is one."""
    var best = Lanes(Float32.MIN)
    var sane = SIMD[DType.bool, LANES](fill=True)
    var full = width // LANES * LANES
    for i in range(0, full, LANES):
        var v = logits.unsafe_load[width=LANES](i)
        best = v.gt(best).select(v, best)
        sane = sane & v.eq(v)
    var top = best.reduce_max()
    for i in range(full, width):
        var v = logits[unsafe_offset=i]
        if v > top:
            top = v
        if v != v:
            sane = SIMD[DType.bool, LANES](fill=False)
    return top if sane.reduce_and() else nan[DType.float32]()


@always_inline
def weigh_block(
    logits: Ptr[DType.float32],
    width: Int,
    start: Int,
    top: Float32,
    temperature: Float32,
    w: Ptr[DType.float32],
):
    """Writes the weights w [BLOCK] of the logits from `start` on, with zeros beyond the row.
    """
    for i in range(0, BLOCK, LANES):
        var at = start + i
        if at + LANES <= width:
            var v = (logits.unsafe_load[width=LANES](at) - top) / temperature
            w.unsafe_store(i, exp(v))
        else:
            for lane in range(LANES):
                w[unsafe_offset=i + lane] = (
                    exp(
                        (logits[unsafe_offset=at + lane] - top) / temperature
                    ) if at
                    + lane
                    < width else 0
                )


def weigh(
    logits: Ptr[DType.float32],
    width: Int,
    top: Float32,
    temperature: Float32,
    w: Ptr[DType.float32],
):
    """Writes the weights of a whole row, with zeros up to a whole block."""
    for start in range(0, width, BLOCK):
        weigh_block(
            logits, width, start, top, temperature, w.unsafe_offset(start)
        )


def block_maxima(
    logits: Ptr[DType.float32], width: Int, maxima: Ptr[DType.float32]
) -> Float32:
    """Writes the greatest of each block; returns the greatest of all, NaN if there is one.
    """
    var top = Float32.MIN
    for start in range(0, width, BLOCK):
        var best = greatest(
            logits.unsafe_offset(start), min(BLOCK, width - start)
        )
        maxima[unsafe_offset=start // BLOCK] = best
        if best != best:
            return best
        top = max(top, best)
    return top


def weigh_blocks(
    logits: Ptr[DType.float32],
    width: Int,
    top: Float32,
    temperature: Float32,
    top_k: Int,
    maxima: Ptr[DType.float32],
    w: Ptr[DType.float32],
    places: Ptr[DType.int32],
) -> Tuple[Int, Int]:
    """Writes the weights of the blocks that may hold one of the top_k greatest, and which blocks they are.

    Returns how many weights, and bits that top_k of them reach; none where that cannot be told from the maxima.
    """
    var blocks = ceildiv(width, BLOCK)
    var padded = align_up(blocks, LANES)
    for i in range(blocks, padded):
        maxima[unsafe_offset=i] = top
    for i in range(0, padded, LANES):
        var v = (maxima.unsafe_load[width=LANES](i) - top) / temperature
        maxima.unsafe_store(i, exp(v))
    for i in range(blocks, padded):
        maxima[unsafe_offset=i] = 0
    var bits = kth_weight(maxima, padded, top_k)
    if bits < TINY:
        return (0, 0)
    # exp may be off by a rounding, and then a smaller logit have the greater weight; a thousandth is far more.
    var least = as_float(bits) * (1 - 1.0 / 1024)
    var size = 0
    for b in range(blocks):
        if maxima[unsafe_offset=b] >= least:
            places[unsafe_offset=size // BLOCK] = Int32(b)
            weigh_block(
                logits,
                width,
                b * BLOCK,
                top,
                temperature,
                w.unsafe_offset(size),
            )
            size += BLOCK
    if count_from(w, size, as_float(bits)) < top_k:
        return (0, 0)
    return (size, bits)
