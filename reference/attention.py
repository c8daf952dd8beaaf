"""Causal attention with grouped queries, an optional sliding window, and query/key norm with RoPE before it.

    scores[h, t, s] = scale * q[t, h] . k[s, h // (H / KH)]      for the keys s that token t may see
    o[t, h]         = sum_s softmax_s(scores[h, t]) * v[s, h // (H / KH)]

Grouped queries: H / KH query heads share one key/value head, so that the cache is that many times smaller.
Sources: Vaswani et al., arXiv:1706.03762; Ainslie et al. (grouped queries), arXiv:2305.13245; Qwen3, arXiv:2505.09388.
"""

import numpy as np

from reference.arrays import FloatArray, IntArray
from reference.rms_norm import rms_norm
from reference.rope import apply_rope
from reference.softmax import softmax


def visible(queries: int, context: int, window: int = 0) -> np.ndarray[tuple[int, int], np.dtype[np.bool_]]:
    """Which keys each query may see, when the queries are the last tokens of the context.

    A token sees itself and what stands before it; with a window, only the last `window` of these, itself included.

    Args:
        queries: T, the new tokens.
        context: S, all tokens, the new ones included.
        window: Width of the sliding window; 0 for none.

    Returns:
        [T, S] of bool.
    """
    query_positions = np.arange(context - queries, context)[:, None]
    key_positions = np.arange(context)[None, :]
    mask = key_positions <= query_positions
    if window:
        mask &= key_positions > query_positions - window
    return mask


def attention(q: FloatArray, k: FloatArray, v: FloatArray, scale: float | None = None, window: int = 0) -> FloatArray:
    """Attention of the last T tokens of a context over all of it.

    Args:
        q: Queries of the new tokens, [T, H, D].
        k, v: Keys and values of the whole context, [S, KH, D]; the last T are the new tokens' own.
        scale: What scores are multiplied with; 1 / sqrt(D) if None.
        window: Width of the sliding window; 0 for none.

    Returns:
        [T, H, D].
    """
    queries, heads, head_dim = q.shape
    context, kv_heads, _ = k.shape
    group = heads // kv_heads
    k = np.repeat(k, group, axis=1)  # [S, H, D]: query head h reads key/value head h // group
    v = np.repeat(v, group, axis=1)
    scores = np.einsum("thd,shd->hts", q, k, optimize=True) * q.dtype.type(head_dim**-0.5 if scale is None else scale)
    scores = np.where(visible(queries, context, window), scores, -np.inf).astype(q.dtype)
    out: FloatArray = np.einsum("hts,shd->thd", softmax(scores), v, optimize=True)
    return out


def qk_norm_rope(
    qkv: FloatArray,
    kv_heads: int,
    head_dim: int,
    cos_sin: FloatArray,
    positions: IntArray,
    q_weight: FloatArray | None = None,
    k_weight: FloatArray | None = None,
    eps: float = 1e-6,
) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Split the joint projection into heads, normalise queries and keys (Qwen3), and turn both by RoPE.

    Args:
        qkv: [T, (H + 2 KH) D]: all query heads, then all key heads, then all value heads.
        kv_heads, head_dim: KH and D.
        cos_sin: [positions, D], from `reference.rope.cos_sin_table`.
        positions: [T].
        q_weight, k_weight: RMSNorm weights over one head, [D]; None for models without the norm (Llama).
        eps: Of these norms.

    Returns:
        q [T, H, D], k [T, KH, D] and v [T, KH, D].
    """
    heads = qkv.reshape(len(qkv), -1, head_dim)
    q, k, v = np.split(heads, [-2 * kv_heads, -kv_heads], axis=1)
    if q_weight is not None:
        q = rms_norm(q, q_weight, eps)
    if k_weight is not None:
        k = rms_norm(k, k_weight, eps)
    return apply_rope(q, cos_sin, positions), apply_rope(k, cos_sin, positions), v
