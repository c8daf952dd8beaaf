"""Muon (Jordan et al., 2024, kellerjordan.github.io/posts/muon): momentum made orthogonal by Newton-Schulz.

Matrices of one shape are stacked, so that the iteration is a few batched products however many layers there are.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from typing import Any

import torch


def orthogonalise(g: torch.Tensor, steps: int = 5) -> torch.Tensor:
    """g [N, R, C] to matrices with the same singular vectors and singular values near 1; computes in bfloat16."""
    a, b, c = 3.4445, -4.7750, 2.0315
    x = g.bfloat16()
    tall = x.shape[-2] > x.shape[-1]
    if tall:
        x = x.mT
    x = x / (x.norm(dim=(-2, -1), keepdim=True) + 1e-7)
    for _ in range(steps):
        s = x @ x.mT
        x = a * x + (b * s + c * s @ s) @ x
    return x.mT if tall else x


class Muon(torch.optim.Optimizer):
    """For the matrices of the hidden layers. Embeddings, norms and the head belong to AdamW."""

    def __init__(
        self, params: Iterable[torch.Tensor], lr: float, momentum: float = 0.95, weight_decay: float = 0.01
    ) -> None:
        super().__init__(params, {"lr": lr, "momentum": momentum, "weight_decay": weight_decay})

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:
        for group in self.param_groups:
            by_shape: dict[torch.Size, list[torch.Tensor]] = defaultdict(list)
            for p in group["params"]:
                by_shape[p.shape].append(p)
            for shape, params in by_shape.items():
                grads = torch.stack([p.grad for p in params if p.grad is not None])
                state = self.state[params[0]]
                if "momentum" not in state:
                    state["momentum"] = torch.zeros_like(grads)
                momentum = state["momentum"]
                momentum.lerp_(grads, 1 - group["momentum"])
                update = orthogonalise(torch.lerp(grads, momentum, group["momentum"]))
                scale = group["lr"] * max(1.0, shape[0] / shape[1]) ** 0.5
                torch._foreach_mul_(params, 1 - group["lr"] * group["weight_decay"])
                torch._foreach_add_(params, list(update.to(params[0].dtype).unbind()), alpha=-scale)
