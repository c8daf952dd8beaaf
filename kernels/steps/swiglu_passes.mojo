"""SwiGLU, step 1: three passes, one for each operation, as a framework without fusion runs it.

    s = 1 / (1 + exp(-g))        s [T, I] float32, written to memory
    s = g * s                    read, written
    y = s * u                    read
"""

from ..common import Ptr
from std.math import exp
from std.memory.alloc import unsafe_alloc


def swiglu[
    dtype: DType
](y: Ptr[dtype], gate_up: Ptr[dtype], rows: Int, width: Int):
    """Writes y [rows, width] from gate_up [rows, 2 * width]."""
    comptime F32 = DType.float32
    var scratch = unsafe_alloc[Float32](max(1, rows * width))
    for t in range(rows):
        for i in range(width):
            var g = gate_up[unsafe_offset=2 * t * width + i].cast[F32]()
            scratch[unsafe_offset=t * width + i] = 1 / (1 + exp(-g))
    for t in range(rows):
        for i in range(width):
            var g = gate_up[unsafe_offset=2 * t * width + i].cast[F32]()
            scratch[unsafe_offset=t * width + i] *= g
    for t in range(rows):
        for i in range(width):
            var u = gate_up[unsafe_offset=(2 * t + 1) * width + i].cast[F32]()
            var s = scratch[unsafe_offset=t * width + i]
            y[unsafe_offset=t * width + i] = (s * u).cast[dtype]()
    scratch.unsafe_free()
