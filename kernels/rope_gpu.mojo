"""Query/key norm, rotary embedding (arXiv:2104.09864) and the write into the KV cache, one kernel.

A head of the joined projection is normalised (Qwen3 only), rotated by its position, and stored: queries to `q`, keys
and values to the page that `slots` names.

    n = x * rsqrt(mean(x^2) + eps) * weight            over the D elements of the head, in float32
    y[i]         = n[i] cos_i - n[i + D/2] sin_i
    y[i + D/2]   = n[i + D/2] cos_i + n[i] sin_i       i < D/2, angle i of position p in cos_sin[p]

A few lanes share a head, so that each lane loads 16 bytes of the first half and 16 bytes of the second half: the two
numbers of a rotated pair meet in one lane. D = 128 in bfloat16:

    lane      0        1      ...     7         8 lanes a head, four heads a warp
    lo     x[0:8]   x[8:16]        x[56:64]
    hi     x[64:72] x[72:80]       x[120:128]   the sum of squares: three shuffles

Fused, a token's q, k and v are read once and written once: (H + 2 KH) D elements each way. Slots, angles and weights, which no
kernel of the step writes, come before the wait for the kernel before. Microseconds on an H100, 16 query and 8 key/value heads of
128 in bfloat16 (benchmarks/results/2026-11-26_h100_rowwise.json; the first line: benchmarks of the same day):

    tokens                                   1       64      256     4,096
    one after the other, 256 threads      1.61     1.71     2.90      27.3
    before the wait; 64 threads for few   0.95     1.25     2.71      26.7
    torch.compile                         8.82     10.0     15.7      83.8
"""

from std.math import ceildiv, rsqrt
from std.memory import stack_allocation

from max.gpu import block_idx, thread_idx
from max.gpu.host import DeviceContext

from .common import Ptr
from .gpu_common import (
    early_launch,
    group_sum,
    load_vector,
    log2_exact,
    pow2_at_least,
    store_vector,
    vector_width,
    wait_for_previous,
)


