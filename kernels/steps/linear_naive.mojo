"""Linear, step 1: the definition, one product after another, w row-major [N, K].

    y[m, n] = sum_k x[m, k] * w[n, k]

Each addition waits for the one before (4 cycles), and each input is widened from bfloat16 by itself.
"""

from ..common import Ptr


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
            var total = Float32(0)
            for i in range(k):
                var a = x[unsafe_offset=row * k + i].cast[DType.float32]()
                var b = w[unsafe_offset=column * k + i].cast[DType.float32]()
                total += a * b
            y[unsafe_offset=row * n + column] = total
