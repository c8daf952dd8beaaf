"""Query/key norm, RoPE and cache write on a GPU, first version: one block a head of a token, one thread a pair."""

from .common import Ptr
from max.gpu import block_idx, thread_idx
from max.gpu.host import DeviceContext
from std.math import sqrt


def qk_norm_rope_write_kernel[
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
    heads: Int32,
    kv_heads: Int32,
    page_size: Int32,
):
    """Block (t, h) handles head h of [q | k | v] of token t; thread i the pair (i, i + D/2).
    """
    comptime half = D // 2
    var t = Int(block_idx.x)
    var h = Int(block_idx.y)
    var i = Int(thread_idx.x)
    var H = Int(heads)
    var KH = Int(kv_heads)
    var PS = Int(page_size)
    var x = qkv.unsafe_offset((t * (H + 2 * KH) + h) * D)
    var y = q.unsafe_offset((t * H + h) * D)
    if h >= H:
        var slot = Int(slots[unsafe_offset=t])
        if slot < 0:
            return
        # Head h - H counts the keys' heads, then the values': the same order as in the page.
        y = kv.unsafe_offset(
            ((slot // PS * 2 * KH + h - H) * PS + slot % PS) * D
        )
    if i >= half:
        return
    if h >= H + KH:
        y[unsafe_offset=i] = x[unsafe_offset=i]
        y[unsafe_offset=i + half] = x[unsafe_offset=i + half]
        return
    var a = x[unsafe_offset=i].cast[DType.float32]()
    var b = x[unsafe_offset=i + half].cast[DType.float32]()
    comptime if norm:
        var squares = Float32(0)
        for e in range(D):
            var v = x[unsafe_offset=e].cast[DType.float32]()
            squares += v * v
        var scale = 1 / sqrt(squares / Float32(D) + eps)
        var weight = q_weight if h < H else k_weight
        a = a * scale * weight[unsafe_offset=i].cast[DType.float32]()
        b = b * scale * weight[unsafe_offset=i + half].cast[DType.float32]()
    var angles = cos_sin.unsafe_offset(Int(positions[unsafe_offset=t]) * D)
    var c = angles[unsafe_offset=i]
    var s = angles[unsafe_offset=i + half]
    y[unsafe_offset=i] = (a * c - b * s).cast[dtype]()
    y[unsafe_offset=i + half] = (b * c + a * s).cast[dtype]()


def qk_norm_rope_write_gpu[
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
    ctx: DeviceContext,
) raises:
    """Writes q [rows, heads, D] and the keys and values of `rows` tokens into their pages.
    """
    if rows == 0:
        return
    ctx.enqueue_function[qk_norm_rope_write_kernel[D, norm, dtype]](
        q,
        qkv,
        q_weight,
        k_weight,
        eps,
        cos_sin,
        positions,
        slots,
        kv,
        Int32(heads),
        Int32(kv_heads),
        Int32(page_size),
        grid_dim=(rows, heads + 2 * kv_heads),
        block_dim=D // 2,
    )
