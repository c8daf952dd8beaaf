"""Query/key norm, RoPE and the write into pages, step 1: three passes, and the angles where they are needed.

    pass 1   norm of every query and key head             float32 [T, H + KH, D], written to memory
    pass 2   cos and sin of position * theta^(-2i/D)      once for each pair of each head of each token
    pass 3   queries to q, keys and values to their pages

Heads of a token turn by the same angles, and tokens at the same position in every layer do too: that is what step 2
uses. `theta` alone gives the frequencies here, without any scaling of the context.
"""

from ..common import Ptr
from .rope_table import norm_heads, write_heads
from std.math import cos, sin
from std.memory.alloc import unsafe_alloc


def qk_norm_rope_write[
    D: Int, norm: Bool, dtype: DType
](
    q: Ptr[dtype],
    qkv: Ptr[dtype],
    q_weight: Ptr[dtype],
    k_weight: Ptr[dtype],
    eps: Float32,
    theta: Float64,
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
        var position = Float64(positions[unsafe_offset=t])
        for h in range(turned):
            var head = n.unsafe_offset((t * turned + h) * D)
            for i in range(half):
                var angle = position * theta ** (-2 * Float64(i) / Float64(D))
                var c = cos(angle).cast[DType.float32]()
                var s = sin(angle).cast[DType.float32]()
                var a = head[unsafe_offset=i]
                var b = head[unsafe_offset=i + half]
                head[unsafe_offset=i] = a * c - b * s
                head[unsafe_offset=i + half] = b * c + a * s
    write_heads[D](q, kv, n, qkv, slots, rows, heads, kv_heads, page_size)
    scratch.unsafe_free()
