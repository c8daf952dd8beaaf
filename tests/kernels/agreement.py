"""When two results agree: error bounds that follow from the arithmetic, not tolerances found by trial."""

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

FLOAT32_UNIT = 2.0**-24
"""Largest relative error of one float32 rounding."""


def assert_within(actual: NDArray[Any], expected: NDArray[np.float64], bound: ArrayLike) -> None:
    """Fails unless |actual - expected| <= bound everywhere; says how much differs, and where it is worst."""
    assert actual.shape == expected.shape
    excess = np.abs(actual.astype(np.float64) - expected) - bound
    excess = np.where(np.isnan(excess), np.inf, excess)
    wrong = excess > 0
    if wrong.any():
        worst = np.unravel_index(int(np.argmax(excess)), excess.shape)
        raise AssertionError(
            f"{int(wrong.sum())} of {wrong.size} values differ; worst at {tuple(map(int, worst))}: "
            f"{actual[worst]!r}, expected {expected[worst]!r} within {np.broadcast_to(bound, excess.shape)[worst]:.3g}"
        )
