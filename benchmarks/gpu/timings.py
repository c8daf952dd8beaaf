"""Timings of the GPU kernels at the shapes of Qwen3-0.6B and Qwen3-8B, beside PyTorch in the same run."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch.nn import functional
from torch.nn.attention import SDPBackend, sdpa_kernel

from benchmarks.gpu.checks import BF16, int32, randn
from benchmarks.gpu.harness import Report, Timer, copies_for
from benchmarks.gpu.kernels import Kernels, Tensor


@dataclass(frozen=True)
class Model:
    """Sizes of a model, in the symbols of docs/architecture.md."""

    name: str
    hidden: int
    intermediate: int
    heads: int
    kv_heads: int
    dim: int
    vocabulary: int

    def matrices(self) -> dict[str, tuple[int, int]]:
        """[N, K] of every product of a layer, and of the head."""
        e, i, h, kh, d = self.hidden, self.intermediate, self.heads, self.kv_heads, self.dim
        return {
            "qkv": ((h + 2 * kh) * d, e),
            "o": (e, h * d),
            "gate_up": (2 * i, e),
            "down": (e, i),
            "head": (self.vocabulary, e),
        }


MODELS = [
    Model("0.6B", 1024, 3072, 16, 8, 128, 151936),
    Model("8B", 4096, 12288, 32, 8, 128, 151936),
]


def copy_bandwidth(report: Report) -> float:
    """Bytes per second, read and written, of a copy of 1 GiB."""
    a = torch.empty(2**30, dtype=torch.uint8, device="cuda").random_()
    b = torch.empty_like(a)
    seconds = Timer(torch.cuda.Stream()).seconds(lambda _: b.copy_(a), 1, budget=0.1)
    report.timing(op="copy 1 GiB", us=seconds * 1e6, gbs=2 * a.numel() / seconds / 1e9)
    return float(2 * a.numel() / seconds)


@dataclass
class Bench:
    """What every timing needs."""

    kernels: Kernels
    report: Report
    mine: Timer
    peer: Timer
    bandwidth: float
    quick: bool

    def run(self, name: str, work: Callable[..., None], *args: object) -> None:
        """Run one timing; a failure is recorded and the run goes on."""
        self.report.attempt(name, work, *args)

    def both(
        self,
        row: dict[str, object],
        ours: Callable[[int], object],
        theirs: Callable[[int], object] | None,
        copies: int,
        moved: float,
        flops: float = 0.0,
    ) -> None:
        """Time ours and PyTorch's on `copies` rotating buffer sets; record bytes and operations per second."""
        mine = self.mine.seconds(ours, copies)
        peer = None
        if theirs is not None:
            peer = self.report.attempt(f"peer of {row}", self.peer.seconds, theirs, copies)
        self.report.timing(
            **row,
            us=mine * 1e6,
            torch_us=None if peer is None else peer * 1e6,
            speedup=None if peer is None else peer / mine,
            gbs=moved / mine / 1e9,
            of_copy=moved / mine / self.bandwidth,
            tflops=flops / mine / 1e12,
        )


def empty(*shape: int, dtype: torch.dtype = BF16) -> Tensor:
    """An uninitialised tensor on the GPU."""
    return torch.empty(*shape, dtype=dtype, device="cuda")


def linear(bench: Bench) -> None:
    """All products of both models at 1 to 4096 rows."""
    counts = [1, 8, 32, 128, 2048] if bench.quick else [1, 2, 4, 8, 16, 32, 64, 128, 256, 1024, 4096]
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


