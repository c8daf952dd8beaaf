"""Query/key norm, rotary position embedding, and the write into the KV cache, in one pass over the qkv product.

    qkv row t = [ q: H heads | k: KH heads | v: KH heads ], each head D values
    n   = RMSNorm(head, weight)        (parameter norm; else n = head)
    r_i       = n_i       * cos_i - n_{i+D/2} * sin_i        0 <= i < D/2, angles of positions[t]
    r_{i+D/2} = n_{i+D/2} * cos_i + n_i       * sin_i
    q -> q_out [T, H, D];   k, v -> page slots[t] / PS, row slots[t] % PS  (slot -1: not written)

(Su et al. 2021, arXiv:2104.09864, in the half-split pairing of Llama and Qwen3.) All in float32, rounded once.

One head, D = 64, half = 32, is four registers: two of each half, so a rotation needs no shuffle:

    | n_0 .. n_15 | n_16 .. n_31 || n_32 .. n_47 | n_48 .. n_63 |
          \\___________________________/   one pair of registers, one register of cosines, one of sines

The cache of one layer is [pages, 2, KH, PS, D]: keys at index 0, values at 1.
"""

from .common import (
    LANES,
    Ptr,
    load_float32,
    store_rounded,
    task_count,
    task_range,
)
from max.algorithm import sync_parallelize
from std.math import sqrt


def vector_width(size: Int) -> Int:
    """Returns the widest power of two up to LANES that divides `size`."""
    var width = LANES
    while size % width != 0:
        width //= 2
    return width


@always_inline
def head_scale[D: Int, dtype: DType](x: Ptr[dtype], eps: Float32) -> Float32:
    """Returns 1 / sqrt(mean(x^2) + eps) of one head."""
    comptime W = vector_width(D)
    var lanes = SIMD[DType.float32, W](0)
    comptime for i in range(0, D, W):
        var v = load_float32[width=W](x, i)
        lanes = v.fma(v, lanes)
    return 1 / sqrt(lanes.reduce_add() / Float32(D) + eps)


@always_inline
def rotate_head[
    D: Int, norm: Bool, dtype: DType
](
    y: Ptr[dtype],
    x: Ptr[dtype],
    weight: Ptr[dtype],
    eps: Float32,
    cos_sin: Ptr[DType.float32],
):
    """Normalises (or not) and rotates one head; `cos_sin` is the row of the token's position.
    """
    comptime half = D // 2
    comptime W = vector_width(half)
    var scale = Float32(1)
    comptime if norm:
        scale = head_scale[D](x, eps)
    comptime for i in range(0, half, W):
        var a = load_float32[width=W](x, i)
        var b = load_float32[width=W](x, i + half)
        comptime if norm:
            a = a * scale * load_float32[width=W](weight, i)
            b = b * scale * load_float32[width=W](weight, i + half)
        var c = load_float32[width=W](cos_sin, i)
        var s = load_float32[width=W](cos_sin, i + half)
        store_rounded(y, i, a * c - b * s)
        store_rounded(y, i + half, b * c + a * s)


def qk_norm_rope_write_cpu[
    D: Int, norm: Bool, dtype: DType
](
    q: Ptr[dtype],
    qkv: Ptr[dtype],
    q_weight: Ptr[dtype],
    k_weight: Ptr[dtype],
    eps: Float32,
    cos_sin: Ptr[DType.float32],
    positions: Ptr[DType.int32],
    slots: Ptr[DType.int32],
    kv: Ptr[dtype],
    rows: Int,
    heads: Int,
    kv_heads: Int,
    page_size: Int,
):
    """Writes q [rows, heads, D] and the keys and values of `rows` tokens into their pages.
    """
    var row_size = (heads + 2 * kv_heads) * D
    var tasks = task_count(4 * rows * row_size)

    def run(
        task: Int,
    ) {
        var q,
        var qkv,
        var q_weight,
        var k_weight,
        var eps,
        var cos_sin,
        var positions,
        var slots,
        var kv,
        var rows,
        var heads,
        var kv_heads,
        var page_size,
        var row_size,
        var tasks,
    }:
        var first, last = task_range(task, tasks, rows)
        for t in range(first, last):
            var angles = cos_sin.unsafe_offset(
                Int(positions[unsafe_offset=t]) * D
            )
            var source = qkv.unsafe_offset(t * row_size)
            for h in range(heads):
                var y = q.unsafe_offset((t * heads + h) * D)
                rotate_head[D, norm](
                    y, source.unsafe_offset(h * D), q_weight, eps, angles
                )
            var slot = Int(slots[unsafe_offset=t])
            if slot < 0:
                continue
            var page = kv.unsafe_offset(
                slot // page_size * 2 * kv_heads * page_size * D
                + slot % page_size * D
            )
            for h in range(kv_heads):
                var k = source.unsafe_offset((heads + h) * D)
                var v = source.unsafe_offset((heads + kv_heads + h) * D)
                rotate_head[D, norm](
                    page.unsafe_offset(h * page_size * D),
                    k,
                    k_weight,
                    eps,
                    angles,
                )
                var v_row = page.unsafe_offset((kv_heads + h) * page_size * D)
                comptime W = vector_width(D)
                comptime for i in range(0, D, W):
                    v_row.unsafe_store(i, v.unsafe_load[width=W](i))

    sync_parallelize(run, tasks)
