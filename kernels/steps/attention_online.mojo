"""Attention, step 2: the online softmax. One pass over keys and values, no scores in memory.

    m, l, a = -inf, 0, 0                          greatest score, sum of exponentials, weighted sum of values [D]
    for each key:  s = scale * q . k
                   s > m:  l, a *= exp(m - s);  m = s            what was added before counted from another maximum
                   l += exp(s - m);   a += exp(s - m) * v
    o = a / l

(Milakov and Gimelshein 2018, arXiv:1805.02867.) W is how many of the D elements are taken at once: 1 is this step, 16
with the sums in registers is the next.
"""

from ..attention import AttentionShape
from ..common import Ptr
from .attention_pages import F32, Pages, Row, dot, each_row
from std.collections import Array
from std.math import exp


struct Online[W: Int](Row):
    """One row after another, each by itself."""

    @staticmethod
    def attend[
        D: Int, dtype: DType
    ](
        o: Ptr[dtype],
        q: Ptr[dtype],
        kv: Ptr[dtype],
        pages: Pages,
        first: Int,
        last: Int,
        scale: Float32,
    ):
        """Writes o [D] of one query [D] over keys first to last (included)."""
        comptime parts = D // Self.W
        var sums = Array[SIMD[F32, Self.W], parts](fill=SIMD[F32, Self.W](0))
        var greatest = Float32.MIN
        var total = Float32(0)
        for j in range(first, last + 1):
            var key = kv.unsafe_offset(pages.key(j))
            var value = key.unsafe_offset(pages.value)
            var score = scale * dot[D, Self.W](q, key)
            if score > greatest:
                var rescale = exp(greatest - score)
                greatest = score
                total *= rescale
                multiply(sums, rescale)
            var p = exp(score - greatest)
            total += p
            comptime if Self.W == 1:
                for i in range(parts):
                    sums[i] += (
                        p * value.unsafe_load[width=Self.W](i).cast[F32]()
                    )
            else:
                comptime for i in range(parts):
                    sums[i] = (
                        value.unsafe_load[width=Self.W](i * Self.W)
                        .cast[F32]()
                        .fma(SIMD[F32, Self.W](p), sums[i])
                    )
        for i in range(parts):
            o.unsafe_store(i * Self.W, (sums[i] / total).cast[dtype]())


@always_inline
def multiply[
    W: Int, parts: Int
](mut sums: Array[SIMD[F32, W], parts], factor: Float32):
    """Multiplies every sum."""
    comptime if W == 1:
        for i in range(parts):
            sums[i] *= factor
    else:
        comptime for i in range(parts):
            sums[i] *= factor


def attention[
    D: Int, W: Int, dtype: DType
](
    o: Ptr[dtype],
    q: Ptr[dtype],
    kv: Ptr[dtype],
    row_offsets: Ptr[DType.int32],
    context_lengths: Ptr[DType.int32],
    page_table: Ptr[DType.int32],
    scale: Float32,
    shape: AttentionShape,
):
    """Writes o [T, H, D] for queries q [T, H, D] over the cache [pages, 2, KH, PS, D].
    """
    each_row[Online[W], D, dtype](
        o, q, kv, row_offsets, context_lengths, page_table, scale, shape
    )
