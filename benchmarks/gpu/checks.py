"""Checks of every GPU kernel against PyTorch in float32 or float64, on odd sizes, with poisoned outputs and caches."""

from __future__ import annotations

import torch

from benchmarks.gpu.extension import Tensor
from benchmarks.gpu.harness import BF16, F16, F32, Report, int32, poison, randn
from benchmarks.gpu.kernels import Kernels
from benchmarks.gpu.paged import paged
from benchmarks.gpu.sample_checks import check_sample

BOUND = {BF16: 8e-3, F16: 1.5e-3, F32: 2e-6}
"""Relative error in norm that is allowed: one rounding of the output and, for tensor cores, of probabilities."""


def check_rowwise(k: Kernels, report: Report) -> None:
    """RMSNorm, fused RMSNorm, SwiGLU, row gathering, argmax."""
    shapes = [(BF16, 1, 1024), (BF16, 7, 576), (BF16, 33, 4096), (BF16, 5, 12288), (BF16, 3, 1001), (BF16, 5, 2560)]
    shapes += [(BF16, 1030, 1024), (BF16, 4100, 1024)]  # another order of reads and writes, and fewer threads
    for dtype, rows, width in [*shapes, (F32, 5, 1024), (F32, 5, 512), (F32, 3, 130)]:
        x, weight = randn(rows, width, dtype=dtype, scale=3), randn(width, dtype=dtype)
        y = poison(x.shape, dtype)
        k.rms_norm(y, x, weight, 1e-6)
        k.synchronize()
        report.check(f"rms_norm {dtype} {rows}x{width}", y, norm(x.double(), weight, 1e-6), BOUND[dtype])
        if dtype == F32:
            continue
        residual = randn(rows, width, dtype=dtype)
        total = poison(x.shape, dtype)
        y = poison(x.shape, dtype)
        k.add_rms_norm(y, total, x, residual, weight, 1e-6)
        k.synchronize()
        report.equal(f"add_rms_norm total {rows}x{width}", total, (x.float() + residual.float()).to(dtype))
        report.check(f"add_rms_norm {rows}x{width}", y, norm(total.double(), weight, 1e-6), BOUND[dtype])
        if rows > 1:
            alone = poison((1, width), dtype)
            k.add_rms_norm(alone, poison((1, width), dtype), x[-1:], residual[-1:], weight, 1e-6)
            k.synchronize()
            report.equal(f"add_rms_norm {rows}x{width}, its last row alone", y[-1:], alone)
    for dtype, rows, width in [(BF16, 1, 3072), (BF16, 9, 1536), (BF16, 4, 77), (F32, 3, 48)]:
        x = randn(rows, 2 * width, dtype=dtype, scale=4)
        y = poison((rows, width), dtype)
        k.swiglu(y, x)
        k.synchronize()
        gate, up = x.double().chunk(2, dim=1)
        report.check(f"swiglu {dtype} {rows}x{width}", y, torch.nn.functional.silu(gate) * up, BOUND[dtype])
    x = randn(50, 1032)
    for width in (1032, 1001):
        source = x[:, :width].contiguous()
        rows_ = int32([3, 49, 0, -1, 50, 3])
        y = poison((6, width), BF16)
        k.gather_rows(y, source, rows_)
        k.synchronize()
        want = source[rows_.clamp(0, 49).long()]
        want[3:5] = 0
        report.equal(f"gather_rows {width}", y, want)
    for rows, width in [(1, 151936), (5, 1003), (3, 7)]:
        logits = randn(rows, width, dtype=F32)
        best = int(torch.randint(0, width, (1,)))
        logits[0, best] = logits[0, -1] = logits[0].max() + 1
        tokens = poison((rows,), torch.int32)
        k.argmax(tokens, logits)
        k.synchronize()
        want = torch.tensor([int((r == r.max()).nonzero()[0]) for r in logits], dtype=torch.int32, device="cuda")
        report.equal(f"argmax {rows}x{width}", tokens, want)


def norm(x: Tensor, weight: Tensor, eps: float) -> Tensor:
    """RMSNorm in the dtype of x."""
    return x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + eps) * weight.to(x.dtype)


