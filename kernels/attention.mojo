"""Attention over a paged KV cache: causal, grouped queries, ragged, with an optional sliding window.

    token t of request b at position i = context_lengths[b] - (row_offsets[b+1] - row_offsets[b]) + (t - row_offsets[b])
    o[t, h] = sum_j p_j v_j,   p = softmax_j(scale * q[t, h] . k_j),   max(0, i - window + 1) <= j <= i
    (window 0: from 0); key and value heads are h * KH / H; key j is row j % PS of page page_table[b, j / PS]

The softmax is online (Milakov and Gimelshein 2018, arXiv:1805.02867; Dao et al. 2022, arXiv:2205.14135): with m the
greatest score so far, l the sum of exp(s - m) and a the weighted sum of values, a block of keys with greatest score m'
rescales l and a by exp(m - max(m, m')). One pass, no row of scores in memory.

CPU: `attention_cpu.mojo`. GPU: `attention_gpu.mojo`.
"""

from .common import Ptr


@fieldwise_init
struct AttentionShape(ImplicitlyCopyable, TrivialRegisterPassable):
    """Sizes that every attention kernel needs."""

    var tokens: Int
    """T, tokens of all requests in this step."""
    var requests: Int
    """B."""
    var heads: Int
    """H, query heads."""
    var kv_heads: Int
    """KH, key/value heads."""
    var page_size: Int
    """PS, tokens in a page."""
    var table_width: Int
    """P, entries of the page table for one request."""
    var window: Int
    """Keys that a query sees, its own included; 0 is all."""
