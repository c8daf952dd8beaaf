"""Documents to rows of a fixed length: every row starts at the start of a document, the last one may be cut."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np

# How often a document of each source is taken in a pass: (first part of the training, its decay). The writer's few
# stories and the books widen the vocabulary; at full weight the model learns their text by heart and, from a first
# line, tells stories as loose as the writer's.
TAKE = {0: (0.5, 0.05), 1: (1.0, 1.0), 2: (1.0, 1.0), 3: (0.5, 0.05)}


class Corpus:
    """corpus.npz as written by training.corpus."""

    def __init__(self, path: Path) -> None:
        with np.load(path) as data:
            self.tokens, self.offsets = data["tokens"], data["offsets"]
            self.source, self.held = data["source"], data["held"]

    def documents(self, rng: np.random.Generator, phase: int) -> np.ndarray:
        """Indices of training documents in random order, sources thinned as TAKE says."""
        take = np.array([TAKE[s][phase] for s in range(len(TAKE))])
        chosen = ~self.held & (rng.random(len(self.held)) < take[self.source])
        return rng.permutation(np.flatnonzero(chosen))

    def rows(self, order: np.ndarray, length: int) -> np.ndarray:
        """[rows, length] uint16: documents one after another; one that crosses a row's end loses its rest."""
        starts, sizes = self.offsets[order], np.diff(self.offsets)[order]
        out: list[np.ndarray] = []
        row = np.empty(length, np.uint16)
        filled = 0
        for start, size in zip(starts.tolist(), sizes.tolist(), strict=True):
            count = min(size, length - filled)
            row[filled : filled + count] = self.tokens[start : start + count]
            filled += count
            if filled == length:
                out.append(row)
                row, filled = np.empty(length, np.uint16), 0
        return np.stack(out) if out else np.empty((0, length), np.uint16)

    def batches(self, seed: int, batch: int, length: int, phase: list[int]) -> Iterator[np.ndarray]:
        """Endless [batch, length]; a change of `phase[0]` takes effect within some hundred batches."""
        rng = np.random.default_rng(seed)
        while True:
            order = self.documents(rng, phase[0])
            step = max(1, batch * 100 * length // max(1, int(np.diff(self.offsets).mean())))
            current = phase[0]
            for start in range(0, len(order), step):
                rows = self.rows(order[start : start + step], length)
                for i in range(0, len(rows) - batch + 1, batch):
                    yield rows[i : i + batch]
                if phase[0] != current:
                    break

    def held_out(self, source: int, length: int, limit: int) -> np.ndarray:
        """[rows, length] of held-out documents of one source, at most `limit` rows."""
        order = np.flatnonzero(self.held & (self.source == source))
        return self.rows(order, length)[:limit]
