"""Query/key norm, RoPE and the write into pages, step 2: cosines and sines from a table, made once for all layers.

    cos_sin[p]   | D/2 cosines | D/2 sines |  of position p, float32: a row of 512 bytes for D = 128, in the cache

Still three passes with a float32 copy of all heads in between.
"""

from ..common import Ptr
from std.math import sqrt
from std.memory.alloc import unsafe_alloc


def norm_heads[
    D: Int, norm: Bool, dtype: DType
](
    n: Ptr[DType.float32],
    qkv: Ptr[dtype],
    q_weight: Ptr[dtype],
    k_weight: Ptr[dtype],
    eps: Float32,
    rows: Int,
    heads: Int,
    kv_heads: Int,
):
    """Pass 1: writes n [rows, heads + kv_heads, D], queries then keys, normalised if `norm`.
    """
    var turned = heads + kv_heads
    for t in range(rows):
        for h in range(turned):
            var source = qkv.unsafe_offset((t * (turned + kv_heads) + h) * D)
            var to = n.unsafe_offset((t * turned + h) * D)
            var scale = Float32(1)
            comptime if norm:
                var squares = Float32(0)
                for i in range(D):
                    var v = source[unsafe_offset=i].cast[DType.float32]()
                    squares += v * v
                scale = 1 / sqrt(squares / Float32(D) + eps)
            for i in range(D):
                var v = source[unsafe_offset=i].cast[DType.float32]() * scale
                comptime if norm:
                    if h < heads:
                        v *= q_weight[unsafe_offset=i].cast[DType.float32]()
                    else:
                        v *= k_weight[unsafe_offset=i].cast[DType.float32]()
                to[unsafe_offset=i] = v


def write_heads[
    D: Int, dtype: DType
](
    q: Ptr[dtype],
    kv: Ptr[dtype],
    n: Ptr[DType.float32],
    qkv: Ptr[dtype],
    slots: Ptr[DType.int32],
    rows: Int,
    heads: Int,
    kv_heads: Int,
    page_size: Int,
):
    """Pass 3: rounds the heads n into q and into the pages, and copies the values of qkv.
    """
    var turned = heads + kv_heads
    for t in range(rows):
        for i in range(heads * D):
            q[unsafe_offset=t * heads * D + i] = n[
                unsafe_offset=t * turned * D + i
            ].cast[dtype]()
        var slot = Int(slots[unsafe_offset=t])
        if slot < 0:
            continue
        var page = slot // page_size * 2 * kv_heads
        for h in range(kv_heads):
            var key = ((page + h) * page_size + slot % page_size) * D
            var value = key + kv_heads * page_size * D
            for i in range(D):
                kv[unsafe_offset=key + i] = n[
                    unsafe_offset=(t * turned + heads + h) * D + i
                ].cast[dtype]()
                kv[unsafe_offset=value + i] = qkv[
                    unsafe_offset=(t * (turned + kv_heads) + turned + h) * D + i
                ]


def qk_norm_rope_write[
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
    comptime half = D // 2
    var turned = heads + kv_heads
    var scratch = unsafe_alloc[Float32](max(1, rows * turned * D))
    var n = scratch.as_unsafe_any_origin()
    norm_heads[D, norm](n, qkv, q_weight, k_weight, eps, rows, heads, kv_heads)
    for t in range(rows):
        var angles = cos_sin.unsafe_offset(Int(positions[unsafe_offset=t]) * D)
        for h in range(turned):
            var head = n.unsafe_offset((t * turned + h) * D)
            for i in range(half):
                var c = angles[unsafe_offset=i]
                var s = angles[unsafe_offset=i + half]
                var a = head[unsafe_offset=i]
                var b = head[unsafe_offset=i + half]
                head[unsafe_offset=i] = a * c - b * s
                head[unsafe_offset=i + half] = b * c + a * s
    write_heads[D](q, kv, n, qkv, slots, rows, heads, kv_heads, page_size)
    scratch.unsafe_free()
