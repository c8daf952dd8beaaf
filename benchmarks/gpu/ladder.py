"""The ladders of the GPU kernels, checked against PyTorch and timed: called by `benchmarks.ladder --device gpu`.

A step that fails or gives a wrong result is recorded and the others go on. Needs a GPU, PyTorch, and MAX with Mojo, or
MILI_GPU_EXT, the folder of a steps_ext.so built elsewhere (`python -m benchmarks.gpu.ladder` builds it).
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch.nn import functional

# MAX takes most of the GPU's memory unless told otherwise; PyTorch needs its share here. Read when MAX starts.
os.environ.setdefault("MODULAR_DEVICE_CONTEXT_MEMORY_MANAGER_SIZE_PERCENT", "20")

from benchmarks.gpu.extension import Extension, Tensor, build
from benchmarks.gpu.harness import BF16, Timer, copies_for, randn
from benchmarks.rungs import PEER, Rung

HEADS, KV_HEADS, DIM, PAGE = 16, 8, 128, 16
"""Attention as in Qwen3-0.6B."""

STEPS: dict[str, dict[str, str]] = {
    "linear": {
        "naive": "a thread an output",
        "warp": "a warp an output, 16-byte loads",
        "shared": "64 x 64 tiles in shared memory",
        "mma": "tensor cores",
        "async": "asynchronous copies, stages",
        "wgmma": "Hopper's warpgroup products",
        "skinny": "few rows: weights to registers",
        "stream": "few rows on Hopper: weights by the copy engine",
        "engine": "what the engine chooses",
    },
    "rms_norm": {
        "thread": "a thread a row",
        "block": "a block a row, warp reduction",
        "vector": "16-byte loads",
        "registers": "read once: the engine's",
    },
    "prefill": {
        "thread": "a thread a row",
        "block": "a block a row, online softmax",
        "tiled": "keys in shared memory for 64 rows",
        "mma": "tensor cores, asynchronous copies",
        "engine": "what the engine chooses: on Hopper warpgroup products",
    },
    "decode": {
        "thread": "a thread a head",
        "block": "a block a head, online softmax",
        "registers": "tensor cores, split context, pages to registers",
        "engine": "a cluster of blocks a head, one launch: the engine's",
    },
}
DEFAULT_ROWS = {"linear": [1, 8, 64, 128, 2048], "rms_norm": [1, 256, 8192], "prefill": [512, 2048], "decode": [1, 32]}
MOST_ROWS = {"skinny": 64, "stream": 256}
"""Steps that are made for few rows."""
BOUND = 1.6e-2
"""Relative error in norm: roundings of the output and of probabilities to bfloat16."""


@dataclass
class Case:
    """One kernel on one size: how to launch a step on buffer set i, what it writes, and what is right."""

    name: str
    launch: Callable[[str, int], None]
    result: Callable[[], Tensor]
    expected: Tensor
    peer: Callable[[int], object]
    copies: int
    flops: float
    nbytes: float


def linear(steps: Extension, rows: int) -> Case:
    """The gate and up matrix of Qwen3-0.6B, enough copies of it that none is in the cache."""
    n, k = 6144, 1024
    copies = copies_for(2.0 * n * k, 16) if rows < 1024 else 2
    x, y = randn(rows, k), torch.empty(rows, n, dtype=BF16, device="cuda")
    weights = [randn(n, k, scale=0.05) for _ in range(copies)]
    return Case(
        f"{rows} x {n} x {k}",
        lambda step, i: steps.call("linear", step, y, x, weights[i], rows, n, k),
        lambda: y,
        x.double() @ weights[0].double().T,
        lambda i: torch.mm(x, weights[i].T, out=y),
        copies,
        2.0 * rows * n * k,
        2.0 * (n * k + rows * (n + k)),
    )


def rms_norm(steps: Extension, rows: int) -> Case:
    """Rows of 1,024; few of them stay in the cache, as in the engine."""
    width = 1024
    copies = copies_for(4.0 * rows * width, 8)
    xs, weight = [randn(rows, width) for _ in range(copies)], randn(width)
    y = torch.empty_like(xs[0])
    x64 = xs[0].double()
    return Case(
        f"{rows} x {width}",
        lambda step, i: steps.call("rms_norm", step, y, xs[i], weight, rows, width, 1e-6),
        lambda: y,
        x64 * torch.rsqrt(x64.pow(2).mean(-1, keepdim=True) + 1e-6) * weight.double(),
        lambda i: functional.rms_norm(xs[i], (width,), weight, 1e-6),
        copies,
        4.0 * rows * width,
        4.0 * rows * width,
    )


def prefill(steps: Extension, tokens: int) -> Case:
    """One whole prompt, causal, on shuffled pages."""
    return attention(steps, f"{tokens} tokens", 1, tokens, tokens, 2.0 * tokens * (tokens + 1) * HEADS * DIM)


def decode(steps: Extension, requests: int) -> Case:
    """One new token of each request at a context of 2,048."""
    return attention(steps, f"{requests} x 1 token at 2048", requests, 1, 2048, 4.0 * requests * 2048 * HEADS * DIM)


def attention(steps: Extension, name: str, requests: int, new: int, context: int, flops: float) -> Case:
    """`new` tokens of each request at the end of `context` tokens."""
    pages = -(-context // PAGE)
    nbytes = 4.0 * requests * context * KV_HEADS * DIM
    copies = copies_for(nbytes, 8) if new == 1 else 1
    table = torch.randperm(requests * pages, device="cuda", dtype=torch.int32).view(requests, pages).contiguous()
    offsets = torch.arange(requests + 1, device="cuda", dtype=torch.int32) * new
    lengths = torch.full((requests,), context, device="cuda", dtype=torch.int32)
    kv = [randn(requests * pages, 2, KV_HEADS, PAGE, DIM) for _ in range(copies)]
    q = randn(requests * new, HEADS, DIM)
    o = torch.empty_like(q)
    dense = [c[table.long()].permute(2, 0, 3, 1, 4, 5).reshape(2, requests, KV_HEADS, -1, DIM) for c in kv]
    dense = [d[:, :, :, :context].contiguous() for d in dense]
    mine = q.view(requests, new, HEADS, DIM).transpose(1, 2).contiguous()
    sizes = (requests * new, requests, HEADS, KV_HEADS, PAGE, pages, 0)

    def peer(i: int) -> Tensor:
        k, v = dense[i]
        return functional.scaled_dot_product_attention(mine, k, v, is_causal=new > 1, enable_gqa=True)

    k, v = (t.float().repeat_interleave(HEADS // KV_HEADS, 1) for t in dense[0])
    expected = functional.scaled_dot_product_attention(mine.float(), k, v, is_causal=new > 1)
    return Case(
        name,
        lambda step, i: steps.call("attention", step, o, q, kv[i], offsets, lengths, table, DIM**-0.5, *sizes),
        lambda: o,
        expected.transpose(1, 2).reshape(o.shape),
        peer,
        copies,
        flops,
        nbytes + 4.0 * q.numel(),
    )


CASES: dict[str, Callable[[Extension, int], Case]] = {
    "linear": linear,
    "rms_norm": rms_norm,
    "prefill": prefill,
    "decode": decode,
}


def limits() -> tuple[float, float]:
    """Bytes a second of a copy of 1 GiB, read and written; bfloat16 operations a second of cuBLAS's 8192^3 product."""
    timer = Timer(torch.cuda.Stream())
    a = torch.empty(2**30, dtype=torch.uint8, device="cuda").random_()
    b = torch.empty_like(a)
    bandwidth = 2.0 * a.numel() / timer.seconds(lambda _: b.copy_(a), 1, budget=0.1)
    x, y = randn(8192, 8192), randn(8192, 8192)
    out = torch.empty_like(x)
    return bandwidth, 2.0 * 8192**3 / timer.seconds(lambda _: torch.mm(x, y, out=out), 1, budget=0.1)


