"""Random weights of any configuration, for benchmarks without a model."""

from dataclasses import dataclass

import numpy as np

from mili.config import Qwen3Config
from mili.packing import Array, Tensor, from_float32
from mili.weights import ROW_GROUP, RowSource, assemble, plan


@dataclass(frozen=True, slots=True)
class _RandomRows:
    """A matrix of uniform values with standard deviation 0.02, or a vector of ones; the same at any split of rows."""

    shape: tuple[int, ...]
    seed: tuple[int, ...]

    def rows(self, index: slice | Array, dtype: str) -> Array:
        if len(self.shape) == 1:
            return from_float32(np.ones((1, *self.shape), np.float32), dtype)
        assert isinstance(index, slice)
        first, last, _ = index.indices(self.shape[0])
        groups = range(first // ROW_GROUP, -(-last // ROW_GROUP))
        values = np.empty((len(groups) * ROW_GROUP, self.shape[1]), np.float32)
        for i, group in enumerate(groups):
            generator = np.random.Generator(np.random.SFC64((*self.seed, group)))
            generator.random(out=values[i * ROW_GROUP : (i + 1) * ROW_GROUP], dtype=np.float32)
        values -= np.float32(0.5)
        values *= np.float32(0.02 * 12**0.5)
        skip = first - groups.start * ROW_GROUP
        return from_float32(values[skip : skip + last - first], dtype)


def random_weights(config: Qwen3Config, dtype: str, seed: int, packed: bool) -> dict[str, Tensor]:
    """Random tensors, named and shaped as `WeightLoader.load` gives them."""
    sources: dict[str, list[tuple[RowSource, int]]] = {
        name: [(_RandomRows(part.shape, (seed, i, j)), 0) for j, part in enumerate(group)]
        for i, (name, group) in enumerate(plan(config).items())
    }
    return {tensor.name: tensor for tensor in assemble(sources, dtype, packed)}
