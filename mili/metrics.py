"""Counters, gauges and histograms of the engine, in a form a Prometheus endpoint can print."""

from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120)
_STEP_SECONDS = (0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5)
_TOKENS = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024, 2048, 4096, 8192, 16384)


class Histogram:
    """Counts of observations up to and including each bound, and their sum."""

    def __init__(self, bounds: Sequence[float]) -> None:
        self.bounds = tuple(bounds)
        self.counts = [0] * (len(self.bounds) + 1)
        self.sum = 0.0
        self.count = 0
        self._edges = np.array(bounds)

    def observe(self, value: float) -> None:
        self.counts[bisect_left(self.bounds, value)] += 1
        self.sum += value
        self.count += 1

    def observe_many(self, values: NDArray[np.float64]) -> None:
        places = np.bincount(np.searchsorted(self._edges, values), minlength=len(self.counts))
        for i in np.flatnonzero(places).tolist():
            self.counts[i] += int(places[i])
        self.sum += float(values.sum())
        self.count += len(values)

    def cumulative(self) -> list[tuple[float, int]]:
        """(bound, observations up to it) for each bound, the last bound being infinity."""
        total, rows = 0, []
        for bound, count in zip((*self.bounds, float("inf")), self.counts, strict=True):
            total += count
            rows.append((bound, total))
        return rows


@dataclass(slots=True)
class EngineMetrics:
    """Everything since the engine was made. Written by the engine's thread; others may read at any time."""

    steps: int = 0
    failed_steps: int = 0
    prompt_tokens: int = 0  # of admitted requests
    cached_tokens: int = 0  # of them, found in the prefix cache
    generated_tokens: int = 0
    preemptions: int = 0
    evicted_pages: int = 0
    finished: dict[str, int] = field(default_factory=lambda: {"stop": 0, "length": 0, "cancel": 0, "error": 0})
    running: int = 0
    waiting: int = 0
    pages: int = 0
    free_pages: int = 0
    cached_pages: int = 0
    evictable_pages: int = 0
    queue_seconds: Histogram = field(default_factory=lambda: Histogram(_SECONDS))
    first_token_seconds: Histogram = field(default_factory=lambda: Histogram(_SECONDS))
    inter_token_seconds: Histogram = field(default_factory=lambda: Histogram(_SECONDS))
    request_seconds: Histogram = field(default_factory=lambda: Histogram(_SECONDS))
    step_seconds: Histogram = field(default_factory=lambda: Histogram(_STEP_SECONDS))
    step_tokens: Histogram = field(default_factory=lambda: Histogram(_TOKENS))