def wrong(case: Case) -> str:
    """Says what is wrong with a result; empty if nothing is."""
    got, want = case.result().double().flatten(), case.expected.double().flatten()
    error = float((got - want).norm() / want.norm())
    return "" if error <= BOUND else f"wrong: relative error {error:.3g} is above {BOUND:g}"


def time_step(steps: Extension, case: Case, step: str) -> tuple[float | None, str]:
    """Median seconds of one step and what is wrong with it."""
    case.result().fill_(float("nan"))
    torch.cuda.synchronize()
    with torch.cuda.stream(steps.stream):
        case.launch(step, 0)
    steps.synchronize()
    error = wrong(case)
    return Timer(steps.stream).seconds(lambda i: case.launch(step, i), case.copies), error


def climb(kernel: str, rows: Sequence[int] | None = None) -> tuple[list[Rung], float, float]:
    """All steps of one ladder on all cases, with PyTorch beside them; then the limits that `limits` gives."""
    steps = Extension("steps_ext")
    bandwidth, peak = limits()
    rungs = []
    for count in rows or DEFAULT_ROWS[kernel]:
        case = CASES[kernel](steps, count)
        size = (case.flops, case.nbytes, max(case.nbytes / bandwidth, case.flops / peak))
        for step, gain in STEPS[kernel].items():
            if count > MOST_ROWS.get(step, count):
                continue
            try:
                seconds, error = time_step(steps, case, step)
            except Exception as failure:
                seconds, error = None, f"{type(failure).__name__}: {failure}"[:500]
            rungs.append(Rung(step, gain, case.name, seconds, *size, error))
        seconds = Timer(torch.cuda.Stream()).seconds(case.peer, case.copies)
        rungs.append(Rung(PEER, "for comparison", case.name, seconds, *size))
        del case
        torch.cuda.empty_cache()
    return rungs, bandwidth, peak


if __name__ == "__main__":
    print(build(sys.argv[1] if len(sys.argv) > 1 else "sm_90a", name="steps_ext"))
