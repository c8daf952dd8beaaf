"""Attention on a CPU. First version: one query head at a time, keys in blocks of 64 from position 0."""

from .attention import AttentionShape
from .common import Ptr, load_float32, store_rounded, task_count, task_range
from .rope import vector_width
from max.algorithm import sync_parallelize
from std.math import exp

comptime BLOCK = 64
"""Keys between two rescalings; blocks start at multiples of it, whatever the chunk, so that a row never changes."""


@always_inline
def attend_head[
    D: Int, dtype: DType
](
    o: Ptr[dtype],
    q: Ptr[dtype],
    kv: Ptr[dtype],
    pages: Ptr[DType.int32],
    head: Int,
    kv_heads: Int,
    page_size: Int,
    first: Int,
    last: Int,
    scale: Float32,
):
    """Attends from one query head [D] to the keys first to last (inclusive) of key/value head `head`.
    """
    comptime W = vector_width(D)
    comptime R = D // W
    var scores = Array[Float32, BLOCK](fill=0)
    var acc = Array[SIMD[DType.float32, W], R](fill=0)
    var greatest = Float32.MIN
    var total = Float32(0)
    var page_stride = 2 * kv_heads * page_size * D
    for start in range(first // BLOCK * BLOCK, last + 1, BLOCK):
        var low = max(start, first)
        var high = min(start + BLOCK, last + 1)
        var before = greatest
        for j in range(low, high):
            var page = kv.unsafe_offset(
                Int(pages[unsafe_offset=j // page_size]) * page_stride
            )
            var k = page.unsafe_offset((head * page_size + j % page_size) * D)
            var dot = SIMD[DType.float32, W](0)
            comptime for r in range(R):
                dot = load_float32[width=W](q, r * W).fma(
                    load_float32[width=W](k, r * W), dot
                )
            var s = dot.reduce_add() * scale
            scores[j - start] = s
            greatest = max(greatest, s)
        var rescale = exp(before - greatest)
        total *= rescale
        comptime for r in range(R):
            acc[r] *= rescale
        for j in range(low, high):
            var page = kv.unsafe_offset(
                Int(pages[unsafe_offset=j // page_size]) * page_stride
            )
            var v = page.unsafe_offset(
                ((kv_heads + head) * page_size + j % page_size) * D
            )
            var p = exp(scores[j - start] - greatest)
            total += p
            comptime for r in range(R):
                acc[r] = load_float32[width=W](v, r * W).fma(p, acc[r])
    comptime for r in range(R):
        store_rounded(
            o, r * W, acc[r] / total if total > 0 else SIMD[DType.float32, W](0)
        )


def attention_cpu[
    D: Int, dtype: DType
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
    var tasks = task_count(shape.tokens * shape.heads * D * 64)

    def run(
        task: Int,
    ) {
        var o,
        var q,
        var kv,
        var row_offsets,
        var context_lengths,
        var page_table,
        var scale,
        var shape,
        var tasks,
    }:
        var first_item, last_item = task_range(
            task, tasks, shape.tokens * shape.heads
        )
        var b = 0
        for item in range(first_item, last_item):
            var t = item // shape.heads
            var h = item % shape.heads
            while b + 1 < shape.requests and t >= Int(
                row_offsets[unsafe_offset=b + 1]
            ):
                b += 1
            var last = (
                Int(context_lengths[unsafe_offset=b])
                - Int(row_offsets[unsafe_offset=b + 1])
                + t
            )
            if t >= Int(row_offsets[unsafe_offset=b + 1]):
                last = -1  # padding: no request owns the token
            var first = (
                max(0, last - shape.window + 1) if shape.window > 0 else 0
            )
            attend_head[D](
                o.unsafe_offset(item * D),
                q.unsafe_offset(item * D),
                kv,
                page_table.unsafe_offset(b * shape.table_width),
                h * shape.kv_heads // shape.heads,
                shape.kv_heads,
                shape.page_size,
                first,
                last,
                scale,
            )

    sync_parallelize(run, tasks)