def check_linear(k: Kernels, report: Report) -> None:
    """Row counts around every tile boundary, odd N, K that is no multiple of a tile; with and without the library."""
    shapes = [(1024, 1024), (4096, 1024), (1024, 3072), (1000, 576), (130, 200), (72, 8), (12288, 256)]
    for n, depth in shapes:
        w = randn(n, depth, scale=0.05)
        for m in (1, 2, 3, 7, 8, 9, 16, 17, 31, 32, 33, 64, 65, 96, 127, 128, 129, 256, 300, 1000):
            one_linear(k, report, randn(m, depth), w, BF16, BOUND[BF16])
    for m in (4, 12, 20, 48, 80, 100, 129, 192, 255):
        for n, depth in [(1024, 2048), (1002, 1096), (2048, 4096), (24576, 72)]:
            one_linear(k, report, randn(m, depth), randn(n, depth, scale=0.05), BF16, BOUND[BF16])
        for depth in (64, 520):
            one_linear(k, report, randn(m, depth), randn(20000, depth, scale=0.05), F32, 1e-5)
            one_linear(k, report, randn(m, depth, dtype=F16), randn(514, depth, dtype=F16, scale=0.05), F16, BOUND[F16])
    for m, n, depth in [(3, 1000, 576), (40, 1001, 1024), (130, 999, 576)]:
        one_linear(k, report, randn(m, depth), randn(n, depth, scale=0.05), F32, 1e-5)
    odd = [(1, 130, 200), (5, 576, 576), (40, 576, 576), (100, 257, 64), (128, 256, 512)]
    for m, n, depth in odd:
        one_linear(k, report, randn(m, depth, dtype=F16), randn(n, depth, dtype=F16, scale=0.05), F16, BOUND[F16])
    for m, n, depth in [*odd, (17, 130, 203), (3, 50, 33)]:
        one_linear(k, report, randn(m, depth, dtype=F32), randn(n, depth, dtype=F32, scale=0.05), F32, BOUND[F32])
    for m in (5, 40):
        one_linear(k, report, randn(m, 203), randn(64, 203, scale=0.05), BF16, BOUND[BF16])
    for m, n, depth in [(8, 4096, 2048), (33, 1024, 3072), (100, 1024, 2048), (250, 1024, 2048), (128, 6144, 1024)]:
        rows_alone(k, report, randn(m, depth), randn(n, depth, scale=0.05))


def rows_alone(k: Kernels, report: Report, x: Tensor, w: Tensor) -> None:
    """A row's results are the same to the bit whatever the other rows hold, infinities included, and every time."""
    for own in (False, True):
        y, again, other = (poison((x.shape[0], w.shape[0]), x.dtype) for _ in range(3))
        row = x.shape[0] // 2
        alone = torch.full_like(x, float("inf"))
        alone[row] = x[row]
        for target, source in ((y, x), (again, x), (other, alone)):
            k.linear(target, source, w, own=own)
        k.synchronize()
        name = f"linear{' own' if own else ''} {x.shape[0]}x{w.shape[0]}x{x.shape[1]}"
        report.equal(f"{name} twice", again, y)
        report.equal(f"{name} row {row} alone", other[row], y[row])


def one_linear(
    k: Kernels,
    report: Report,
    x: Tensor,
    w: Tensor,
    out: torch.dtype,
    bound: float,
    paths: tuple[bool, ...] = (False, True),
) -> None:
    """One product by each of `paths`: as it is chosen, by the library if that is installed; by the project's kernels.

    Where the library is never chosen the two are one.
    """
    want = x.double() @ w.double().T
    for own in paths if x.dtype != F32 and x.shape[0] > 16 else (False,):
        y = poison((x.shape[0], w.shape[0]), out)
        k.linear(y, x, w, own=own)
        k.synchronize()
        name = f"linear{' own' if own else ''} {x.dtype}->{out} {x.shape[0]}x{w.shape[0]}x{x.shape[1]}"
        report.check(name, y, want, bound)


