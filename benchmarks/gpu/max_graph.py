"""Checks of the ops inside a MAX graph on the GPU: right, the same when captured and replayed, memory left alone."""

from __future__ import annotations

import time
from typing import Any

import torch
from max.driver import Accelerator, Buffer
from max.dtype import DType
from max.engine import InferenceSession

from benchmarks.gpu.all_ops import GROUP, KV_HEADS, PAGE_SIZE, VOCABULARY, WIDTH, graph_of_all_ops
from benchmarks.gpu.checks import norm
from benchmarks.gpu.harness import BF16, Report, int32, randn

DIM = 128


def check(report: Report) -> None:
    """Compile the graph of all ops in bfloat16 and compare it with PyTorch, eager and replayed, for two batches."""
    device = Accelerator()
    start = time.perf_counter()
    model = InferenceSession(devices=[device]).load(graph_of_all_ops(device, [(DType.bfloat16, DIM)]))
    report.timing(op="compile", what="graph of all ops", seconds=time.perf_counter() - start)
    print(f"MAX graph compiled in {time.perf_counter() - start:.1f} s", flush=True)
    batches = {"decode": ([1, 1, 1], [300, 17, 1000]), "prefill": ([40, 1, 70], [40, 300, 100])}
    for key, (name, (new, contexts)) in enumerate(batches.items(), start=1):
        case = build(new, contexts)
        want_x = reference(case)
        inputs = [Buffer.from_dlpack(t) for t in case["inputs"]]
        torch.cuda.synchronize()
        tokens, x = (torch.from_dlpack(out).clone() for out in model.execute(*inputs))
        torch.cuda.synchronize()
        report.check(f"graph {name} residual", x, want_x, 2e-2)
        report.attempt(f"graph {name} capture", replay, report, model, key, name, inputs, tokens, x)


def replay(report: Report, model: Any, key: int, name: str, inputs: list[Buffer], tokens: Any, x: Any) -> None:
    """Capture, fill fresh memory with a pattern, replay, compare outputs and look whether the pattern stands."""
    outputs = [torch.from_dlpack(out) for out in model.capture(key, *inputs)]
    device = Accelerator()
    guards = [Buffer.zeros((1 << 20,), DType.int32, device) for _ in range(8)]
    torch.cuda.synchronize()
    for out in outputs:
        out.fill_(0)
    torch.cuda.synchronize()
    for _ in range(3):
        model.replay(key, *inputs)
    device.synchronize()
    torch.cuda.synchronize()
    report.equal(f"graph {name} replayed tokens", outputs[0], tokens)
    report.equal(f"graph {name} replayed residual", outputs[1], x)
    dirty = sum(int(torch.from_dlpack(g).count_nonzero()) for g in guards)
    report.equal(f"graph {name} replay writes only its own memory", torch.tensor(dirty), torch.tensor(0))


def build(new: list[int], contexts: list[int]) -> dict[str, Any]:
    """Random inputs of the graph; earlier keys and values stand in the cache already."""
    pages = [-(-c // PAGE_SIZE) for c in contexts]
    table = torch.zeros(len(new), max(pages) + 2, dtype=torch.int32, device="cuda")
    order = torch.randperm(sum(pages) + 1, device="cuda").int()
    positions, slots = [], []
    for b, count in enumerate(pages):
        own = order[sum(pages[:b]) : sum(pages[:b]) + count]
        table[b, :count] = own
        for j in range(contexts[b] - new[b], contexts[b]):
            positions.append(j)
            slots.append(int(own[j // PAGE_SIZE]) * PAGE_SIZE + j % PAGE_SIZE)
    offsets = [sum(new[:b]) for b in range(len(new) + 1)]
    angles = torch.rand(1024, DIM // 2, device="cuda") * 6
    heads = GROUP * KV_HEADS
    cos_sin = torch.cat([angles.cos(), angles.sin()], 1).contiguous()
    tensors = [
        torch.randint(0, VOCABULARY, (sum(new),), device="cuda", dtype=torch.int32),
        int32(positions),
        int32(slots),
        int32(offsets),
        int32(contexts),
        table,
        int32([o - 1 for o in offsets[1:]]),
        randn(VOCABULARY, WIDTH),
        randn(WIDTH),
        randn((heads + 2 * KV_HEADS) * DIM, WIDTH, scale=0.06),
        randn(DIM),
        cos_sin,
        randn(sum(pages) + 1, 2, KV_HEADS, PAGE_SIZE, DIM),
        randn(2 * WIDTH, heads * DIM, scale=0.06),
    ]
    return {"inputs": tensors, "new": new, "contexts": contexts}


def reference(case: dict[str, Any]) -> torch.Tensor:
    """The residual that the graph returns, in float32 with bfloat16 rounding between the ops."""
    tokens, positions, slots, _, _, table, _, embed, weight, qkv, head_norm, cos_sin, kv, out = case["inputs"]
    heads = GROUP * KV_HEADS
    x = embed[tokens.long()]
    h = norm(x.float(), weight, 1e-6).to(BF16)
    y = (h.float() @ qkv.float().T).to(BF16).view(len(tokens), -1, DIM)
    q, k, v = y.split([heads, KV_HEADS, KV_HEADS], 1)
    cos, sin = cos_sin[positions.long()][:, None].chunk(2, -1)

    def rotate(t: torch.Tensor) -> torch.Tensor:
        a, b = norm(t.float(), head_norm, 1e-6).chunk(2, -1)
        return torch.cat([a * cos - b * sin, b * cos + a * sin], -1).to(BF16)

    q, k = rotate(q), rotate(k)
    cache = kv.clone()
    cache[slots.long() // PAGE_SIZE, 0, :, slots.long() % PAGE_SIZE] = k
    cache[slots.long() // PAGE_SIZE, 1, :, slots.long() % PAGE_SIZE] = v
    outputs, first = [], 0
    for b, (new, context) in enumerate(zip(case["new"], case["contexts"], strict=True)):
        j = torch.arange(context, device="cuda")
        page = table[b, j // PAGE_SIZE].long()
        keys, values = (cache[page, i, :, j % PAGE_SIZE].float().repeat_interleave(GROUP, 1) for i in range(2))
        scores = torch.einsum("thd,jhd->htj", q[first : first + new].float(), keys) * 0.1
        hidden = j[None] > torch.arange(context - new, context, device="cuda")[:, None]
        outputs.append(torch.einsum("htj,jhd->thd", scores.masked_fill(hidden, float("-inf")).softmax(-1), values))
        first += new
    o = torch.cat(outputs).flatten(1).to(BF16)
    gate, up = (o.float() @ out.float().T).to(BF16).float().chunk(2, 1)
    h = (torch.nn.functional.silu(gate) * up).to(BF16)
    return (h.float() + x.float()).to(BF16)
