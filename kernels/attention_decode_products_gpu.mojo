"""Attention of eight query heads over sixteen keys by one warp on tensor cores, keys as the rows of the first product.

    S^T [16 keys, 8 heads] = K Q^T    k index = head dimension, renumbered as in linear_skinny_gpu.mojo: lane 4 g + t has
                                      k[keys g, g + 8][32 c + 8 t ... + 7] and q[head g][the same]
    softmax over keys                 three shuffles: eight lanes have the keys of heads 2t and 2t + 1
    P^T                               the accumulator turned in registers (`movmatrix`): keys 2t, 2t + 1, ... of head g
    O^T [D, 8 heads] += V^T P^T       V^T is packed from v[key][64 c + 8 g ... + 7] of keys 2t, 2t+1, 2t+8, 2t+9

Of attention_decode_tile_gpu.mojo, where heads are the rows and half of a product's rows are empty, this differs in the
first product, half as many instructions, and in that keys and values are needed one after the other, in half the
registers.
"""

from .attention_decode_tile_gpu import key_slices, value_chunks
from .gpu_common import Registers
from .mma_gpu import mma_16x8x16, transposed
from max.gpu import lane_id
from max.gpu.primitives import warp
from std.math import exp2

comptime F32 = DType.float32


@always_inline
def over_keys[largest: Bool](value: SIMD[F32, 2]) -> SIMD[F32, 2]:
    """The largest, or the sum, over the eight lanes that have the keys of the same two heads.
    """
    var v = value
    comptime for i in range(3):
        comptime for e in range(2):
            var other = warp.shuffle_xor(v[e], UInt32(4 << i))
            v[e] = max(v[e], other) if largest else v[e] + other
    return v


struct HeadsState[D: Int](TrivialRegisterPassable):
    """Of heads 2t and 2t + 1, the greatest score of the warp's keys in powers of two, and the sum of this lane's weights.
    """

    var greatest: SIMD[F32, 2]
    var total: SIMD[F32, 2]

    @always_inline
    def __init__(out self):
        self.greatest = SIMD[F32, 2](Float32.MIN_FINITE)
        self.total = SIMD[F32, 2](0)

    @always_inline
    def scores[
        dtype: DType
    ](self, query: Registers[dtype, 8], keys: Registers[dtype, 8]) -> SIMD[
        F32, 4
    ]:
        """Products of keys g (elements 0 and 1) and g + 8 (2 and 3) with heads 2t and 2t + 1.
        """
        comptime slices = key_slices[Self.D]()
        var sums = SIMD[F32, 4](0)
        var others = SIMD[F32, 4](0)
        comptime for c in range(slices):
            comptime for half in range(2):
                var low = keys[unsafe_offset=c].slice[4, offset=half * 4]()
                var high = keys[unsafe_offset=slices + c].slice[
                    4, offset=half * 4
                ]()
                var a = SIMD[dtype, 8](
                    low[0],
                    low[1],
                    high[0],
                    high[1],
                    low[2],
                    low[3],
                    high[2],
                    high[3],
                )
                var b = query[unsafe_offset=c].slice[4, offset=half * 4]()
                comptime if half == 0:  # two chains: a product waits for its sum
                    sums = mma_16x8x16(a, b, sums)
                else:
                    others = mma_16x8x16(a, b, others)
        return sums + others

    @always_inline
    def weigh(
        mut self, scores: SIMD[F32, 4], scale: Float32, low: Bool, high: Bool
    ) -> Tuple[SIMD[F32, 4], SIMD[F32, 2]]:
        """Weights of the keys that count (g: `low`, g + 8: `high`; at least one of the sixteen), and what the sums of
        values so far have to be multiplied by. `scale` includes log2(e).
        """
        var s = scores * scale
        comptime for e in range(2):
            s[e] = s[e] if low else Float32.MIN_FINITE
            s[2 + e] = s[2 + e] if high else Float32.MIN_FINITE
        var both = SIMD[F32, 2](max(s[0], s[2]), max(s[1], s[3]))
        var best = max(self.greatest, over_keys[True](both))
        var factors = exp2(self.greatest - best)
        self.greatest = best
        var p = exp2(s - best.join(best))
        self.total = self.total * factors + SIMD[F32, 2](
            p[0] + p[2], p[1] + p[3]
        )
        return (p, factors)

    @always_inline
    def add_values[
        dtype: DType
    ](
        self,
        acc: Registers[F32, 4],
        values: Registers[dtype, 8],
        weights: SIMD[F32, 4],
        factors: SIMD[F32, 2],
    ):
        """Adds the weighted values, which must be finite."""
        comptime chunks = value_chunks[Self.D]()
        var rescale = factors.join(factors)
        var w = weights.cast[dtype]()
        var p = transposed(w.slice[2]()).join(
            transposed(w.slice[2, offset=2]())
        )
        comptime for c in range(chunks):
            var v0 = values[unsafe_offset=c]
            var v1 = values[unsafe_offset=chunks + c]
            var v2 = values[unsafe_offset=2 * chunks + c]
            var v3 = values[unsafe_offset=3 * chunks + c]
            comptime for j in range(4):
                var a = SIMD[dtype, 8](
                    v0[j],
                    v1[j],
                    v0[4 + j],
                    v1[4 + j],
                    v2[j],
                    v3[j],
                    v2[4 + j],
                    v3[4 + j],
                )
                comptime i = c * 4 + j
                acc[unsafe_offset=i] = mma_16x8x16(
                    a, p, acc[unsafe_offset=i] * rescale
                )
