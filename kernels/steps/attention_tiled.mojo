"""Attention of many tokens, step 3: tiles. A block of keys and values is fetched and widened once for 16 query rows.

    rows      token t, head h of the group -> row (t, h): the heads of a group share keys          ROWS rows
    block     64 keys and values as float32 in scratch: 32 KB for D = 64, in the cache next to the core
    row       scores of the block -> maximum -> one rescale for 64 keys -> probabilities -> weighted values

W is how many of the D elements are taken at once: 1 is step 3, 16 is step 4 (`dot` and the weighted sums in registers).
Step 5 (`attention_cores.mojo`) gives the tiles to all cores; the engine's `attention_cpu.mojo` makes the two products of
a tile the same register tiles as in linear: lanes are keys, and no lane is ever added to another.
"""

from ..attention import AttentionShape
from ..common import Ptr
from .attention_pages import F32, Pages, dot, first_key, pages_of
from std.math import ceildiv, exp
from std.memory.alloc import unsafe_alloc

comptime ROWS = 16
comptime KEYS = 64


def scratch_size(width: Int) -> Int:
    """Floats of scratch for a tile: keys, values, queries and sums, scores, maximum and sum of each row.
    """
    return 2 * KEYS * width + 2 * ROWS * width + KEYS + 2 * ROWS


@always_inline
def add_block[
    D: Int, W: Int
](
    sums: Ptr[DType.float32],
    state: Ptr[DType.float32],
    scores: Ptr[DType.float32],
    query: Ptr[DType.float32],
    keys: Ptr[DType.float32],
    values: Ptr[DType.float32],
    first: Int,
    last: Int,
):
    """One row against keys first to last (excluded) of a block: updates sums [D] and state (maximum, sum).
    """
    var before = state[unsafe_offset=0]
    var greatest = before
    for j in range(first, last):
        var score = dot[D, W](query, keys.unsafe_offset(j * D))
        scores[unsafe_offset=j] = score
        greatest = max(greatest, score)
    var rescale = exp(before - greatest)
    var total = state[unsafe_offset=1] * rescale
    for d in range(0, D, W):
        sums.unsafe_store(d, sums.unsafe_load[width=W](d) * rescale)
    for j in range(first, last):
        var p = exp(scores[unsafe_offset=j] - greatest)
        total += p
        var value = values.unsafe_offset(j * D)
        comptime if W == 1:
            for d in range(D):
                sums[unsafe_offset=d] += p * value[unsafe_offset=d]
        else:
            comptime for d in range(0, D, W):
                sums.unsafe_store(
                    d,
                    value.unsafe_load[width=W](d).fma(
                        SIMD[F32, W](p), sums.unsafe_load[width=W](d)
                    ),
                )
    state[unsafe_offset=0] = greatest
    state[unsafe_offset=1] = total


def attend_tile[
    D: Int, W: Int, dtype: DType
](
    o: Ptr[dtype],
    q: Ptr[dtype],
    kv: Ptr[dtype],
    pages: Pages,
    group: Int,
    stride: Int,
    tokens: Int,
    position: Int,
    window: Int,
    scale: Float32,
    scratch: Ptr[DType.float32],
):
    """Writes o for `tokens` tokens from `position` on and a group of heads; o and q are at the first, `stride` a token.
    """
    var keys = scratch
    var values = keys.unsafe_offset(KEYS * D)
    var queries = values.unsafe_offset(KEYS * D)
    var sums = queries.unsafe_offset(ROWS * D)
    var scores = sums.unsafe_offset(ROWS * D)
    var states = scores.unsafe_offset(KEYS)
    var rows = tokens * group
    for r in range(rows):
        var at = r // group * stride + r % group * D
        for d in range(D):
            queries[unsafe_offset=r * D + d] = (
                q[unsafe_offset=at + d].cast[F32]() * scale
            )
            sums[unsafe_offset=r * D + d] = 0
        states[unsafe_offset=2 * r] = Float32.MIN_FINITE
        states[unsafe_offset=2 * r + 1] = 0
    var end = position + tokens
    for start in range(first_key(position, window), end, KEYS):
        var count = min(KEYS, end - start)
        for j in range(count):
            var key = kv.unsafe_offset(pages.key(start + j))
            var value = key.unsafe_offset(pages.value)
            for d in range(0, D, W):
                keys.unsafe_store(
                    j * D + d, key.unsafe_load[width=W](d).cast[F32]()
                )
                values.unsafe_store(
                    j * D + d, value.unsafe_load[width=W](d).cast[F32]()
                )
        for r in range(rows):
            var last = position + r // group
            var first = max(first_key(last, window) - start, 0)
            var stop = min(last + 1 - start, count)
            if first < stop:
                add_block[D, W](
                    sums.unsafe_offset(r * D),
                    states.unsafe_offset(2 * r),
                    scores,
                    queries.unsafe_offset(r * D),
                    keys,
                    values,
                    first,
                    stop,
                )
    for r in range(rows):
        var at = r // group * stride + r % group * D
        for d in range(D):
            o[unsafe_offset=at + d] = (
                sums[unsafe_offset=r * D + d] / states[unsafe_offset=2 * r + 1]
            ).cast[dtype]()


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
    """Writes o [T, H, D] for queries q [T, H, D] over the cache [pages, 2, KH, PS, D]; at most ROWS heads share keys.
    """
    var group = shape.heads // shape.kv_heads
    var tile = max(1, ROWS // group)
    var scratch = unsafe_alloc[Float32](scratch_size(D))
    for b in range(shape.requests):
        var end = Int(row_offsets[unsafe_offset=b + 1])
        var before = Int(context_lengths[unsafe_offset=b]) - end
        for head in range(shape.kv_heads):
            var pages = pages_of[D](page_table, shape, b, head)
            for t in range(Int(row_offsets[unsafe_offset=b]), end, tile):
                var at = (t * shape.heads + head * group) * D
                attend_tile[D, W](
                    o.unsafe_offset(at),
                    q.unsafe_offset(at),
                    kv,
                    pages,
                    group,
                    shape.heads * D,
                    min(tile, end - t),
                    before + t,
                    shape.window,
                    scale,
                    scratch.as_unsafe_any_origin(),
                )
    scratch.unsafe_free()
