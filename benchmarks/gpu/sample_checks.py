"""Checks of sampling against PyTorch in float64: what the filters keep and which token a random number draws."""

from __future__ import annotations

import torch

from benchmarks.gpu.extension import Tensor
from benchmarks.gpu.harness import F32, Report, int32, poison
from benchmarks.gpu.kernels import Kernels

EDGE = 3e-5
"""How far from the edge between two tokens a random number may fall on the other side: float32 sums of a whole row."""
FILTERS: list[tuple[float, float, float, float]] = [
    (0.6, 20, 0.95, 0),
    (0.6, 1, 1, 0),
    (0.6, 0, 1, 0),
    (0, 0, 1, 0),
    (1, 2, 0.5, 0),
    (1, 700, 1, 0),
    (1, 700, 0.9, 0),
    (1, 20000, 1, 0),
    (1, 20000, 0.3, 0),
    (1, 0, 1e-6, 0),
    (1, 0, 0.3, 0),
    (1, 0, 0.95, 0),
    (1, 0, 0.999999, 0),
    (1, 0, 1, 0.05),
    (1, 50, 0.9, 0.2),
    (1, 0, 0.9, 1e-4),
    (0.02, 20, 0.95, 0),
    (9, 0, 0.95, 0),
]
"""Temperature, top-k, top-p and min-p."""


def kept_weights(logits: Tensor, temperature: float, top_k: float, top_p: float, min_p: float) -> Tensor:
    """Weights [V] float64 of logits [V], 0 where a filter takes them away."""
    weights = ((logits.double() - logits.max()) / temperature).exp()
    order = weights.float().sort(descending=True, stable=True).indices
    if top_k:
        weights[order[int(top_k) :]] = 0
    if top_p < 1:
        falling = weights[order]
        sums = falling.cumsum(0)
        before = sums - falling
        weights[order[(before >= top_p * sums[-1]) & (before > 0)]] = 0
    return torch.where(weights >= min_p, weights, 0)


def draw(k: Kernels, logits: Tensor, fields: Tensor) -> Tensor:
    """The tokens [L] that the kernels draw."""
    tokens = poison((len(logits),), torch.int32)
    k.sample(tokens, logits, fields)
    k.synchronize()
    return tokens


def one_row(
    k: Kernels, report: Report, name: str, logits: Tensor, row: tuple[float, float, float, float], rows: int = 256
) -> None:
    """Draw `rows` times from logits [V] with random numbers spread over [0, 1), and compare with float64."""
    fields = torch.tensor([[*row, 0.0]] * rows, device="cuda")
    fields[:, 4] = (torch.arange(rows, device="cuda") + torch.rand(rows, device="cuda")) / rows
    tokens = draw(k, logits.expand(rows, -1).contiguous(), fields).long()
    if row[0] == 0:
        best = (logits == logits.max()).nonzero()[0]
        return report.equal(f"sample {name} {row}", tokens, best.expand(rows))
    weights = kept_weights(logits, *row)
    after = weights.cumsum(0) / weights.sum()
    u = fields[:, 4].double()
    inside = (tokens >= 0) & (tokens < len(logits))
    tokens = tokens.clamp(0, len(logits) - 1)
    share = weights / weights.sum()
    edge = EDGE + 4 * share[share > 0].min()  # the last few of the order may be others by a rounding
    right = (u < after[tokens] + edge) & (u > after[tokens] - share[tokens] - edge)
    return report.equal(f"sample {name} {row}", inside & right, torch.ones_like(right))


def check_filters(k: Kernels, report: Report) -> None:
    """Every filter on rows that are steep, flat and of equals, of widths that 4 and a chunk do and do not divide."""
    for width in (151936, 50257, 4096, 513, 7):
        normal = torch.randn(width, device="cuda")
        rows = {
            "steep": normal * 4,
            "flat": normal,
            "nearly equal": normal * 0.01,
            "rounded": (normal * 3).round(),
            "equal": torch.zeros(width, device="cuda"),
            "holes": torch.where(normal > 0.5, normal * 3, -torch.inf),
        }
        for name, logits in rows.items():
            for row in FILTERS:
                if row[1] < width:
                    one_row(k, report, f"{width} {name}", logits, row)


def check_batches(k: Kernels, report: Report) -> None:
    """Rows of a batch are as if alone and every time the same; rows that are no numbers give no token."""
    for rows, width in ((256, 9000), (33, 151936)):
        scale = torch.tensor([0.02, 1.0, 4.0], device="cuda").repeat(rows)[:rows, None]
        logits = torch.randn(rows, width, device="cuda") * scale
        fields = torch.tensor([[*FILTERS[i % len(FILTERS)], 0.0] for i in range(rows)], device="cuda")
        fields[:, 4] = torch.rand(rows, device="cuda")
        tokens = draw(k, logits, fields)
        for _ in range(20):
            again = draw(k, logits, fields)
            if not torch.equal(again, tokens):
                break
        report.equal(f"sample {rows}x{width} again", again, tokens)
        alone = torch.cat([draw(k, logits[i : i + 1], fields[i : i + 1]) for i in range(rows)])
        report.equal(f"sample {rows}x{width} alone", alone, tokens)
    for row in FILTERS:
        logits = torch.randn(4, 3000, device="cuda")
        logits[0, 7] = torch.nan
        logits[1] = -torch.inf
        logits[2, 2999] = torch.inf
        logits[3] = -torch.inf
        logits[3, 1234] = -5
        fields = torch.tensor([[*row, 0.5]] * 4, dtype=F32, device="cuda")
        want = [-1, -1, -1, 1234] if row[0] else [int(v) for v in logits.nan_to_num(-9.0, 99.0).argmax(1)]
        tokens = draw(k, logits, fields)
        report.equal(f"sample no numbers {row}", tokens, int32(want))


def check_sample(k: Kernels, report: Report) -> None:
    """All of it."""
    check_filters(k, report)
    check_batches(k, report)
