"""Linear, step 2: sixteen products at once along K, w row-major [N, K].

    x[m, :]   | 16 lanes | 16 lanes | ... | tail |
    w[n, :]   | 16 lanes | 16 lanes | ... | tail |     one multiply-add a pair of registers; the lanes are added at the end

Fewer instructions, but still one chain of additions: each waits for the one before.
"""

from ..common import LANES, Ptr, load_float32


@always_inline
def dot(x: Ptr[DType.bfloat16], w: Ptr[DType.bfloat16], k: Int) -> Float32:
    """Returns the sum of x [k] times w [k]."""
    var lanes = SIMD[DType.float32, LANES](0)
    var full = k // LANES * LANES
    for i in range(0, full, LANES):
        lanes = load_float32(x, i).fma(load_float32(w, i), lanes)
    var total = lanes.reduce_add()
    for i in range(full, k):
        total += load_float32[width=1](x, i) * load_float32[width=1](w, i)
    return total


def linear(
    y: Ptr[DType.float32],
    x: Ptr[DType.bfloat16],
    w: Ptr[DType.bfloat16],
    m: Int,
    n: Int,
    k: Int,
):
    """Writes y [m, n] = x [m, k] @ w [n, k].T."""
    for row in range(m):
        for column in range(n):
            y[unsafe_offset=row * n + column] = dot(
                x.unsafe_offset(row * k), w.unsafe_offset(column * k), k
            )
