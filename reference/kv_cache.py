"""A dense key/value cache: one array with room for the longest context, filled from the front."""

import numpy as np

from reference.arrays import FloatArray


class DenseKVCache:
    """Keys and values of one sequence, layer by layer.

    The keys and values of a token never change once computed (causal attention), so each step computes those of the new
    tokens alone. The price is memory: 2 * layers * capacity * KH * D numbers, reserved for a context that may never
    come. The paged cache (reference/paged_attention.py) is the remedy.

    Attributes:
        keys, values: [layers, capacity, KH, D], float32.
        length: Tokens held.
    """

    def __init__(self, layers: int, capacity: int, kv_heads: int, head_dim: int) -> None:
        self.keys = np.zeros((layers, capacity, kv_heads, head_dim), np.float32)
        self.values = np.zeros_like(self.keys)
        self.length = 0

    def append(self, layer: int, k: FloatArray, v: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Write the new tokens of one layer after those held; `advance` counts them once all layers are written.

        Args:
            layer: Which layer.
            k, v: [T, KH, D].

        Returns:
            Keys and values of the whole context, the new tokens included, [S, KH, D] each.

        Raises:
            ValueError: The context would be longer than the capacity.
        """
        end = self.length + len(k)
        capacity = self.keys.shape[1]
        if end > capacity:
            raise ValueError(f"a context of {end} tokens does not fit a cache of {capacity}")
        self.keys[layer, self.length : end] = k
        self.values[layer, self.length : end] = v
        return self.keys[layer, :end], self.values[layer, :end]

    def advance(self, tokens: int) -> None:
        """Count `tokens` new tokens as held."""
        self.length += tokens