@always_inline
def rope_width[dtype: DType, head_dim: Int]() -> Int:
    """The widest vector of at most 16 bytes that divides half a head."""
    var width = vector_width[dtype]()
    while (head_dim // 2) % width != 0:
        width //= 2
    return width


@__name(t"mili_qk_norm_rope_write_{dtype}_{head_dim}_{norm}_{threads}")
def qk_norm_rope_write_kernel[
    head_dim: Int, norm: Bool, dtype: DType, threads: Int
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
    tokens: UInt32,
    heads: UInt32,
    kv_heads: UInt32,
    page_shift: UInt32,
):
    """A group of lanes has one head of one token; heads of a token count queries, then keys, then values.
    """
    comptime F32 = DType.float32
    comptime half = head_dim // 2
    comptime width = rope_width[dtype, head_dim]()
    comptime lanes = min(pow2_at_least(half // width), 32)
    comptime steps = ceildiv(half // width, lanes)

    var n = UInt32(block_idx.x) * UInt32(threads) + UInt32(thread_idx.x)
    var item = n // UInt32(lanes)
    var lane = Int(n % UInt32(lanes))
    var all_heads = heads + 2 * kv_heads
    var live = item < tokens * all_heads
    if not live:  # idle groups still take part in the shuffles
        item = 0
    var token = item // all_heads
    var head = item - token * all_heads
    var is_query = head < heads
    var is_value = head >= heads + kv_heads
    var source = Int(item) * head_dim
    var weight = q_weight if is_query else k_weight

    # What the step was given and what never changes comes while the kernel before ends.
    var slot = slots[unsafe_offset=Int(token)]
    var angles = Int(positions[unsafe_offset=Int(token)]) * head_dim
    var cosines = stack_allocation[steps, SIMD[F32, width]]()
    var sines = stack_allocation[steps, SIMD[F32, width]]()
    var low_weights = stack_allocation[steps, SIMD[dtype, width]]()
    var high_weights = stack_allocation[steps, SIMD[dtype, width]]()
    comptime for s in range(steps):
        var e = min((lane + s * lanes) * width, half - width)
        cosines[unsafe_offset=s] = load_vector[F32, width](cos_sin, angles + e)
        sines[unsafe_offset=s] = load_vector[F32, width](
            cos_sin, angles + half + e
        )
        comptime if norm:
            low_weights[unsafe_offset=s] = load_vector[dtype, width](weight, e)
            high_weights[unsafe_offset=s] = load_vector[dtype, width](
                weight, half + e
            )
    wait_for_previous()

    var lo = stack_allocation[steps, SIMD[F32, width]]()
    var hi = stack_allocation[steps, SIMD[F32, width]]()
    var squares = SIMD[F32, width](0)
    comptime for s in range(steps):
        var e = (lane + s * lanes) * width
        lo[unsafe_offset=s] = SIMD[F32, width](0)
        hi[unsafe_offset=s] = SIMD[F32, width](0)
        if e < half:
            lo[unsafe_offset=s] = load_vector[dtype, width](
                qkv, source + e
            ).cast[F32]()
            hi[unsafe_offset=s] = load_vector[dtype, width](
                qkv, source + half + e
            ).cast[F32]()
        squares += (
            lo[unsafe_offset=s] * lo[unsafe_offset=s]
            + hi[unsafe_offset=s] * hi[unsafe_offset=s]
        )
    var scale = Float32(1)
    comptime if norm:
        var mean = group_sum[lanes](squares.reduce_add()) / Float32(head_dim)
        scale = rsqrt(mean + eps)
    if not live:
        return

    var target = q
    var at = Int(token * heads + head) * head_dim
    if not is_query:
        if slot < 0:
            return
        var page_size = Int(1) << Int(page_shift)
        var page = Int(slot) >> Int(page_shift)
        var kv_head = Int((head - heads) % kv_heads)
        var which = 1 if is_value else 0
        target = kv
        at = (
            ((page * 2 + which) * Int(kv_heads) + kv_head) * page_size
            + (Int(slot) & (page_size - 1))
        ) * head_dim
    comptime for s in range(steps):
        var e = (lane + s * lanes) * width
        if e < half:
            var a = lo[unsafe_offset=s]
            var b = hi[unsafe_offset=s]
            if not is_value:
                comptime if norm:
                    a *= scale * low_weights[unsafe_offset=s].cast[F32]()
                    b *= scale * high_weights[unsafe_offset=s].cast[F32]()
                var c = cosines[unsafe_offset=s]
                var d = sines[unsafe_offset=s]
                var rotated = a * c - b * d
                b = b * c + a * d
                a = rotated
            store_vector[dtype, width](target, at + e, a.cast[dtype]())
            store_vector[dtype, width](target, at + half + e, b.cast[dtype]())


def qk_norm_rope_write_gpu[
    head_dim: Int, norm: Bool, dtype: DType
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
    """Writes q [rows, heads, D] and the keys and values of `rows` tokens into their pages; slot -1 writes neither.
    """
    if rows == 0:
        return
    comptime width = rope_width[dtype, head_dim]()
    comptime lanes = min(pow2_at_least(head_dim // 2 // width), 32)
    var all_threads = rows * (heads + 2 * kv_heads) * lanes

    def go[threads: Int]() raises {imm}:
        ctx.enqueue_function[
            qk_norm_rope_write_kernel[head_dim, norm, dtype, threads]
        ](
            q,
            qkv,
            q_weight,
            k_weight,
            eps,
            cos_sin,
            positions,
            slots,
            kv,
            UInt32(rows),
            UInt32(heads),
            UInt32(kv_heads),
            UInt32(log2_exact(page_size)),
            grid_dim=ceildiv(all_threads, threads),
            block_dim=threads,
            attributes=early_launch(),
        )

    # Small blocks where every multiprocessor gets one at most: there the time is that of one block.
    if all_threads <= 64 * DeviceContext.default_device_info.sm_count:
        go[64]()
    else:
        go[256]()
