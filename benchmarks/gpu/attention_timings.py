"""Timings of decode and prefill attention on a GPU, beside PyTorch in the same run."""

from __future__ import annotations

import torch
from torch.nn import functional
from torch.nn.attention import SDPBackend, sdpa_kernel

from benchmarks.gpu.bench import MODELS, Bench, Model, empty
from benchmarks.gpu.extension import Tensor
from benchmarks.gpu.harness import copies_for, int32, randn


def decode(bench: Bench) -> None:
    """Attention of one new token a request."""
    for model in MODELS:
        for batch in (1, 16, 128) if bench.quick else (1, 8, 32, 64, 128, 256):
            for context in (512, 2048, 8192):
                if batch * context * model.kv_heads * model.dim * 4 < 20e9:
                    bench.run(f"decode {model.name} {batch} {context}", one_decode, bench, model, [context] * batch)
    # Requests that came at different times, as in the engine: the even spread of 100 to 2,000 tokens.
    for batch in (16, 64, 256):
        contexts = [100 + 1900 * i // (batch - 1) for i in range(batch)]
        bench.run(f"decode of different lengths, {batch}", one_decode, bench, MODELS[0], contexts)


def one_decode(bench: Bench, model: Model, contexts: list[int]) -> None:
    """One batch on shuffled pages of 16.

    If all are of one length there are two peers: PyTorch's attention over keys and values in one piece, and what
    `torch.compile` makes of attention over the same pages.
    """
    kv_heads, d, page_size = model.kv_heads, model.dim, 16
    batch, context = len(contexts), max(contexts)
    each = sum(contexts) * kv_heads * d * 4
    count = -(-context // page_size)
    table = torch.randperm(batch * count, device="cuda", dtype=torch.int32).view(batch, count).contiguous()
    offsets = torch.arange(batch + 1, device="cuda", dtype=torch.int32)
    lengths = int32(contexts)
    copies = copies_for(each, 12)
    kv = [empty(batch * count, 2, kv_heads, page_size, d).normal_() for _ in range(copies)]
    q = randn(batch, model.heads, d)
    o = torch.empty_like(q)
    theirs = None
    if each < 3e9 and min(contexts) == context:
        dense = [randn(2, batch, kv_heads, context, d) for _ in range(copies)]

        def theirs(i: int) -> None:
            functional.scaled_dot_product_attention(q[:, :, None], dense[i][0], dense[i][1], enable_gqa=True)

    row: dict[str, object] = {"op": "decode", "model": model.name, "batch": batch, "context": context}
    if theirs is not None:
        compiled = bench.report.attempt(
            f"compiled {row}", bench.peer.seconds, lambda i: compiled_decode(q, kv[i], table), copies
        )
        row["compiled_us"] = compiled and compiled * 1e6
    if min(contexts) < context:
        row |= {"op": "decode_ragged", "context": f"{min(contexts)}-{context}"}
    bench.both(
        row,
        lambda i: bench.kernels.attention(o, q, kv[i], offsets, lengths, table, d**-0.5),
        theirs,
        copies,
        float(each),
    )


def decode_of_pages(q: Tensor, kv: Tensor, table: Tensor) -> Tensor:
    """Attention of q [B, H, D] over whole pages: kv [pages, 2, KH, PS, D] at table [B, P] -> [B, H, 1, D]."""
    keys, values = kv[table.long()].permute(2, 0, 3, 1, 4, 5).flatten(3, 4)
    return functional.scaled_dot_product_attention(q[:, :, None], keys, values, enable_gqa=True)


compiled_decode = torch.compile(decode_of_pages)


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