def check_rope(k: Kernels, report: Report) -> None:
    """Query/key norm, rotation and the write into pages, with padding slots."""
    for dim, dtype, with_norm in [(128, BF16, True), (64, BF16, False), (80, F32, True)]:
        for tokens, heads, kv_heads, page_size in [(1, 16, 8, 16), (37, 4, 2, 8), (19, 3, 3, 128)]:
            qkv = randn(tokens, (heads + 2 * kv_heads) * dim, dtype=dtype)
            weights = (randn(dim, dtype=dtype), randn(dim, dtype=dtype)) if with_norm else None
            angles = torch.rand(500, dim // 2, device="cuda") * 6
            cos_sin = torch.cat([angles.cos(), angles.sin()], 1).contiguous()
            positions = torch.randint(0, 500, (tokens,), device="cuda", dtype=torch.int32)
            pages = 40
            slots = torch.randperm(pages * page_size, device="cuda")[:tokens].to(torch.int32)
            if tokens > 5:
                slots[3] = -1
            kv = poison((pages, 2, kv_heads, page_size, dim), dtype)
            q = poison((tokens, heads, dim), dtype)
            k.qk_norm_rope_write(q, qkv, weights, 1e-6, cos_sin, positions, slots, kv)
            k.synchronize()
            x = qkv.double().view(tokens, -1, dim)
            parts = [x[:, :heads], x[:, heads : heads + kv_heads], x[:, heads + kv_heads :]]
            cos, sin = cos_sin[positions.long()].double()[:, None].chunk(2, -1)
            for i in range(2):
                if weights:
                    parts[i] = norm(parts[i], weights[i], 1e-6)
                a, b = parts[i].chunk(2, -1)
                parts[i] = torch.cat([a * cos - b * sin, b * cos + a * sin], -1)
            name = f"rope {dim} {dtype} norm={with_norm} T={tokens} PS={page_size}"
            report.check(name + " q", q, parts[0], BOUND[dtype])
            live = slots >= 0
            page, offset = slots[live].long() // page_size, slots[live].long() % page_size
            report.check(name + " k", kv[page, 0, :, offset], parts[1][live], BOUND[dtype])
            report.equal(name + " v", kv[page, 1, :, offset], parts[2][live].to(dtype))
            report.check(name + " untouched", kv.isnan().sum(), torch.tensor(
                kv.numel() - int(live.sum()) * 2 * kv_heads * dim, device="cuda"), 0.0)  # fmt: skip


def check_attention(k: Kernels, report: Report) -> None:
    """Decode, prefill, mixed, windows, head ratios 1 to 16, page sizes 1 to 128, lengths around every boundary."""
    decode = [[1], [2], [15], [16], [17], [63, 64, 65], [127, 128, 129, 1], [1000, 3, 511, 512, 513], [3000]]
    # More clusters than there are multiprocessors; page tables for one, two and four blocks each.
    decode += [[1 + 7919 * i % most for i in range(n)] for n, most in ((40, 700), (300, 700), (45, 2000), (70, 3000))]
    decode += [[9000, *[1 + 7919 * i % 100 for i in range(44)]]]
    # Few requests, of which one is long; rows of padding, which have no keys.
    decode += [[9000, 1], [1 + 7919 * i % 3000 for i in range(15)], [0, 5, 0], [700, 0]]
    prefill = [
        ([5], [5]),
        ([64], [64]),
        ([65, 3], [65, 10]),
        ([1, 130, 1], [77, 130, 300]),
        ([200], [456]),
        ([1000], [1000]),
        # Many requests of one token beside prompts: kernels of their own for the two.
        ([300, *[1] * 70, 129, 2, *[1] * 30], [300 + 97 * i % 500 for i in range(103)]),
        # As many tokens as requests, but not one each.
        ([3, 0, 1, 0], [70, 20, 300, 10]),
        ([0, 2], [40, 2]),
    ]
    cases: list[tuple[list[int], list[int]]] = [([1] * len(c), c) for c in decode] + prefill
    heads = [(16, 8, 128, BF16), (32, 8, 128, BF16), (9, 3, 64, BF16), (4, 4, 80, BF16), (16, 1, 128, BF16)]
    heads += [(8, 8, 128, BF16), (8, 2, 256, BF16), (6, 2, 96, F16), (4, 2, 128, F32), (4, 2, 18, BF16)]
    for h, kh, dim, dtype in heads:
        for i, (new, contexts) in enumerate(cases):
            few = set(new) == {1} and len(new) * kh < 128
            page_size = (8, 16, 32, 64, 128, 4, 1)[i % 7] if few else (8, 16, 32, 64, 128)[i % 5]
            for window in (0, 40):
                case = paged(new, contexts, h, kh, dim, page_size, dtype)
                o = poison((sum(new), h, dim), dtype)
                k.attention(o, case.q, case.kv, case.offsets, case.lengths, case.pages, dim**-0.5, window)
                k.synchronize()
                name = f"attention H{h}/{kh} D{dim} {dtype} new={new} ctx={contexts} PS={page_size} W={window}"
                bound = 5e-6 if dtype == F32 else 2 * BOUND[dtype]
                report.check(name, o, case.reference(dim**-0.5, window), bound)


def check_repeatable(k: Kernels, report: Report) -> None:
    """Fifty runs on the same input give the same bits."""
    case = paged([1, 1, 1], [700, 33, 129], 16, 8, 128, 16, BF16)
    mixed = paged([100, 1, 30], [700, 33, 129], 16, 8, 128, 16, BF16)
    x, w = randn(200, 1024), randn(1000, 1024, scale=0.05)
    for name, rows, own in (
        ("linear 5", 5, True), ("linear 40", 40, True), ("linear 200", 200, True), ("linear library 200", 200, False),
    ):  # fmt: skip
        first = None
        for _ in range(50):
            y = poison((rows, 1000), BF16)
            k.linear(y, x[:rows], w, own=own)
            k.synchronize()
            first = y if first is None else first
            if not torch.equal(y, first):
                break
        report.equal(f"repeatable {name}", y, first)
    for name, c in (("decode", case), ("prefill", mixed)):
        first = None
        for _ in range(50):
            o = poison(tuple(c.q.shape), BF16)
            k.attention(o, c.q, c.kv, c.offsets, c.lengths, c.pages, 0.088)
            k.synchronize()
            first = o if first is None else first
            if not torch.equal(o, first):
                break
        report.equal(f"repeatable {name}", o, first)


ALL = {
    "rowwise": check_rowwise,
    "linear": check_linear,
    "rope": check_rope,
    "attention": check_attention,
    "sample": check_sample,
    "repeatable": check_repeatable,
}