def rowwise(bench: Bench) -> None:
    """Norms, SwiGLU, RoPE and argmax."""
    for model in MODELS:
        for rows in (1, 64, 4096) if bench.quick else (1, 64, 256, 4096, 16384):
            for work in (norms, swiglu, rope):
                bench.run(f"{work.__name__} {model.name} {rows}", work, bench, model, rows)
    for rows in (1, 16, 256):
        bench.run(f"argmax {rows}", argmax, bench, rows)


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
        lambda i: functional.rms_norm(x[i], (e,), w, 1e-6),
        copies,
        rows * e * 4.0,
    )
    bench.both(
        {"op": "add_rms_norm", **base},
        lambda i: k.add_rms_norm(y[i], z[i], x[i], r[i], w, 1e-6),
        lambda i: functional.rms_norm(x[i] + r[i], (e,), w, 1e-6),
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
        lambda i: functional.silu(x[i][:, :width]) * x[i][:, width:],
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
        None,
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


def decode(bench: Bench) -> None:
    """Attention of one new token a request."""
    for model in MODELS:
        for batch in (1, 16, 128) if bench.quick else (1, 8, 32, 64, 128, 256):
            for context in (512, 2048, 8192):
                if batch * context * model.kv_heads * model.dim * 4 < 20e9:
                    bench.run(f"decode {model.name} {batch} {context}", one_decode, bench, model, batch, context)


def one_decode(bench: Bench, model: Model, batch: int, context: int) -> None:
    """One batch at one context length on shuffled pages of 16; the peer reads a dense cache of the same size."""
    kv_heads, d, page_size = model.kv_heads, model.dim, 16
    each = batch * context * kv_heads * d * 4
    count = -(-context // page_size)
    table = torch.randperm(batch * count, device="cuda", dtype=torch.int32).view(batch, count).contiguous()
    offsets = torch.arange(batch + 1, device="cuda", dtype=torch.int32)
    lengths = int32([context] * batch)
    copies = copies_for(each, 12)
    kv = [empty(batch * count, 2, kv_heads, page_size, d).normal_() for _ in range(copies)]
    q = randn(batch, model.heads, d)
    o = torch.empty_like(q)
    theirs = None
    if each < 3e9:
        dense = [randn(2, batch, kv_heads, context, d) for _ in range(copies)]

        def theirs(i: int) -> None:
            functional.scaled_dot_product_attention(q[:, :, None], dense[i][0], dense[i][1], enable_gqa=True)

    row: dict[str, object] = {"op": "decode", "model": model.name, "batch": batch, "context": context}
    bench.both(
        row,
        lambda i: bench.kernels.attention(o, q, kv[i], offsets, lengths, table, d**-0.5),
        theirs,
        copies,
        float(each),
    )


def prefill(bench: Bench) -> None:
    """Attention of one whole prompt."""
    for model in MODELS:
        for tokens in (2048, 8192) if bench.quick else (1024, 2048, 4096, 8192, 16384):
            bench.run(f"prefill {model.name} {tokens}", one_prefill, bench, model, tokens)


def one_prefill(bench: Bench, model: Model, tokens: int) -> None:
    """One prompt, causal; the peer is the fastest of PyTorch's backends on dense tensors with repeated heads."""
    heads, d = model.heads, model.dim
    count = -(-tokens // 16)
    table = torch.randperm(count, device="cuda", dtype=torch.int32).view(1, count).contiguous()
    offsets, lengths = int32([0, tokens]), int32([tokens])
    kv = empty(count, 2, model.kv_heads, 16, d).normal_()
    q = randn(tokens, heads, d)
    o = torch.empty_like(q)
    flops = 2.0 * tokens * tokens * heads * d
    mine = bench.mine.seconds(lambda _: bench.kernels.attention(o, q, kv, offsets, lengths, table, d**-0.5), 1)
    dense = [randn(1, heads, tokens, d) for _ in range(3)]
    peers: dict[str, float] = {}
    for backend in (SDPBackend.CUDNN_ATTENTION, SDPBackend.FLASH_ATTENTION):
        seconds = bench.report.attempt(f"prefill {tokens} {backend.name}", sdpa_seconds, bench, backend, dense)
        if seconds:
            peers[backend.name] = seconds
    best = min(peers, key=lambda name: peers[name], default=None)
    bench.report.timing(
        op="prefill",
        model=model.name,
        tokens=tokens,
        us=mine * 1e6,
        tflops=flops / mine / 1e12,
        torch_us=peers[best] * 1e6 if best else None,
        torch_tflops=flops / peers[best] / 1e12 if best else None,
        speedup=peers[best] / mine if best else None,
        backend=best,
    )


def sdpa_seconds(bench: Bench, backend: SDPBackend, dense: list[Tensor]) -> float:
    """PyTorch's causal attention with one backend."""

    def work(_: int) -> None:
        with sdpa_kernel(backend):
            functional.scaled_dot_product_attention(dense[0], dense[1], dense[2], is_causal=True)

    return bench.peer.seconds(work, 1)


ALL: dict[str, Callable[[Bench], None]] = {"linear": linear, "rowwise": rowwise, "decode": decode, "prefill": prefill}
