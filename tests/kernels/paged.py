"""Random ragged batches over a random paged cache, for the tests of RoPE and attention."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from hypothesis import strategies as st
from numpy.typing import NDArray

from tests.kernels.harness import Heads


@dataclass(frozen=True)
class Ragged:
    """Requests of `contexts` tokens, the last `new` of each in this step; pages lie in random order."""

    new: tuple[int, ...]
    contexts: tuple[int, ...]
    table: NDArray[np.int32]
    pages: int

    @property
    def row_offsets(self) -> NDArray[np.int32]:
        return np.concatenate([[0], np.cumsum(self.new)]).astype(np.int32)

    @property
    def positions(self) -> NDArray[np.int32]:
        parts = [np.arange(c - n, c) for n, c in zip(self.new, self.contexts, strict=True)]
        return np.concatenate(parts).astype(np.int32)

    def slots(self, page_size: int) -> NDArray[np.int32]:
        request = np.repeat(np.arange(len(self.new)), self.new)
        pages = self.table[request, self.positions // page_size]
        slots: NDArray[np.int32] = (pages * page_size + self.positions % page_size).astype(np.int32)
        return slots

    def only(self, request: int, first: int, last: int) -> dict[str, Any]:
        """The attention inputs of a step that has only the new tokens first to last (exclusive) of one request."""
        return {
            "row_offsets": np.array([0, last - first]),
            "context_lengths": np.array([self.contexts[request] - self.new[request] + last]),
            "page_table": self.table[request : request + 1],
        }


def ragged(rng: np.random.Generator, new: list[int], before: list[int], page_size: int) -> Ragged:
    """Lays out requests of `new` tokens after `before` cached ones; two pages stay unused, the first among them."""
    contexts = [n + b for n, b in zip(new, before, strict=True)]
    counts = [-(-c // page_size) for c in contexts]
    order = 1 + rng.permutation(sum(counts) + 1)
    table = np.zeros((len(new), max(counts) + 1), np.int32)
    for b, count in enumerate(counts):
        start = sum(counts[:b])
        table[b, :count] = order[start : start + count]
    return Ragged(tuple(new), tuple(contexts), table, len(order) + 1)


def lengths(heads: Heads) -> st.SearchStrategy[list[tuple[int, int]]]:
    """One to four requests as (new, before), often at the boundaries of pages and key blocks."""
    edges = sorted({b * m + d for b in (heads.PS, 64) for m in (1, 2) for d in (-1, 0, 1)})
    new = st.one_of(st.just(1), st.integers(1, 40), st.sampled_from(edges))
    before = st.one_of(st.just(0), st.integers(0, 150), st.sampled_from(edges))
    return st.lists(st.tuples(new, before), min_size=1, max_size=4)
