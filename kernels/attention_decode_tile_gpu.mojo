"""Attention of eight query heads over 16 keys, by one warp on tensor cores: what the decode kernels share.

The heads of a group that share a key/value head are the eight rows of one tile, so a key is read once for all of them.
Keys and values lie in registers, 16 bytes a lane, as they come from memory:

    S [8 heads, 16 keys] = Q K^T      k index = head dimension, renumbered as in linear_skinny_gpu.mojo:
                                      lane 4 g + t has k[key g][32 c + 8 t ... + 7]
    softmax over keys                 two shuffles: the four lanes of a quad have the keys of head g
    O^T [D, 8 heads] += V^T P^T       the accumulator of S is the B operand P^T as it stands; V^T is packed from
                                      v[key][64 c + 8 g ... + 7] of keys 2t, 2t+1, 2t+8, 2t+9

Softmax is in powers of two; each lane keeps the greatest score, the sum and the weighted values of its warp's keys.
"""

from .common import Ptr
from .gpu_common import (
    Registers,
    SharedPtr,
    group_max,
    group_sum,
    load_vector,
)
from .mma_gpu import mma_16x8x16
from max.gpu import lane_id
from max.gpu.primitives import warp
from std.math import ceildiv, exp2

comptime GROUP = 8
"""Query heads of a tile."""


def key_slices[D: Int]() -> Int:
    """Vectors of 8 elements that a lane has of a key: the four lanes of a quad share it.
    """
    return ceildiv(D, 32)


def value_chunks[D: Int]() -> Int:
    """Vectors of 8 elements that a lane has of a value: eight groups of lanes share it.
    """
    return ceildiv(D, 64)


@always_inline
def load_query[
    D: Int, dtype: DType
](query: Registers[dtype, 8], q: Ptr[dtype], first_head: Int, head_count: Int,):
    """Fills a lane's slices of the tile's heads, which begin `first_head` heads into q; missing heads are zero.
    """
    var g = Int(lane_id()) >> 2
    var t = Int(lane_id()) & 3
    comptime for c in range(key_slices[D]()):
        var at = c * 32 + t * 8
        var v = SIMD[dtype, 8](0)
        if g < head_count and at < D:
            v = load_vector[dtype, 8](q, (first_head + g) * D + at)
        query[unsafe_offset=c] = v


@always_inline
def attend_16_keys[
    D: Int, dtype: DType
](
    query: Registers[dtype, 8],
    keys: Registers[dtype, 8],
    values: Registers[dtype, 8],
    acc: Registers[DType.float32, 4],
    mut greatest: Float32,
    mut total: Float32,
    scale: Float32,
    base: Int,
    begin: Int,
    end: Int,
):
    """Adds keys base to base + 15 to the state of a warp; those outside [begin, end) do not count, and at least one
    key of the tile must be inside. Values outside must be finite. `scale` includes log2(e).
    """
    comptime F32 = DType.float32
    comptime slices = key_slices[D]()
    comptime chunks = value_chunks[D]()
    var t = Int(lane_id()) & 3
    var scores = SIMD[F32, 4](0)
    comptime for i in range(2):
        var sum = SIMD[F32, 4](0)
        comptime for c in range(slices):
            comptime for half in range(2):
                var e = query[unsafe_offset=c].slice[4, offset=half * 4]()
                var a = SIMD[dtype, 8](e[0], e[1], 0, 0, e[2], e[3], 0, 0)
                var k = keys[unsafe_offset=i * slices + c].slice[
                    4, offset=half * 4
                ]()
                sum = mma_16x8x16(a, k, sum)
        comptime for e in range(2):
            var j = base + i * 8 + 2 * t + e
            scores[i * 2 + e] = (
                sum[e] * scale if j >= begin and j < end else Float32.MIN_FINITE
            )
    var best = max(greatest, group_max[4](scores.reduce_max()))
    var rescale = exp2(greatest - best)
    greatest = best
    var p = SIMD[F32, 4](0)
    comptime for e in range(4):
        var j = base + (e >> 1) * 8 + 2 * t + (e & 1)
        p[e] = exp2(scores[e] - best) if j >= begin and j < end else Float32(0)
    total = total * rescale + p.reduce_add()
    # Columns of the accumulator are heads 2t and 2t + 1; their factors are in quads 2t and 2t + 1.
    var even = warp.shuffle_idx(rescale, UInt32(8 * t))
    var odd = warp.shuffle_idx(rescale, UInt32(8 * t + 4))
    var factors = SIMD[F32, 4](even, odd, even, odd)
    var weights = p.cast[dtype]()
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
                a, weights, acc[unsafe_offset=i] * factors
            )


@always_inline
def store_state[
    D: Int
](
    sums: SharedPtr[DType.float32],
    stats: SharedPtr[DType.float32],
    acc: Registers[DType.float32, 4],
    greatest: Float32,
    total: Float32,
    warp: Int,
):
    """Puts the state of warp number `warp` into shared memory: sums [warp][GROUP][D], stats [warp][GROUP][2], the greatest
    score and the sum.
    """
    var g = Int(lane_id()) >> 2
    var t = Int(lane_id()) & 3
    var all = group_sum[4](total)
    if t == 0:
        stats[unsafe_offset=(warp * GROUP + g) * 2] = greatest
        stats[unsafe_offset=(warp * GROUP + g) * 2 + 1] = all
    comptime for c in range(value_chunks[D]()):
        comptime for j in range(4):
            var v = acc[unsafe_offset=c * 4 + j]
            comptime for e in range(4):
                var d = c * 64 + g * 8 + j + (e >> 1) * 4
                var head = 2 * t + (e & 1)
                if d < D:
                    sums[unsafe_offset=(warp * GROUP + head) * D + d] = v[e]


@always_inline
def joined_state[
    D: Int, warps: Int
](
    sums: SharedPtr[DType.float32],
    stats: SharedPtr[DType.float32],
    head: Int,
    d: Int,
) -> SIMD[DType.float32, 4]:
    """The warps' states of one head and element as one: (weighted sum, greatest score, sum of weights, 0).
    """
    var best = Float32.MIN_FINITE
    comptime for v in range(warps):
        best = max(best, stats[unsafe_offset=(v * GROUP + head) * 2])
    var numerator = Float32(0)
    var denominator = Float32(0)
    comptime for v in range(warps):
        var at = v * GROUP + head
        var weight = exp2(stats[unsafe_offset=at * 2] - best)
        numerator += sums[unsafe_offset=at * D + d] * weight
        denominator += stats[unsafe_offset=at * 2 + 1] * weight
    return SIMD[DType.float32, 4](numerator, best, denominator, 0)
