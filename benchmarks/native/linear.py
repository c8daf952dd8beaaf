"""The CPU's linear without a graph: `linear` on NumPy arrays, for its tests and benchmarks."""

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


def linear(
    x: Array, packed: Array, n: int, *, out_dtype: str | None = None, path: str = "best", y: Array | None = None
) -> Array:
    """Returns y [m, n] = x [m, k] @ w.T for packed w; uint16 arrays hold bfloat16 bits.

    `out_dtype` is "float32" or that of x (the default); `y`, if given, is filled and returned.
    """
    m, k = x.shape
    bfloat16 = x.dtype == np.uint16
    narrow = bfloat16 and out_dtype != "float32"
    if y is None:
        y = np.empty((m, n), np.uint16 if narrow else np.float32)
    addresses = (y.ctypes.data, x.ctypes.data, packed.ctypes.data)
    load("linear_native").linear((*addresses, m, n, k, int(bfloat16), int(narrow), PATHS[path]))
    return y
