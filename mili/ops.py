"""The engine's operations: one typed function for each op that `kernels/ops.mojo` registers.

Every function stages one node in the current `max.graph.Graph`, on the device of its first tensor. Shapes use the
symbols of docs/architecture.md; T, B, L, P and the number of pages may be symbolic, all others must be static. The
graph needs `custom_extensions=[mili.kernel_path.kernel_path()]`. Shapes that can be checked while the graph is built
raise ValueError here; the rest is checked by the kernels when the graph runs.
"""

from typing import TypeAlias

from max.dtype import DType
from max.graph import BufferValue, DeviceRef, Dim, StaticDim, TensorType, TensorValue, ops

from mili.packing import packed_shape

Weight: TypeAlias = TensorValue
"""A matrix [N, K]: row-major on a GPU, packed on the CPU (docs/architecture.md)."""


def weight_type(n: int, k: int, dtype: DType, device: DeviceRef) -> TensorType:
    """Type of a matrix [n, k] as the kernels of `device` read it: packed on the CPU, row-major on a GPU.

    Raises ValueError for a dtype that the CPU kernels do not have (float16).
    """
    shape = packed_shape(n, k, dtype.name) if device.is_cpu() else (n, k)
    return TensorType(dtype, shape, device)


def resolve_tokens(tokens: TensorValue, drawn: TensorValue) -> TensorValue:
    """Token ids of a step: tokens [T] int32, where -1 - j stands for row j of drawn [R] int32 -> ids [T] int32.

    A row that `drawn` does not have gives -1.
    """
    return ops.custom("mili_resolve_tokens", tokens.device, [tokens, drawn], [tokens.type])[0].tensor


def embedding(tokens: TensorValue, table: Weight, width: int | Dim) -> TensorValue:
    """Rows of the embedding table: tokens [T] int32, table [V, E] (packed on the CPU), width E -> [T, E].

    A token outside the table gives a row of zeros.
    """
    out = TensorType(table.dtype, [tokens.shape[0], width], table.device)
    return ops.custom("mili_embedding", table.device, [tokens, table], [out])[0].tensor


def gather_rows(x: TensorValue, rows: TensorValue) -> TensorValue:
    """Rows of x [T, E] at the indices rows [L] int32 -> [L, E]."""
    out = TensorType(x.dtype, [rows.shape[0], x.shape[1]], x.device)
    return ops.custom("mili_gather_rows", x.device, [x, rows], [out])[0].tensor


def rms_norm(x: TensorValue, weight: TensorValue, eps: float) -> TensorValue:
    """RMSNorm of x [T, E] with weight [E] -> [T, E]; float32 inside, rounded once (arXiv:1910.07467)."""
    return ops.custom("mili_rms_norm", x.device, [x, weight, _host(eps)], [x.type])[0].tensor


def add_rms_norm(
    x: TensorValue, residual: TensorValue, weight: TensorValue, eps: float
) -> tuple[TensorValue, TensorValue]:
    """Residual add, then RMSNorm: x, residual [T, E], weight [E] -> (RMSNorm(residual + x), residual + x)."""
    values = [x, residual, weight, _host(eps)]
    y, total = ops.custom("mili_add_rms_norm", x.device, values, [x.type, x.type])
    return y.tensor, total.tensor


def linear(x: TensorValue, w: Weight, n: int | Dim, out_dtype: DType | None = None) -> TensorValue:
    """Product x [M, K] @ w.T -> [M, n]; w is [n, K] (packed on the CPU), out_dtype is x's or float32.

    `n` is given because a packed matrix knows its rows only to the next multiple of 16. Sums are float32.
    """
    kind = x.dtype if out_dtype is None else out_dtype
    if kind not in (x.dtype, DType.float32):
        raise ValueError(f"linear: out_dtype is {kind}; it must be {x.dtype} or float32")
    out = TensorType(kind, [x.shape[0], n], x.device)
    # On a GPU only the kernels are compiled that a matrix of this size needs.
    known = {"n": 0, "k": 0}
    if x.device.is_gpu() and isinstance(out.shape[1], StaticDim) and isinstance(x.shape[1], StaticDim):
        known = {"n": int(out.shape[1]), "k": int(x.shape[1])}
    return ops.custom("mili_linear", x.device, [x, w], [out], known)[0].tensor


