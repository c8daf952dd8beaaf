"""The online softmax of a tile of scores, and the powers of two that it takes.

For a row with greatest score m so far, sums l (one a lane) and a block of 64 scores s:

    m' = max(m, max s)      p = 2^((s - m') c)      l' = l 2^((m - m') c) + p       c = scale * log2(e)

Hidden keys (causal, window) have s = -infinity and p = 0 exactly, and 2^0 is 1 exactly, so a block in which a row sees
no key changes nothing of that row, to the bit: a row's result does not depend on which rows share its tile.
"""

from .common import LANES, Ptr
from .linear_tile import DOT_BFLOAT16, Sums
from std.memory import bitcast
from std.sys._assembly import inlined_assembly
from std.sys.info import CompilationTarget

comptime LOG2_E = Float32(1.4426950408889634)
comptime NOTHING = Float32.MIN_FINITE
"""The greatest score before the first: finite, so that no difference of two infinities arises."""


@always_inline
def exp2_negative(x: Sums) -> Sums:
    """Returns 2^x for x <= 0 within 2e-7, exactly 1 at 0, and 0 below -125.

    2^x = 2^n 2^f with n = round(x): adding 1.5 * 2^23 leaves n in the low bits of the sum, the polynomial (a minimax
    fit with 1 at 0) is 2^f for |f| <= 1/2, and n is added to its exponent.
    """
    comptime MAGIC = Float32(12582912.0)
    var shifted = x + MAGIC
    var f = x - (shifted - MAGIC)
    var y = Sums(0.001326472731307149)
    y = y.fma(f, Sums(0.009671512991189957))
    y = y.fma(f, Sums(0.05550733581185341))
    y = y.fma(f, Sums(0.24022242426872253))
    y = y.fma(f, Sums(0.6931470036506653))
    y = y.fma(f, Sums(1))
    var bits = bitcast[DType.int32, LANES](y)
    var exponent = bitcast[DType.int32, LANES](shifted) << 23
    var power = bitcast[DType.float32, LANES](bits + exponent)
    return x.ge(Sums(-125)).select(power, Sums(0))


@always_inline
def store_bfloat16(p: Ptr[DType.int32], low: Sums, high: Sums):
    """Stores 32 float32 as bfloat16, rounded to nearest even, by `vcvtne2ps2bf16` (the CPU must have AVX512-BF16).
    """
    comptime if CompilationTarget.has_avx512f():
        p.unsafe_store(
            0,
            inlined_assembly[
                "vcvtne2ps2bf16 $2, $1, $0",
                SIMD[DType.int32, LANES],
                constraints="=v,v,v",
                has_side_effect=False,
            ](high, low),
        )


@always_inline
def softmax_row[
    kind: Int, BLOCKS: Int
](
    scores: Array[Sums, BLOCKS],
    factor: Float32,
    greatest: Ptr[DType.float32],
    sums: Ptr[DType.float32],
    probabilities: Ptr[DType.int32],
) -> Float32:
    """One row's step: updates its greatest score and lane sums, stores p, returns the factor for what was before.

    p is stored as bfloat16 for DOT_BFLOAT16, else as float32.
    """
    var top = scores[0]
    comptime for b in range(1, BLOCKS):
        top = max(top, scores[b])
    var before = greatest[unsafe_offset=0]
    var now = max(before, top.reduce_max())
    greatest[unsafe_offset=0] = now
    var rescale = exp2_negative(Sums((before - now) * factor))
    var p = Array[Sums, BLOCKS](fill=Sums(0))
    # BEGIN SOLUTION 08.5
    var total = sums.unsafe_load[width=LANES](0) * rescale
    comptime for b in range(BLOCKS):
        p[b] = exp2_negative((scores[b] - now) * factor)
        total += p[b]
    sums.unsafe_store(0, total)
    # END SOLUTION
    comptime if kind == DOT_BFLOAT16:
        comptime for b in range(0, BLOCKS, 2):
            store_bfloat16(
                probabilities.unsafe_offset(b * LANES // 2), p[b], p[b + 1]
            )
    else:
        comptime for b in range(BLOCKS):
            probabilities.unsafe_store(
                b * LANES, bitcast[DType.int32, LANES](p[b])
            )
    return rescale[0]
