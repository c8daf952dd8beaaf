"""Where the time of a decode step goes: `python -m benchmarks.gpu.profile_plot STEPS.json OUT.png`.

STEPS.json is what benchmarks.gpu.engine_steps wrote. Kernel times are the profiler's; "launch gaps" is what the device
took for a step beyond them, and "waits for Python" what it stood still between two steps.
"""

import json
import sys
from pathlib import Path
from typing import Any

from workbook import figures

PARTS = (
    ("decode attention", ("mili_attention",)),
    ("linear", ("mili_linear", "nvjet", "cublas", "splitK", "gemm")),
    ("norms, RoPE, SwiGLU", ("mili_rms_norm", "mili_qk_norm", "mili_swiglu", "mili_gather", "mili_embedding")),
    ("sampling, copies", ("mili_sample", "Mem", "mili_argmax", "mili_resolve")),
)


def parts(document: dict[str, Any], way: str, requests: int) -> dict[str, float]:
    """Microseconds of one step, by part."""
    step = next(s for s in document[f"{way} steps"] if s["requests"] == requests)
    found = dict.fromkeys([name for name, _ in PARTS], 0.0)
    for kernel in document.get(f"captured kernels at {requests}", []):
        name = next((part for part, marks in PARTS if any(mark in kernel["kernel"] for mark in marks)), None)
        if name is None:
            raise ValueError(f"the kernel {kernel['kernel']} belongs to no part: add it to PARTS")
        found[name] += kernel["us"]
    found["launch gaps"] = max(0.0, step["device_us"] - sum(found.values()))
    found["waits for Python"] = step["idle_us"]
    return found


def main() -> None:
    """Draw a bar for 256, 64 and 1 requests, captured and eager."""
    document = json.loads(Path(sys.argv[1]).read_text())
    figures.style()
    figure, axes = figures.new(9, 3.4)
    bars = [(way, requests) for requests in (256, 64, 1) for way in ("captured", "eager")]
    labels = [f"{requests} request{'s' * (requests > 1)}, {way}" for way, requests in bars]
    shares = [parts(document, way, requests) for way, requests in bars]
    totals = [sum(share.values()) for share in shares]
    left = [0.0] * len(bars)
    for name, color in zip(shares[0], (*figures.CYCLE[:4], figures.GREY, "#7a5ea8"), strict=True):
        widths = [100 * share[name] / total for share, total in zip(shares, totals, strict=True)]
        axes.barh(labels, widths, left=left, color=color, label=name)
        left = [a + b for a, b in zip(left, widths, strict=True)]
    for label, total in zip(labels, totals, strict=True):
        axes.text(101, label, f"{total / 1000:.2f} ms", va="center")
    axes.invert_yaxis()
    axes.set_xlim(0, 112)
    axes.set_xlabel(f"percent of a decode step; Qwen3-0.6B in bfloat16, {document['device']}")
    axes.legend(ncols=3, loc="lower center", bbox_to_anchor=(0.45, 1.0), frameon=False)
    figure.savefig(sys.argv[2], dpi=130, bbox_inches="tight")


if __name__ == "__main__":
    main()
