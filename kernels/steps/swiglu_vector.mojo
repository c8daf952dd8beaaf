"""SwiGLU, step 3: sixteen elements at once, the exponential included: it is a polynomial, and a polynomial has lanes.

Step 4, all cores, is `swiglu.mojo`.
"""

from ..common import LANES, Ptr, load_float32, store_rounded
from ..swiglu import silu


def swiglu[
    dtype: DType
](y: Ptr[dtype], gate_up: Ptr[dtype], rows: Int, width: Int):
    """Writes y [rows, width] from gate_up [rows, 2 * width]."""
    var full = width // LANES * LANES
    for t in range(rows):
        var gate = gate_up.unsafe_offset(2 * t * width)
        var up = gate.unsafe_offset(width)
        var line = y.unsafe_offset(t * width)
        for i in range(0, full, LANES):
            var s = silu(load_float32(gate, i))
            store_rounded(line, i, s * load_float32(up, i))
        for i in range(full, width):
            var s = silu(load_float32[width=1](gate, i))
            store_rounded(line, i, s * load_float32[width=1](up, i))
