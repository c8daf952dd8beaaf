"""The CPU's attention without a graph: `attention` on NumPy arrays, for its tests and benchmarks."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.native import load
from benchmarks.native.linear import PATHS

Array = NDArray[Any]
HEAD_DIMS = (64, 80, 128)
"""Head dimensions that the extension is built for."""


def attention(
    q: Array,
    kv: Array,
    row_offsets: Array,
    context_lengths: Array,
    page_table: Array,
    *,
    window: int = 0,
    scale: float | None = None,
    path: str = "best",
) -> Array:
    """Returns o [T, H, D] of q [T, H, D] over kv [pages, 2, KH, PS, D]; uint16 arrays hold bfloat16 bits.

    row_offsets [B + 1], context_lengths [B] and page_table [B, P] are int32; `path` is "best" or "fma".
    """
    tokens, heads, head_dim = q.shape
    _, _, kv_heads, page_size, _ = kv.shape
    sizes = np.array([tokens, len(context_lengths), heads, kv_heads, page_size, page_table.shape[1], window], np.int64)
    o = np.empty_like(q)
    arrays = [o, q, kv, *(np.ascontiguousarray(a, np.int32) for a in (row_offsets, context_lengths, page_table))]
    load("attention_native").attention(
        (
            *(a.ctypes.data for a in arrays),
            float(head_dim**-0.5 if scale is None else scale),
            sizes.ctypes.data,
            head_dim,
            int(q.dtype == np.uint16),
            PATHS[path],
        )
    )
    return o
