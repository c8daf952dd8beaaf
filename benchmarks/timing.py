"""Timing that bears a busy machine: medians over many short runs."""

import statistics
import time
from collections.abc import Callable
from typing import Any


def median_seconds(call: Callable[[], Any], seconds: float = 0.5, least: int = 5) -> float:
    """The median time of one `call`: at least `least` calls, for about `seconds`; one call before to warm up."""
    call()
    times: list[float] = []
    end = time.perf_counter() + seconds
    while len(times) < least or time.perf_counter() < end:
        start = time.perf_counter()
        call()
        times.append(time.perf_counter() - start)
    return statistics.median(times)
