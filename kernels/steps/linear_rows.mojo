"""Linear, step 3: four outputs at once, w row-major [N, K].

    x[m, :]      | 16 lanes |  loaded and widened once
    w[n, :]      | 16 lanes |  sum 0          four sums that do not wait for each other
    w[n + 1, :]  | 16 lanes |  sum 1
    w[n + 2, :]  | 16 lanes |  sum 2
    w[n + 3, :]  | 16 lanes |  sum 3

Where w comes from a cache this is a gain. For one row of x it is a loss: w comes from memory, and four short streams at a
time suit the hardware's prefetcher less than one.
"""

from ..common import LANES, Ptr, load_float32
from .linear_vector import dot
from std.collections import Array

comptime OUTPUTS = 4


@always_inline
def dot_outputs(
    y: Ptr[DType.float32],
    x: Ptr[DType.bfloat16],
    w: Ptr[DType.bfloat16],
    k: Int,
):
    """Writes y [OUTPUTS] = x [k] times OUTPUTS rows of w."""
    var sums = Array[SIMD[DType.float32, LANES], OUTPUTS](fill=0)
    var full = k // LANES * LANES
    for i in range(0, full, LANES):
        var a = load_float32(x, i)
        comptime for j in range(OUTPUTS):
            sums[j] = load_float32(w, j * k + i).fma(a, sums[j])
    comptime for j in range(OUTPUTS):
        var total = sums[j].reduce_add()
        for i in range(full, k):
            total += load_float32[width=1](x, i) * load_float32[width=1](
                w, j * k + i
            )
        y[unsafe_offset=j] = total


@always_inline
def columns(
    y: Ptr[DType.float32],
    x: Ptr[DType.bfloat16],
    w: Ptr[DType.bfloat16],
    m: Int,
    n: Int,
    k: Int,
    first: Int,
    last: Int,
):
    """Writes columns first to last of y."""
    for row in range(m):
        var a = x.unsafe_offset(row * k)
        var whole = first + (last - first) // OUTPUTS * OUTPUTS
        for column in range(first, whole, OUTPUTS):
            dot_outputs(
                y.unsafe_offset(row * n + column),
                a,
                w.unsafe_offset(column * k),
                k,
            )
        for column in range(whole, last):
            y[unsafe_offset=row * n + column] = dot(
                a, w.unsafe_offset(column * k), k
            )


def linear(
    y: Ptr[DType.float32],
    x: Ptr[DType.bfloat16],
    w: Ptr[DType.bfloat16],
    m: Int,
    n: Int,
    k: Int,
):
    """Writes y [m, n] = x [m, k] @ w [n, k].T."""
    columns(y, x, w, m, n, k, 0, n)
