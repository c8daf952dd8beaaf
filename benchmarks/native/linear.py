"""The CPU's linear without a graph: `linear` on NumPy arrays, for its tests and benchmarks."""

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.native import load

PATHS = {"best": 0, "fma": 1, "dot": 2, "amx": 3}
"""Ways to multiply, as in kernels/linear_cpu.mojo."""

Array = NDArray[Any]


def available_paths(dtype: str) -> tuple[str, ...]:
    """The paths that this CPU can run for weights of `dtype` ("float32" or "bfloat16")."""
    features = load("linear_native").features()
    if dtype == "float32":
        return ("fma",)
    return ("fma", *(("dot",) if features & 1 else ()), *(("amx",) if features & 2 else ()))


def bound(x: Array, packed: Array, n: int, y: Array, path: str = "best") -> Callable[[], None]:
    """`linear` into y with its arguments given: a call costs little more than the kernel."""
    m, k = x.shape
    addresses = (y.ctypes.data, x.ctypes.data, packed.ctypes.data)
    given = (*addresses, m, n, k, int(x.dtype == np.uint16), int(y.dtype == np.uint16), PATHS[path])
    function = load("linear_native").linear
    keep = (x, packed, y)  # the arrays, whose addresses were taken

    def call() -> None:
        assert keep
        function(given)

    return call


def linear(
    x: Array, packed: Array, n: int, *, out_dtype: str | None = None, path: str = "best", y: Array | None = None
) -> Array:
    """Returns y [m, n] = x [m, k] @ w.T for packed w; uint16 arrays hold bfloat16 bits.

    `out_dtype` is "float32" or that of x (the default); `y`, if given, is filled and returned.
    """
    if y is None:
        y = np.empty((len(x), n), np.uint16 if x.dtype == np.uint16 and out_dtype != "float32" else np.float32)
    bound(x, packed, n, y, path)()
    return y
