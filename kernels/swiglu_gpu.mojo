"""SwiGLU on a GPU: y[t, i] = silu(gate_up[t, i]) * gate_up[t, I + i], a thread for every 16 bytes of output.

It moves three elements for each output and computes little, so what counts is bytes in flight: loads of 16 bytes, two
a thread, and as many threads as fit. Threads count over all vectors of all rows:

    thread n  ->  row n / (I / width),  vector n % (I / width)        neighbours read neighbouring 16 bytes

Divisions are of 32 bits: a GPU divides 64-bit integers in software. Microseconds on an H100, I = 3,072 in bfloat16 (the first
three: one run; benchmarks/results/2026-11-26_h100_rowwise.json for the others):

    rows                                     1       64      256     4,096
    256 threads, division as IEEE 754     1.17     1.71     3.07      26.5
    the GPU's own division                1.21     1.48     2.85      26.6
    64 threads for few rows, 128 else     0.95     1.49     2.85      26.6
    this file                             0.85     1.52     2.84      26.6
    torch.compile                         1.22     2.01     3.56      27.2
"""

from .common import Ptr
from .gpu_common import (
    early_launch,
    load_vector,
    store_vector,
    vector_width,
    wait_for_previous,
)
from max.gpu import block_idx, thread_idx
from max.gpu.host import DeviceContext
from std.math import ceildiv, exp, exp2, fma
from std.sys import is_nvidia_gpu
from std.sys._assembly import inlined_assembly


def exp_of[
    dtype: DType, width: Int
](x: SIMD[DType.float32, width]) -> SIMD[DType.float32, width]:
    """The exponential, good to the last places of `dtype`.

    The GPU raises 2 to a power t = x log2(e), and t alone rounded to float32 costs up to 2**-18 of the result at
    |x| = 88. In float32 what rounding has cut from t is put back: 2**(t + r) = 2**t (1 + r ln 2).
    """
    comptime if dtype != DType.float32:
        return exp(x)
    comptime high = Float32(1.4426950408889634)
    comptime low = Float32(1.4426950408889634 - Float64(high))
    var t = x * high
    var rest = fma(
        x,
        SIMD[DType.float32, width](low),
        fma(x, SIMD[DType.float32, width](high), -t),
    )
    return exp2(t) * fma(
        rest, SIMD[DType.float32, width](0.6931471805599453), 1
    )


@always_inline
def divided[
    dtype: DType, width: Int
](x: SIMD[DType.float32, width], y: SIMD[DType.float32, width]) -> SIMD[
    DType.float32, width
]:
    """The quotient, good to the last places of `dtype`; y is 1 or more.

    A division rounded as IEEE 754 asks takes some ten instructions, more than the rest of the element together. The
    GPU's own is good to two units in the last place of float32, but gives 0 when y is above 2**126.
    """
    comptime if dtype == DType.float32 or not is_nvidia_gpu():
        return x / y
    var result = SIMD[DType.float32, width]()
    comptime for i in range(width):
        result[i] = inlined_assembly[
            "div.approx.f32 $0, $1, $2;",
            Float32,
            constraints="=f,f,f",
            has_side_effect=False,
        ](x[i], y[i])
    return result


@__name(t"mili_swiglu_{dtype}_{width}_{threads}")
def swiglu_kernel[
    dtype: DType, width: Int, threads: Int
](y: Ptr[dtype], gate_up: Ptr[dtype], vectors: UInt32, row_vectors: UInt32):
    """One thread a vector; `row_vectors` vectors of `width` elements make one output row.
    """
    wait_for_previous()
    var n = UInt32(block_idx.x) * UInt32(threads) + UInt32(thread_idx.x)
    if n >= vectors:
        return
    var row = n // row_vectors
    var at = Int(n + row * row_vectors) * width
    var gate = load_vector[dtype, width](gate_up, at).cast[DType.float32]()
    var up = load_vector[dtype, width](
        gate_up, at + Int(row_vectors) * width
    ).cast[DType.float32]()
    var silu = divided[dtype](gate, 1 + exp_of[dtype](-gate))
    store_vector[dtype, width](y, Int(n) * width, (silu * up).cast[dtype]())


def swiglu_gpu[
    dtype: DType
](
    y: Ptr[dtype],
    gate_up: Ptr[dtype],
    rows: Int,
    width: Int,
    ctx: DeviceContext,
) raises:
    """Writes y [rows, width] from gate_up [rows, 2 * width]."""

    def start[w: Int, threads: Int](vectors: Int) raises {imm}:
        ctx.enqueue_function[swiglu_kernel[dtype, w, threads]](
            y,
            gate_up,
            UInt32(vectors),
            UInt32(width // w),
            grid_dim=ceildiv(vectors, threads),
            block_dim=threads,
            attributes=early_launch(),
        )

    def go[w: Int]() raises {imm}:
        var vectors = rows * width // w
        if vectors <= 64 * DeviceContext.default_device_info.sm_count:
            start[w, 64](vectors)
        else:
            start[w, 128](vectors)

    if rows == 0:
        return
    comptime wide = vector_width[dtype]()
    if width % wide == 0:
        go[wide]()
    else:
        go[1]()
