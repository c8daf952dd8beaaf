"""SwiGLU, step 2: one pass. What lay in memory between the operations stays in a register, for one element at a time.
"""

from ..common import Ptr, load_float32, store_rounded
from ..swiglu import silu


def swiglu[
    dtype: DType
](y: Ptr[dtype], gate_up: Ptr[dtype], rows: Int, width: Int):
    """Writes y [rows, width] from gate_up [rows, 2 * width]."""
    for t in range(rows):
        var gate = gate_up.unsafe_offset(2 * t * width)
        var up = gate.unsafe_offset(width)
        for i in range(width):
            var s = silu(load_float32[width=1](gate, i))
            store_rounded(y, t * width + i, s * load_float32[width=1](up, i))
