"""The steps of every CPU kernel's ladder without a graph, on NumPy arrays, for their tests and benchmarks.

Matrices are bfloat16 bits in uint16, logits float32. A step that does not exist raises the extension's error.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.native import load

Array = NDArray[Any]

STEPS: dict[str, dict[str, str]] = {
    "rms_norm": {
        "naive": "the definition, two passes",
        "vector": "16 lanes",
        "fused": "add and norm row by row",
        "cores": "all cores: the engine's",
    },
    "swiglu": {
        "passes": "a pass an operation",
        "fused": "one pass",
        "vector": "16 lanes, exp included",
        "cores": "all cores: the engine's",
    },
    "rope": {
        "naive": "cos and sin for each pair",
        "table": "a table of cos and sin",
        "fused": "one pass, 16 lanes",
        "cores": "all cores: the engine's",
    },
    "argmax": {
        "naive": "the definition",
        "two_pass": "16 lanes: maximum, then where",
        "vector": "one pass: lanes carry indices",
        "cores": "`vector` on all cores: the engine's",
    },
    "sample": {
        "sort": "sort the vocabulary",
        "count": "bisection, 16 lanes",
        "blocks": "only blocks that matter",
        "cores": "all cores: the engine's",
    },
    "prefill": {
        "naive": "all scores in memory",
        "online": "online softmax",
        "tiled": "keys shared by 16 rows",
        "vector": "16 lanes",
        "cores": "all cores",
        "packed": "packed keys, dot products: the engine's",
    },
    "decode": {
        "naive": "all scores in memory",
        "online": "online softmax",
        "rows": "16 lanes",
        "grouped": "heads share a read",
        "split": "spans on all cores",
        "packed": "packed keys, dot products: the engine's",
    },
}
"""For each kernel the steps in their order, and what each adds to the one before."""


@dataclass(frozen=True, slots=True)
class Rope:
    """The cache and the angles that the rope steps take: `naive` takes theta, the others the table."""

    cos_sin: Array
    positions: Array
    slots: Array
    kv: Array
    theta: float


def bound(kernel: str, step: str, *arguments: Any) -> Callable[[], None]:
    """One step of a row-wise kernel with its arguments given: a call costs little more than the kernel."""
    given = tuple(a.ctypes.data if isinstance(a, np.ndarray) else a for a in arguments)
    function = getattr(load("row_steps_native"), kernel)
    keep = arguments  # the arrays, whose addresses were taken

    def call() -> None:
        assert keep
        function(step, given)

    return call


def add_rms_norm(step: str, x: Array, residual: Array, weight: Array, eps: float) -> tuple[Array, Array]:
    """Returns y and residual + x, [T, E] each, of x, residual [T, E] and weight [E]."""
    y, total = np.empty_like(x), np.empty_like(x)
    bound("rms_norm", step, y, total, x, residual, weight, *x.shape, eps)()
    return y, total


def swiglu(step: str, gate_up: Array) -> Array:
    """Returns y [T, I] of gate_up [T, 2 I]."""
    rows, width = gate_up.shape
    y = np.empty((rows, width // 2), gate_up.dtype)
    bound("swiglu", step, y, gate_up, rows, width // 2)()
    return y


def argmax(step: str, logits: Array) -> NDArray[np.int32]:
    """Returns tokens [L] of logits [L, V]."""
    tokens = np.empty(len(logits), np.int32)
    bound("argmax", step, tokens, logits, *logits.shape)()
    return tokens


def sample(step: str, logits: Array, fields: Array) -> NDArray[np.int32]:
    """Returns tokens [L] of logits [L, V] and fields [L, 5] float32: temperature, top_k, top_p, min_p, random."""
    tokens = np.empty(len(logits), np.int32)
    bound("sample", step, tokens, logits, fields, *logits.shape)()
    return tokens


def bound_rope(
    step: str, q: Array, qkv: Array, q_weight: Array | None, k_weight: Array | None, eps: float, into: Rope
) -> Callable[[], None]:
    """As `qk_norm_rope_write` with its arguments given, into q [T, H, D]."""
    tokens, heads, head_dim = q.shape
    _, _, kv_heads, page_size, _ = into.kv.shape
    a, b = (qkv, qkv) if q_weight is None or k_weight is None else (q_weight, k_weight)
    given = (q, qkv, a, b, eps, into.cos_sin, into.positions, into.slots, into.kv)
    sizes = (tokens, heads, kv_heads, page_size, into.theta, head_dim, int(q_weight is not None))
    return bound("rope", step, *given, *sizes)


def qk_norm_rope_write(
    step: str, qkv: Array, heads: int, q_weight: Array | None, k_weight: Array | None, eps: float, into: Rope
) -> Array:
    """Returns q [T, H, D] of qkv [T, (H + 2 KH) D], and writes keys and values into `into.kv` [pages, 2, KH, PS, D]."""
    q = np.empty((len(qkv), heads, into.kv.shape[-1]), qkv.dtype)
    bound_rope(step, q, qkv, q_weight, k_weight, eps, into)()
    return q


def attention(
    step: str,
    q: Array,
    kv: Array,
    row_offsets: Array,
    context_lengths: Array,
    page_table: Array,
    *,
    scale: float,
    window: int = 0,
) -> Array:
    """Returns o [T, H, D] of q [T, H, D] over kv [pages, 2, KH, PS, D]; the other arrays are int32."""
    tokens, heads, head_dim = q.shape
    _, _, kv_heads, page_size, _ = kv.shape
    sizes = np.array([tokens, len(context_lengths), heads, kv_heads, page_size, page_table.shape[1], window], np.int64)
    o = np.empty_like(q)
    arrays = (o, q, kv, row_offsets, context_lengths, page_table)
    addresses = tuple(a.ctypes.data for a in arrays)
    load("attention_steps_native").attention(step, (*addresses, float(scale), sizes.ctypes.data, head_dim))
    return o
