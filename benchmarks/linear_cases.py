"""Inputs for timing linear: weights that are not in any cache, and PyTorch on the same numbers."""

import itertools
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.ceilings import Ceilings
from mili.packing import Arena, pack, to_bfloat16

SHAPES = {
    "SmolLM2 qkv": (960, 576),
    "SmolLM2 gate_up": (3072, 576),
    "SmolLM2 down": (576, 1536),
    "Qwen3-0.6B gate_up": (6144, 1024),
    "Qwen3-0.6B down": (1024, 3072),
}
"""(N, K) of matrices of real models."""

COLD_BYTES = 192 << 20
"""Weights in turn amount to this, several times the largest cache: each call reads its weights from memory."""

Array = NDArray[Any]


class Case:
    """One product y [m, n] = x [m, k] @ w [n, k].T with several copies of w, to be used in turn."""

    def __init__(self, m: int, n: int, k: int, dtype: str, cold_bytes: int = COLD_BYTES) -> None:
        self.m, self.n, self.k, self.dtype = m, n, k, dtype
        rng = np.random.default_rng(0)
        self.x = self._values(rng, m, k)
        self.w = self._values(rng, n, k)
        self.copies = max(2, cold_bytes // self.w.nbytes)
        packed, arena = pack(self.w), Arena()  # as the engine holds its weights
        self.packed = [arena.empty(packed.shape, packed.dtype) for _ in range(self.copies)]
        for copy in self.packed:
            copy[:] = packed

    def _values(self, rng: np.random.Generator, rows: int, columns: int) -> Array:
        values = rng.standard_normal((rows, columns), np.float32)
        return to_bfloat16(values) if self.dtype == "bfloat16" else values

    @property
    def flops(self) -> int:
        """A multiply-add is two operations."""
        return 2 * self.m * self.n * self.k

    @property
    def nbytes(self) -> int:
        """Bytes of weights."""
        return self.w.nbytes

    def floor(self, ceilings: Ceilings) -> float:
        """Seconds below which this machine cannot go: reading w, or the arithmetic, whichever takes longer."""
        return max(self.nbytes / ceilings.read, self.flops / ceilings.flops(self.dtype))

    def row_major(self) -> list[Array]:
        """The copies of w, row-major."""
        return [self.w.copy() for _ in range(self.copies)]


def in_turn(call: Callable[[Any], Any], copies: list[Any]) -> Callable[[], Any]:
    """`call` on one copy after another."""
    turn: Iterator[Any] = itertools.cycle(copies)
    return lambda: call(next(turn))


def torch_call(case: Case, threads: int) -> Callable[[], Any] | None:
    """The same product in PyTorch; None if it is not installed."""
    try:
        import torch
    except ImportError:
        return None
    torch.set_num_threads(threads)
    bfloat16 = case.dtype == "bfloat16"

    def tensor(array: Array) -> Any:
        return torch.from_numpy(array.view(np.int16)).view(torch.bfloat16) if bfloat16 else torch.from_numpy(array)

    x = tensor(case.x)
    weights = [tensor(w) for w in case.row_major()]

    def call(w: Any) -> Any:
        with torch.inference_mode():
            return torch.nn.functional.linear(x, w)

    return in_turn(call, weights)
