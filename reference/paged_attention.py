"""Attention over a paged key/value cache, by gathering each request's pages into one dense context.

The cache of a layer is one buffer of pages, [pages, 2, KH, PS, D] (0 holds keys, 1 values). A request owns pages in any
order; its page table names them in the order of its tokens: token p lies in page table[p // PS] at offset p % PS.
The batch is ragged: the new tokens of all requests stand one after another (docs/architecture.md).
Source: Kwon et al., "Efficient Memory Management for Large Language Model Serving with PagedAttention",
arXiv:2309.06180.
"""

import numpy as np

from reference.arrays import FloatArray, IntArray
from reference.attention import attention


def write_pages(kv: FloatArray, k: FloatArray, v: FloatArray, slots: IntArray) -> None:
    """Write the new keys and values into their places, in the buffer itself.

    Args:
        kv: [pages, 2, KH, PS, D], changed in place.
        k, v: [T, KH, D].
        slots: [T]: page * PS + offset of each token; -1 writes nothing (padding).
    """
    page_size = kv.shape[3]
    kept = slots >= 0
    pages, offsets = np.divmod(slots[kept], page_size)
    kv[pages, 0, :, offsets] = k[kept]
    kv[pages, 1, :, offsets] = v[kept]


def gather_pages(kv: FloatArray, page_table: IntArray, context_length: int) -> tuple[FloatArray, FloatArray]:
    """Copy one request's keys and values out of its pages.

    Args:
        kv: [pages, 2, KH, PS, D].
        page_table: The request's pages in order, [P]; entries beyond its context are not read.
        context_length: S.

    Returns:
        Keys and values, [S, KH, D] each.
    """
    _, _, kv_heads, page_size, head_dim = kv.shape
    used = kv[page_table[: -(-context_length // page_size)]]  # [used pages, 2, KH, PS, D]
    dense = used.transpose(1, 0, 3, 2, 4).reshape(2, -1, kv_heads, head_dim)
    return dense[0, :context_length], dense[1, :context_length]


def paged_attention(
    q: FloatArray,
    kv: FloatArray,
    row_offsets: IntArray,
    context_lengths: IntArray,
    page_table: IntArray,
    scale: float | None = None,
    window: int = 0,
) -> FloatArray:
    """Attention of every request's new tokens over its own context.

    Args:
        q: Queries of the new tokens of all requests, [T, H, D].
        kv: [pages, 2, KH, PS, D], in which the new tokens' keys and values already stand.
        row_offsets: [B + 1]: request b owns tokens row_offsets[b] to row_offsets[b + 1].
        context_lengths: [B], the new tokens included.
        page_table: [B, P].
        scale, window: As in `reference.attention.attention`.

    Returns:
        [T, H, D]; zeros for tokens that no request owns (padding).
    """
    out = np.zeros_like(q)
    for request, context_length in enumerate(context_lengths):
        rows = slice(row_offsets[request], row_offsets[request + 1])
        if rows.start == rows.stop:
            continue
        k, v = gather_pages(kv, page_table[request], context_length)
        out[rows] = attention(q[rows], k, v, scale, window)
    return out
