"""Timings of the GPU kernels at the shapes of Qwen3-0.6B and Qwen3-8B, beside PyTorch in the same run."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch.nn import functional

from benchmarks.gpu.attention_timings import decode, prefill
from benchmarks.gpu.bench import MODELS, Bench, Model, empty
from benchmarks.gpu.extension import Tensor
from benchmarks.gpu.harness import copies_for, randn


def linear(bench: Bench) -> None:
    """All products of both models at 1 to 8192 rows."""
    counts = [1, 8, 32, 128, 2048] if bench.quick else [1, 2, 4, 8, 16, 32, 64, 128, 256, 1024, 4096, 8192]
    for model in MODELS:
        for name, (n, depth) in model.matrices().items():
            copies = copies_for(n * depth * 2, 40)
            ws = [randn(n, depth, scale=0.02) for _ in range(copies)]
            for m in counts:
                if name != "head" or m <= 256:
                    bench.run(f"linear {model.name} {name} {m}", one_linear, bench, model.name, name, m, ws)


def one_linear(bench: Bench, model: str, name: str, m: int, ws: list[Tensor]) -> None:
    """One product at one row count, rotating over weights that do not fit in the cache."""
    n, depth = ws[0].shape
    count = len(ws) if m < 256 else 1
    xs, ys = [randn(m, depth) for _ in range(count)], [empty(m, n) for _ in range(count)]

    def ours(i: int) -> None:
        bench.kernels.linear(ys[i % count], xs[i % count], ws[i])

    def theirs(i: int) -> None:
        torch.mm(xs[i % count], ws[i].T, out=ys[i % count])

    def own(i: int) -> None:
        bench.kernels.linear(ys[i % count], xs[i % count], ws[i], own=True)

    moved = 2.0 * (n * depth + m * depth + m * n)
    own_us = bench.mine.seconds(own, len(ws)) * 1e6 if m > 16 else None
    row: dict[str, object] = {"op": "linear", "model": model, "what": name, "rows": m, "own_us": own_us}
    bench.both(row, ours, theirs, len(ws), moved, 2.0 * m * n * depth)


def compiled(work: Callable[..., object]) -> Callable[..., object]:
    """`torch.compile` for each size by itself, which is its fastest."""
    torch._dynamo.config.recompile_limit = 64
    result: Callable[..., object] = torch.compile(work, dynamic=False)
    return result


def rms_norm_of(x: Tensor, w: Tensor) -> Tensor:
    """RMSNorm of rows x [T, E]."""
    return functional.rms_norm(x, (x.shape[-1],), w, 1e-6)


# Peers write where they are told to, like ours: memory that PyTorch hands out again and again stays in the L2 cache.
def rms_norm_into(y: Tensor, x: Tensor, w: Tensor) -> None:
    """y = RMSNorm of rows x [T, E]."""
    y.copy_(rms_norm_of(x, w))


def add_rms_norm_into(y: Tensor, total: Tensor, x: Tensor, r: Tensor, w: Tensor) -> None:
    """The sum of x and r [T, E], and y, its RMSNorm."""
    total.copy_(x + r)
    y.copy_(rms_norm_of(total, w))


def swiglu_into(y: Tensor, x: Tensor) -> None:
    """y = silu of the first half of each row [T, 2 I], times the second."""
    gate, up = x.chunk(2, -1)
    y.copy_(functional.silu(gate) * up)


def rope_into(
    out: Tensor,
    qkv: Tensor,
    weights: tuple[Tensor, Tensor],
    cos_sin: Tensor,
    positions: Tensor,
    slots: Tensor,
    kv: Tensor,
) -> None:
    """Query/key norm, rotation and the write of keys and values into pages: out [T, H, D] of qkv [T, (H + 2 KH) D]."""
    kv_heads, page_size, d = kv.shape[2:]
    q, k, v = qkv.view(len(qkv), -1, d).split([qkv.shape[1] // d - 2 * kv_heads, kv_heads, kv_heads], 1)
    cos, sin = cos_sin[positions][:, None].chunk(2, -1)
    turned = []
    for x, w in ((q, weights[0]), (k, weights[1])):
        a, b = rms_norm_of(x, w).float().chunk(2, -1)
        turned.append(torch.cat([a * cos - b * sin, b * cos + a * sin], -1).to(qkv.dtype))
    kv[slots // page_size, 0, :, slots % page_size] = turned[1]
    kv[slots // page_size, 1, :, slots % page_size] = v
    out.copy_(turned[0])


compiled_rms_norm, compiled_add_rms_norm = compiled(rms_norm_into), compiled(add_rms_norm_into)
compiled_swiglu, compiled_rope = compiled(swiglu_into), compiled(rope_into)


def rowwise(bench: Bench) -> None:
    """Norms, SwiGLU, RoPE, argmax and sampling."""
    for model in MODELS:
        for rows in (1, 64, 4096) if bench.quick else (1, 64, 256, 4096, 16384):
            for work in (norms, swiglu, rope):
                bench.run(f"{work.__name__} {model.name} {rows}", work, bench, model, rows)
    for rows in (1, 16, 256):
        bench.run(f"argmax {rows}", argmax, bench, rows)
    for rows in (1, 64, 256):
        for name in SAMPLING:
            bench.run(f"sample {name} {rows}", sample, bench, name, rows)


def norms(bench: Bench, model: Model, rows: int) -> None:
    """RMSNorm plain and fused with the residual addition."""
    e = model.hidden
    copies = copies_for(rows * e * 4, 32)
    x, r = ([randn(rows, e) for _ in range(copies)] for _ in range(2))
    y, z = ([empty(rows, e) for _ in range(copies)] for _ in range(2))
    w = randn(e)
    k = bench.kernels
    base: dict[str, object] = {"model": model.name, "rows": rows}
    bench.both(
        {"op": "rms_norm", **base},
        lambda i: k.rms_norm(y[i], x[i], w, 1e-6),
        {"compiled": lambda i: compiled_rms_norm(y[i], x[i], w)},
        copies,
        rows * e * 4.0,
    )
    bench.both(
        {"op": "add_rms_norm", **base},
        lambda i: k.add_rms_norm(y[i], z[i], x[i], r[i], w, 1e-6),
        {"compiled": lambda i: compiled_add_rms_norm(y[i], z[i], x[i], r[i], w)},
        copies,
        rows * e * 8.0,
    )


def swiglu(bench: Bench, model: Model, rows: int) -> None:
    """The gate of the feed-forward layer."""
    width = model.intermediate
    copies = copies_for(rows * width * 6, 32)
    x = [randn(rows, 2 * width) for _ in range(copies)]
    y = [empty(rows, width) for _ in range(copies)]
    bench.both(
        {"op": "swiglu", "model": model.name, "rows": rows},
        lambda i: bench.kernels.swiglu(y[i], x[i]),
        {"compiled": lambda i: compiled_swiglu(y[i], x[i])},
        copies,
        rows * width * 6.0,
    )


def rope(bench: Bench, model: Model, rows: int) -> None:
    """Query/key norm, rotation and cache write."""
    heads, kv_heads, d = model.heads, model.kv_heads, model.dim
    width = (heads + 2 * kv_heads) * d
    copies = copies_for(rows * width * 4, 16)
    qkv = [randn(rows, width) for _ in range(copies)]
    q = [empty(rows, heads, d) for _ in range(copies)]
    kv = [empty(-(-rows // 16) + 1, 2, kv_heads, 16, d) for _ in range(copies)]
    cos_sin = torch.rand(8192, d, device="cuda")
    slots = torch.arange(rows, device="cuda", dtype=torch.int32)
    positions, weights = slots % 8192, (randn(d), randn(d))
    bench.both(
        {"op": "qk_norm_rope_write", "model": model.name, "rows": rows},
        lambda i: bench.kernels.qk_norm_rope_write(q[i], qkv[i], weights, 1e-6, cos_sin, positions, slots, kv[i]),
        {"compiled": lambda i: compiled_rope(q[i], qkv[i], weights, cos_sin, positions, slots, kv[i])},
        copies,
        rows * width * 4.0,
    )


def argmax(bench: Bench, rows: int) -> None:
    """The greedy token of each row of logits."""
    vocabulary = MODELS[0].vocabulary
    copies = copies_for(rows * vocabulary * 4, 32)
    logits = [torch.randn(rows, vocabulary, device="cuda") for _ in range(copies)]
    tokens = empty(rows, dtype=torch.int32)
    bench.both(
        {"op": "argmax", "rows": rows},
        lambda i: bench.kernels.argmax(tokens, logits[i]),
        lambda i: logits[i].argmax(-1),
        copies,
        rows * vocabulary * 4.0,
    )


SAMPLING = {
    "greedy": (0.0, 0.0, 1.0, 0.0, 0.5),
    "temperature": (0.6, 0.0, 1.0, 0.0, 0.5),
    "top_k and top_p": (0.6, 20.0, 0.95, 0.0, 0.5),
    "top_p": (1.0, 0.0, 0.95, 0.0, 0.5),
}
"""Temperature, top-k, top-p, min-p and the random number of the rows that are timed."""


def sample(bench: Bench, name: str, rows: int) -> None:
    """The token of each row of logits; PyTorch by the exponential race, after `topk` if there is a filter."""
    vocabulary = MODELS[0].vocabulary
    copies = copies_for(rows * vocabulary * 4, 32)
    logits = [torch.randn(rows, vocabulary, device="cuda") * 2 for _ in range(copies)]
    fields = torch.tensor([SAMPLING[name]] * rows, device="cuda")
    fields[:, 4] = torch.rand(rows, device="cuda")
    tokens = empty(rows, dtype=torch.int32)

    def race(i: int) -> object:
        weights = torch.softmax(logits[i] / 0.6, -1)
        return weights.div_(torch.empty_like(weights).exponential_()).argmax(-1)

    def filtered(i: int) -> object:
        top, ids = torch.topk(logits[i], 20, dim=-1)  # falling
        weights = torch.softmax(top / 0.6, -1)
        weights[weights.cumsum(-1) - weights >= 0.95] = 0
        best = weights.div_(torch.empty_like(weights).exponential_()).argmax(-1, keepdim=True)
        return ids.gather(-1, best)

    bench.both(
        {"op": "sample", "what": name, "rows": rows},
        lambda i: bench.kernels.sample(tokens, logits[i], fields),
        {"temperature": race, "top_k and top_p": filtered}.get(name),
        copies,
        rows * vocabulary * 4.0,
    )


ALL: dict[str, Callable[[Bench], None]] = {"linear": linear, "rowwise": rowwise, "decode": decode, "prefill": prefill}