def qk_norm_rope_write(
    qkv: TensorValue,
    q_weight: TensorValue | None,
    k_weight: TensorValue | None,
    eps: float,
    cos_sin: TensorValue,
    positions: TensorValue,
    slots: TensorValue,
    kv: BufferValue,
) -> TensorValue:
    """Splits qkv, normalises and rotates queries and keys, writes keys and values into the cache -> q [T, H, D].

    qkv [T, (H + 2 KH) D]; q_weight, k_weight [D], or None both for no norm; cos_sin [positions, D] float32 (D/2
    cosines, then D/2 sines); positions, slots [T] int32 (slot -1 writes nothing); kv [pages, 2, KH, PS, D], changed
    in place. H follows from the shapes.
    """
    if (q_weight is None) != (k_weight is None):
        raise ValueError("qk_norm_rope_write: give both q_weight and k_weight, or neither")
    kv_heads, head_dim = _static(kv.shape[2], "kv heads"), _static(kv.shape[4], "head dimension")
    columns = _static(qkv.shape[1], "columns of qkv")
    heads = columns // head_dim - 2 * kv_heads
    if head_dim % 2 or heads < 1 or columns != (heads + 2 * kv_heads) * head_dim:
        raise ValueError(
            f"qk_norm_rope_write: qkv has {columns} columns, the cache {kv_heads} heads of {head_dim}; "
            "columns must be (H + 2 KH) * D with H >= 1 and D even"
        )
    norm = q_weight is not None
    # Without a norm the kernel reads no weights, but the op has one signature: any [D] tensor of the dtype will do.
    unused = ops.constant(0, qkv.dtype, qkv.device).broadcast_to([head_dim]) if not norm else None
    return ops.inplace_custom(
        "mili_qk_norm_rope_write",
        qkv.device,
        [
            qkv,
            unused if q_weight is None else q_weight,
            unused if k_weight is None else k_weight,
            _host(eps),
            cos_sin,
            positions,
            slots,
            kv,
        ],
        [TensorType(qkv.dtype, [qkv.shape[0], heads, head_dim], qkv.device)],
        {"head_dim": head_dim, "norm": norm},
    )[0].tensor


def attention(
    q: TensorValue,
    kv: BufferValue,
    row_offsets: TensorValue,
    context_lengths: TensorValue,
    page_table: TensorValue,
    scale: float,
    window: int = 0,
) -> TensorValue:
    """Causal grouped-query attention over the paged cache: q [T, H, D] -> [T, H D] (arXiv:2205.14135, 2309.06180).

    kv [pages, 2, KH, PS, D] holds the new tokens already; row_offsets [B + 1], context_lengths [B] and page_table
    [B, P] int32; scale multiplies the scores (usually 1/sqrt(D)); a query sees `window` keys, its own included, or
    all of them when window is 0. Scores and sums are float32.
    """
    heads, head_dim = _static(q.shape[1], "heads"), _static(q.shape[2], "head dimension")
    kv_heads, page_size = _static(kv.shape[2], "kv heads"), _static(kv.shape[3], "page size")
    if heads % kv_heads:
        raise ValueError(f"attention: {heads} query heads; it must be a multiple of the {kv_heads} kv heads")
    if page_size not in (8, 16, 32, 64, 128):
        raise ValueError(f"attention: page size is {page_size}; it must be a power of two from 8 to 128")
    if window < 0:
        raise ValueError(f"attention: window is {window}; it must be 0 (no window) or more")
    return ops.inplace_custom(
        "mili_attention",
        q.device,
        [q, kv, row_offsets, context_lengths, page_table, _host(scale), _host(window)],
        [TensorType(q.dtype, [q.shape[0], heads * head_dim], q.device)],
        {"head_dim": head_dim},
    )[0].tensor


def swiglu(gate_up: TensorValue) -> TensorValue:
    """The feed-forward gate: gate_up [T, 2 I] -> silu(gate) * up [T, I] (arXiv:2002.05202)."""
    columns = gate_up.shape[1]
    if isinstance(columns, StaticDim) and int(columns) % 2:
        raise ValueError(f"swiglu: gate_up has {columns} columns; it must be two halves of equal width")
    out = TensorType(gate_up.dtype, [gate_up.shape[0], columns // 2], gate_up.device)
    return ops.custom("mili_swiglu", gate_up.device, [gate_up], [out])[0].tensor


def argmax(logits: TensorValue) -> TensorValue:
    """Index of the greatest of each row: logits [L, V] float32 -> [L] int32, the lowest index among equals."""
    out = TensorType(DType.int32, [logits.shape[0]], logits.device)
    return ops.custom("mili_argmax", logits.device, [logits], [out])[0].tensor


def sample(logits: TensorValue, fields: TensorValue) -> TensorValue:
    """A token of each row: logits [L, V] and fields [L, 5] float32 -> [L] int32.

    A row's fields are temperature (0: argmax), top_k (0: all), top_p, min_p and a random number in [0, 1); filters
    apply in this order. -1 where logits are no numbers and the temperature is not 0.
    """
    out = TensorType(DType.int32, [logits.shape[0]], logits.device)
    return ops.custom("mili_sample", logits.device, [logits, fields], [out])[0].tensor


def _host(value: float) -> TensorValue:
    """A scalar that the kernels read on the host: float32, or int32 for an int."""
    dtype = DType.int32 if isinstance(value, int) else DType.float32
    return ops.constant(value, dtype, DeviceRef.CPU())


def _static(dim: Dim, what: str) -> int:
    """The value of a static dimension; ValueError when it is symbolic."""
    if not isinstance(dim, StaticDim):
        raise ValueError(f"{what} is {dim}; it must be known when the graph is built")
    return int(dim)
