"""Other tilings of the Hopper prefill kernel: `python -m benchmarks.gpu.prefill_variants [--json FILE] [--only ...]`.

Times its tilings (D_groups_keys_stages, with and without turns) and the kernel for other GPUs (D_mma) beside PyTorch,
on prompts of many lengths and on batches as the engine has them. A result that is wrong is said and makes the exit
status 1. Needs a Hopper GPU, PyTorch, and MAX with Mojo (or MILI_GPU_EXT, the folder of a prefill_ext.so built
elsewhere).
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Callable
from pathlib import Path

import torch
from torch.nn import functional
from torch.nn.attention import SDPBackend, sdpa_kernel

# MAX takes most of the GPU's memory unless told otherwise; PyTorch needs its share here. Read when MAX starts.
os.environ.setdefault("MODULAR_DEVICE_CONTEXT_MEMORY_MANAGER_SIZE_PERCENT", "20")

from benchmarks.gpu.extension import Extension, Tensor
from benchmarks.gpu.harness import BF16, Report, Timer, poison, table
from benchmarks.gpu.paged import Paged, paged

MODELS = {
    "Qwen3-0.6B": (16, 8, 128),
    "Qwen3-8B": (32, 8, 128),
    "SmolLM2-135M": (9, 3, 64),
    "Llama-3.2-1B": (32, 8, 64),
}
"""Query heads, key/value heads, head dimension."""
PROMPTS = (64, 128, 256, 512, 1024, 2048, 4096, 8192, 16384)
BATCHES: dict[str, tuple[list[int], list[int]]] = {
    **{f"prompt of {n}": ([n], [n]) for n in PROMPTS},
    "16 prompts of 8": ([8] * 16, [8] * 16),
    "16 prompts of 128": ([128] * 16, [128] * 16),
    "8 prompts of 512": ([512] * 8, [512] * 8),
    "32 x 5 after 2048": ([5] * 32, [2053] * 32),
    "512 after 4096": ([512], [4608]),
    "2048 after 8192": ([2048], [10240]),
    "64 decodes at 1024, prompt of 128": ([1] * 64 + [128], [1024] * 64 + [128]),
}
"""New tokens and contexts of the requests."""
PEERS = {"cudnn": SDPBackend.CUDNN_ATTENTION, "flash": SDPBackend.FLASH_ATTENTION}
MOST_CHECKED = 2**28
"""Scores up to which a result is checked: the reference keeps them in float64, several times."""
BOUND = 1.6e-2
"""Relative error in norm: roundings of the output and of probabilities to bfloat16."""


def peers(case: Paged, heads: int) -> dict[str, Callable[[int], object]]:
    """PyTorch's attention of one whole prompt, by backend: dense, causal, with the key/value heads repeated."""
    q = case.q.transpose(0, 1)[None].contiguous()
    k, v = (
        x[0].transpose(0, 1).repeat_interleave(heads // x[0].shape[1], 0)[None].contiguous()
        for x in (case.keys, case.values)
    )

    def peer(backend: SDPBackend) -> Callable[[int], object]:
        def work(_: int) -> Tensor:
            with sdpa_kernel(backend):
                result: Tensor = functional.scaled_dot_product_attention(q, k, v, is_causal=True)
                return result

        return work

    return {name: peer(backend) for name, backend in PEERS.items()}


def measure(extension: Extension, report: Report, model: str, batch: str) -> None:
    """One row: microseconds of every variant, each checked, and of PyTorch where there is one whole prompt."""
    heads, kv_heads, dim = MODELS[model]
    new, contexts = BATCHES[batch]
    case = paged(new, contexts, heads, kv_heads, dim, 16, BF16)
    scale = dim**-0.5
    checked = heads * sum(n * c for n, c in zip(new, contexts, strict=True)) <= MOST_CHECKED
    want = case.reference(scale, 0) if checked else None
    sizes = (sum(new), len(new), heads, kv_heads, 16, case.pages.shape[1], 0)
    o = poison(tuple(case.q.shape), BF16)
    times: dict[str, float] = {}
    for name in sorted(n for n in dir(extension.module) if n.startswith(f"{dim}_")):

        def work(_: int, name: str = name) -> None:
            extension.call(name, o, case.q, case.kv, case.offsets, case.lengths, case.pages, scale, *sizes)

        o.fill_(float("nan"))
        torch.cuda.synchronize()
        work(0)
        extension.synchronize()
        if want is not None:
            report.check(f"{model} {batch} {name}", o, want, BOUND)
        times[name.removeprefix(f"{dim}_")] = Timer(extension.stream).seconds(work, 1)
    best = min(times, key=lambda name: times[name])
    fastest = None
    if len(new) == 1 and new == contexts:
        theirs = {}
        for name, peer in peers(case, heads).items():
            seconds = report.attempt(f"{batch} {name}", Timer(torch.cuda.Stream()).seconds, peer, 1)
            if seconds:
                theirs[name] = seconds
        fastest = min(theirs.values(), default=None)
        times |= theirs
    report.timing(
        model=model,
        batch=batch,
        **{name: seconds * 1e6 for name, seconds in times.items()},
        best=best,
        best_over_torch=fastest / times[best] if fastest else None,
    )


def main() -> int:
    """The command line; see the module's text. Returns the exit status."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--json", type=Path, help="write the numbers to this file")
    parser.add_argument("--only", nargs="+", choices=tuple(MODELS), default=tuple(MODELS), help="models to time")
    options = parser.parse_args()
    torch.manual_seed(0)
    extension, report = Extension("prefill_ext"), Report()
    for model in options.only:
        for batch in BATCHES:
            report.attempt(f"{model} {batch}", measure, extension, report, model, batch)
            torch.cuda.empty_cache()
        rows = [row for row in report.timings if row["model"] == model]
        columns = list(dict.fromkeys(name for row in rows for name in row if name != "model"))
        print(f"{model}, microseconds\n{table(rows, columns)}\n", flush=True)
    wrong = [check for check in report.checks if not check["passed"]]
    info = {"device": torch.cuda.get_device_name(), "torch": torch.__version__, "command": " ".join(sys.argv)}
    print(f"{info}\n{len(report.checks)} checks, {len(wrong)} wrong, {len(report.errors)} errors")
    if options.json:
        document = {"info": info, "timings": report.timings, "checks": report.checks, "errors": report.errors}
        options.json.write_text(json.dumps(document, indent=1) + "\n")
    return 1 if wrong or report.errors else 0


if __name__ == "__main__":
    sys.exit(main())
