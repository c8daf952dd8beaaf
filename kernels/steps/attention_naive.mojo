"""Attention, step 1: the definition, with all scores of a head in memory.

    S = scale * Q K^T      [tokens, context] float32, written        one head of one request at a time
    P = softmax(S)         a row: maximum, exponentials, sum         read and written again
    O = P V                read again

S grows with the square of the prompt: 2,048 tokens take 16 MB a head, more than any cache next to a core.
"""

from ..attention import AttentionShape
from ..common import Ptr
from .attention_pages import Pages, dot, first_key, pages_of
from std.math import exp
from std.memory.alloc import unsafe_alloc


def attention[
    D: Int, dtype: DType
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
    for b in range(shape.requests):
        var start = Int(row_offsets[unsafe_offset=b])
        var tokens = Int(row_offsets[unsafe_offset=b + 1]) - start
        var context = Int(context_lengths[unsafe_offset=b])
        var scratch = unsafe_alloc[Float32](max(1, tokens * context))
        for h in range(shape.heads):
            var kv_head = h * shape.kv_heads // shape.heads
            var pages = pages_of[D](page_table, shape, b, kv_head)
            for t in range(tokens):
                var query = q.unsafe_offset(((start + t) * shape.heads + h) * D)
                var last = context - tokens + t
                for j in range(first_key(last, shape.window), last + 1):
                    var key = kv.unsafe_offset(pages.key(j))
                    scratch[unsafe_offset=t * context + j] = scale * dot[D, 1](
                        query, key
                    )
            for t in range(tokens):
                var last = context - tokens + t
                softmax(
                    scratch.as_unsafe_any_origin().unsafe_offset(t * context),
                    first_key(last, shape.window),
                    last,
                )
            for t in range(tokens):
                var last = context - tokens + t
                weighted_values[D](
                    o.unsafe_offset(((start + t) * shape.heads + h) * D),
                    scratch.as_unsafe_any_origin().unsafe_offset(t * context),
                    kv,
                    pages,
                    first_key(last, shape.window),
                    last,
                )
        scratch.unsafe_free()


def softmax(s: Ptr[DType.float32], first: Int, last: Int):
    """Makes scores first to last (included) of s probabilities."""
    var greatest = Float32.MIN
    for j in range(first, last + 1):
        greatest = max(greatest, s[unsafe_offset=j])
    var total = Float32(0)
    for j in range(first, last + 1):
        s[unsafe_offset=j] = exp(s[unsafe_offset=j] - greatest)
        total += s[unsafe_offset=j]
    for j in range(first, last + 1):
        s[unsafe_offset=j] /= total


def weighted_values[
    D: Int, dtype: DType
](
    o: Ptr[dtype],
    p: Ptr[DType.float32],
    kv: Ptr[dtype],
    pages: Pages,
    first: Int,
    last: Int,
):
    """Writes o [D], the values of keys first to last (included) weighted by p.
    """
    for d in range(D):
        var total = Float32(0)
        for j in range(first, last + 1):
            var at = pages.key(j) + pages.value + d
            total += (
                p[unsafe_offset=j] * kv[unsafe_offset=at].cast[DType.float32]()
            )
        o[unsafe_offset=d] = total.cast[dtype]()
