"""Random requests over a paged cache, for the checks of attention on a GPU, and what they must give."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from benchmarks.gpu.extension import Tensor
from benchmarks.gpu.harness import int32, poison, randn


@dataclass
class Paged:
    """A ragged batch over a paged cache whose unused places are NaN."""

    q: Tensor
    kv: Tensor
    offsets: Tensor
    lengths: Tensor
    pages: Tensor
    keys: list[Tensor]
    values: list[Tensor]

    def reference(self, scale: float, window: int) -> Tensor:
        """Attention in float64, one request after another."""
        outputs = []
        group = self.q.shape[1] // self.kv.shape[2]
        for b, (keys, values) in enumerate(zip(self.keys, self.values, strict=True)):
            first, end = int(self.offsets[b]), int(self.offsets[b + 1])
            q = self.q[first:end].double()
            kd, vd = (t.double().repeat_interleave(group, 1) for t in (keys, values))
            scores = torch.einsum("thd,jhd->htj", q, kd) * scale
            position = torch.arange(len(keys) - (end - first), len(keys), device="cuda")[:, None]
            j = torch.arange(len(keys), device="cuda")[None]
            hidden = j > position
            if window:
                hidden = hidden | (j <= position - window)
            p = scores.masked_fill(hidden, float("-inf")).softmax(-1)
            outputs.append(torch.einsum("htj,jhd->thd", p, vd))
        return torch.cat(outputs)


def paged(new: list[int], contexts: list[int], heads: int, kv_heads: int, dim: int, page_size: int,
          dtype: torch.dtype, spare: int = 3, scale: float = 1.0) -> Paged:  # fmt: skip
    """Random requests with `new` tokens each of contexts that long, on randomly ordered pages."""
    counts = [-(-c // page_size) for c in contexts]
    total = sum(counts) + 2
    order = torch.randperm(total, device="cuda").tolist()
    kv = poison((total, 2, kv_heads, page_size, dim), dtype)
    table = torch.zeros(len(new), max(counts) + spare, dtype=torch.int32, device="cuda")
    keys, values = [], []
    for b, (context, count) in enumerate(zip(contexts, counts, strict=True)):
        own = torch.tensor(order[sum(counts[:b]) : sum(counts[:b]) + count], dtype=torch.long, device="cuda")
        table[b, :count] = own.int()
        both = randn(2, context, kv_heads, dim, dtype=dtype, scale=scale)
        j = torch.arange(context, device="cuda")
        kv[own[j // page_size], 0, :, j % page_size] = both[0]
        kv[own[j // page_size], 1, :, j % page_size] = both[1]
        keys.append(both[0])
        values.append(both[1])
    offsets = int32([sum(new[:b]) for b in range(len(new) + 1)])
    return Paged(randn(sum(new), heads, dim, dtype=dtype), kv, offsets, int32(contexts), table, keys, values)
