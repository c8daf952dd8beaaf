"""Attention of one token, step 3: the query heads of a group share each read of a key and of a value.

    key j      -> registers, widened once ->  s of head 0, head 1, ... of the group
    value j    -> registers, widened once ->  a of head 0, head 1, ...

Decoding is bound by reading the cache, and every head by itself (step 2) reads it H / KH times. The state of a head is
its weighted sums [D], then the greatest score and the sum of exponentials, in float32.
"""

from ..attention import AttentionShape
from ..common import Ptr
from .attention_pages import F32, Pages, first_key, pages_of
from std.collections import Array
from std.math import exp
from std.memory.alloc import unsafe_alloc


@always_inline
def load_row[
    D: Int, W: Int, dtype: DType
](p: Ptr[dtype]) -> Array[SIMD[F32, W], D // W]:
    """D elements as float32 in registers."""
    var row = Array[SIMD[F32, W], D // W](fill=SIMD[F32, W](0))
    comptime for i in range(D // W):
        row[i] = p.unsafe_load[width=W](i * W).cast[F32]()
    return row^


def attend_group[
    D: Int, W: Int, dtype: DType
](
    states: Ptr[DType.float32],
    stride: Int,
    q: Ptr[dtype],
    kv: Ptr[dtype],
    pages: Pages,
    first: Int,
    last: Int,
    scale: Float32,
    group: Int,
):
    """Fills the states [D + 2], `stride` apart, of a group's heads q [group, D] over keys first to last (excluded).
    """
    for g in range(group):
        var state = states.unsafe_offset(g * stride)
        for d in range(D):
            state[unsafe_offset=d] = 0
        state[unsafe_offset=D] = Float32.MIN_FINITE
        state[unsafe_offset=D + 1] = 0
    for j in range(first, last):
        var at = pages.key(j)
        var key = load_row[D, W](kv.unsafe_offset(at))
        var value = load_row[D, W](kv.unsafe_offset(at + pages.value))
        for g in range(group):
            var state = states.unsafe_offset(g * stride)
            var query = q.unsafe_offset(g * D)
            var lanes = SIMD[F32, W](0)
            comptime for i in range(D // W):
                lanes = (
                    query.unsafe_load[width=W](i * W)
                    .cast[F32]()
                    .fma(key[i], lanes)
                )
            var score = scale * lanes.reduce_add()
            if score > state[unsafe_offset=D]:
                var rescale = exp(state[unsafe_offset=D] - score)
                state[unsafe_offset=D] = score
                state[unsafe_offset=D + 1] *= rescale
                comptime for i in range(D // W):
                    state.unsafe_store(
                        i * W, state.unsafe_load[width=W](i * W) * rescale
                    )
            var p = exp(score - state[unsafe_offset=D])
            state[unsafe_offset=D + 1] += p
            comptime for i in range(D // W):
                state.unsafe_store(
                    i * W,
                    value[i].fma(
                        SIMD[F32, W](p), state.unsafe_load[width=W](i * W)
                    ),
                )


def attention[
    D: Int, W: Int, dtype: DType
](
    o: Ptr[dtype],
    q: Ptr[dtype],
    kv: Ptr[dtype],
    row_offsets: Ptr[DType.int32],
    context_lengths: Ptr[DType.int32],
    page_table: Ptr[DType.int32],
    scale: Float32,
    shape: AttentionShape,
):
    """Writes o [T, H, D] for queries q [T, H, D] over the cache [pages, 2, KH, PS, D].
    """
    comptime STATE = D + 2
    var group = shape.heads // shape.kv_heads
    var states = unsafe_alloc[Float32](group * STATE)
    for b in range(shape.requests):
        var end = Int(row_offsets[unsafe_offset=b + 1])
        var before = Int(context_lengths[unsafe_offset=b]) - end
        for t in range(Int(row_offsets[unsafe_offset=b]), end):
            for head in range(shape.kv_heads):
                var at = (t * shape.heads + head * group) * D
                attend_group[D, W](
                    states.as_unsafe_any_origin(),
                    STATE,
                    q.unsafe_offset(at),
                    kv,
                    pages_of[D](page_table, shape, b, head),
                    first_key(before + t, shape.window),
                    before + t + 1,
                    scale,
                    group,
                )
                for g in range(group):
                    var state = states.unsafe_offset(g * STATE)
                    for d in range(D):
                        o[unsafe_offset=at + g * D + d] = (
                            state[unsafe_offset=d] / state[unsafe_offset=D + 1]
                        ).cast[dtype]()
    states.unsafe_free()
