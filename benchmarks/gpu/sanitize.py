"""Every kernel at small sizes, for compute-sanitizer: `... python -m benchmarks.gpu.sanitize OUT [CHECK ...]`.

Results are compared with PyTorch as in checks.py, by the same code, so a run without the sanitizer is a quick check.
The project's kernels and the library's are checks apart: a tool that cannot follow the library must not end the others.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import torch

os.environ.setdefault("MODULAR_DEVICE_CONTEXT_MEMORY_MANAGER_SIZE_PERCENT", "8")  # read when MAX starts

from benchmarks.gpu.checks import BOUND, check_rope, check_rowwise, one_linear
from benchmarks.gpu.harness import BF16, F16, F32, Report, poison, randn
from benchmarks.gpu.kernels import Kernels
from benchmarks.gpu.paged import paged
from benchmarks.gpu.sample_checks import one_row


def products(k: Kernels, report: Report, shapes: list[tuple[int, int, int, torch.dtype]], own: bool) -> None:
    """Linear at some (M, N, K, dtype), by the project's kernels or as the engine chooses."""
    for m, n, depth, dtype in shapes:
        x, w = randn(m, depth, dtype=dtype), randn(n, depth, dtype=dtype, scale=0.05)
        one_linear(k, report, x, w, dtype, BOUND[dtype], (own,))


def check_products(k: Kernels, report: Report) -> None:
    """The project's kernels for a few rows, tiles with mma.sync, and products without tensor cores."""
    few = [(1, 130, 200, BF16), (9, 1000, 576, BF16), (33, 256, 64, F16), (64, 130, 200, BF16)]
    few += [(33, 512, 1024, BF16), (100, 130, 1024, BF16)]  # k split over the blocks of a cluster
    products(k, report, [*few, (70, 257, 136, BF16), (5, 50, 33, F32), (40, 64, 203, BF16)], own=True)


def check_wgmma(k: Kernels, report: Report) -> None:
    """Warpgroup products: enough tiles of 128 x 128 that they are chosen on Hopper."""
    products(k, report, [(1100, 2048, 128, BF16)], own=True)


def check_library(k: Kernels, report: Report) -> None:
    """cuBLAS where it is chosen: its arguments and workspace are this project's, its kernels are not."""
    products(k, report, [(33, 256, 64, F16), (70, 264, 136, BF16), (1100, 2048, 128, BF16)], own=False)


def check_sample(k: Kernels, report: Report) -> None:
    """Every kind of row: greedy, plain, each filter, one of which leaves a single token; and lists that are too long,
    which are divided by weight, and of equal weights by index."""
    fields = [[0, 0, 1, 0, 0.5], [1, 1, 1, 0, 0.5], [1, 0, 1e-6, 0, 0.5], [1, 0, 1, 1, 0.5]]
    fields += [[0.6, 0, 1, 0, 0.3], [1, 5, 1, 0, 0.9], [1, 0, 0.9, 0, 0.7], [1, 40, 0.8, 0.02, 0.999]]
    for width in (1000, 4097, 9000):
        logits = randn(len(fields), width, dtype=F32, scale=3)
        tokens = poison((len(fields),), torch.int32)
        k.sample(tokens, logits, torch.tensor(fields, dtype=F32, device="cuda"))
        k.synchronize()
        report.equal(f"sample {width} one token left", tokens[:4], logits[:4].argmax(1).int())
        inside = (tokens >= 0) & (tokens < width)
        report.equal(f"sample {width} inside", inside, torch.ones_like(inside))
        better = (logits[5] > logits[5, tokens[5].long()]).sum()
        report.equal(f"sample {width} top 5", better < 5, torch.ones_like(better < 5))
    for scale in (0.0, 1.0):
        for row in ((1, 7000, 1, 0), (1, 7000, 0.4, 0), (1, 0, 0.6, 0)):
            one_row(k, report, f"20000 times {scale}", randn(20000, dtype=F32, scale=scale), row, rows=4)


def check_attention(k: Kernels, report: Report) -> None:
    """Decode in clusters of 1 to 16 blocks, prefill, mixed, windows, without tensor cores."""
    for new, contexts, heads, kv_heads, dim, page_size, dtype, window in [
        ([1, 1], [17, 300], 16, 8, 128, 16, BF16, 0),
        ([1], [5000], 2, 1, 128, 16, BF16, 0),
        ([1] * 8, [100, 0, 33, 1, 16, 17, 300, 40], 8, 8, 80, 4, BF16, 0),
        ([2, 0], [40, 9], 16, 1, 256, 16, BF16, 0),
        ([1] * 80, [40] * 80, 16, 8, 128, 16, BF16, 0),
        ([1] * 70, [1000 + 7 * i for i in range(70)], 16, 8, 128, 16, BF16, 0),
        ([1] * 20, [9000] + [40] * 19, 16, 8, 128, 16, BF16, 0),
        ([65, *[1] * 18], [65] + [90] * 18, 16, 8, 128, 16, BF16, 0),
        ([1], [700], 9, 3, 64, 8, BF16, 40),
        ([65, 3, 1], [65, 10, 90], 16, 8, 128, 16, BF16, 0),
        ([70], [200], 4, 4, 80, 32, BF16, 40),
        ([20, 1], [30, 50], 4, 2, 18, 64, BF16, 0),
        ([20, 1], [30, 50], 4, 2, 128, 64, F32, 0),
    ]:
        case = paged(new, contexts, heads, kv_heads, dim, page_size, dtype)
        o = poison((sum(new), heads, dim), dtype)
        k.attention(o, case.q, case.kv, case.offsets, case.lengths, case.pages, dim**-0.5, window)
        k.synchronize()
        bound = 5e-6 if dtype == F32 else 2 * BOUND[dtype]
        report.check(f"attention {new[:3]} {contexts[:3]} D{dim} {dtype}", o, case.reference(dim**-0.5, window), bound)


def main() -> int:
    """Run them; the exit status is 1 if a result is wrong."""
    torch.manual_seed(0)
    report = Report()
    kernels = Kernels()
    with torch.cuda.stream(kernels.stream):
        checks = (check_rowwise, check_rope, check_products, check_wgmma, check_library, check_attention, check_sample)
        for check in [c for c in checks if c.__name__ in sys.argv[2:] or not sys.argv[2:]]:
            report.attempt(check.__name__, check, kernels, report)
            print(f"{check.__name__} done after {len(report.checks)} checks", flush=True)
            torch.cuda.synchronize()
    failed = [check["name"] for check in report.checks if not check["passed"]]
    Path(sys.argv[1]).write_text(
        json.dumps({"checks": len(report.checks), "wrong": failed, "errors": report.errors}, indent=1) + "\n"
    )
    print(f"{len(report.checks)} checks, {len(failed)} wrong, {len(report.errors)} errors")
    return 1 if failed or report.errors else 0


if __name__ == "__main__":
    sys.exit(main())
