"""The GPU kernels behind torch tensors: thin calls into the extension that benchmarks/gpu/gpu_ext.mojo builds."""

from __future__ import annotations

from benchmarks.gpu.extension import Extension, Tensor


class Kernels(Extension):
    """Calls of this project's kernels on device tensors."""

    def __init__(self) -> None:
        super().__init__("gpu_ext")

    def rms_norm(self, y: Tensor, x: Tensor, weight: Tensor, eps: float) -> None:
        """y = RMSNorm(x) * weight; x, y [T, E]."""
        self.call(f"rms_norm_{kind(x)}", y, x, weight, *x.shape, eps)

    def add_rms_norm(self, y: Tensor, total: Tensor, x: Tensor, residual: Tensor, weight: Tensor, eps: float) -> None:
        """total = residual + x, y = RMSNorm(total) * weight."""
        self.call(f"add_rms_norm_{kind(x)}", y, total, x, residual, weight, *x.shape, eps)

    def swiglu(self, y: Tensor, gate_up: Tensor) -> None:
        """y [T, I] = silu(gate) * up."""
        self.call(f"swiglu_{kind(y)}", y, gate_up, *y.shape)

    def gather_rows(self, y: Tensor, x: Tensor, rows: Tensor) -> None:
        """y[i] = x[rows[i]]."""
        self.call(f"gather_rows_{kind(y)}", y, x, rows, *y.shape, x.shape[0])

    def argmax(self, tokens: Tensor, logits: Tensor) -> None:
        """tokens [L] of logits [L, V] float32."""
        self.call("argmax", tokens, logits, *logits.shape)

    def sample(self, tokens: Tensor, logits: Tensor, fields: Tensor) -> None:
        """tokens [L] drawn from logits [L, V] float32 by fields [L, 5] float32."""
        self.call("sample", tokens, logits, fields, *logits.shape)

    def linear(self, y: Tensor, x: Tensor, w: Tensor, *, own: bool = False) -> None:
        """y [M, N] = x [M, K] @ w.T; `own`: by this project's kernels also where cuBLAS is installed."""
        name = f"linear_{'own_' if own else ''}{kind(x)}" + ("" if y.dtype == x.dtype else f"_{kind(y)}")
        self.call(name, y, x, w, x.shape[0], *w.shape)

    def qk_norm_rope_write(
        self, q: Tensor, qkv: Tensor, weights: tuple[Tensor, Tensor] | None, eps: float, cos_sin: Tensor,
        positions: Tensor, slots: Tensor, kv: Tensor,
    ) -> None:  # fmt: skip
        """q [T, H, D], and keys and values into kv [pages, 2, KH, PS, D]; weights None: no norm."""
        tokens, heads, dim = q.shape
        name = f"qk_norm_rope_write_{dim}_{'plain' if weights is None else 'norm'}_{kind(q)}"
        a, b = weights or (qkv, qkv)
        self.call(name, q, qkv, a, b, eps, cos_sin, positions, slots, kv, tokens, heads, kv.shape[2], kv.shape[3])

    def attention(
        self, o: Tensor, q: Tensor, kv: Tensor, offsets: Tensor, lengths: Tensor, pages: Tensor, scale: float,
        window: int = 0,
    ) -> None:  # fmt: skip
        """o [T, H, D] over the paged cache."""
        tokens, heads, dim = q.shape
        sizes = (tokens, lengths.shape[0], heads, kv.shape[2], kv.shape[3], pages.shape[1], window)
        self.call(f"attention_{dim}_{kind(q)}", o, q, kv, offsets, lengths, pages, scale, *sizes)


def kind(x: Tensor) -> str:
    """The dtype's name as the extension spells it."""
    return str(x.dtype).removeprefix("torch.")
