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

The ladder (kernels/steps/, `python -m benchmarks.ladder rope`): microseconds for 16 query and 8 key/value heads of 128
with norms in bfloat16, on two cores of an AMD EPYC (Zen 5) that copy 45 GB/s from and to memory:

    tokens                                   1        512
    cos and sin for each pair             19.7     16,802
    a table of cos and sin                 6.8      3,090     still three passes, a float32 copy of all heads between them
    one pass, 16 lanes                     1.1        210
    all cores (this file)                  1.2        107     79 GB/s, from the cache
"""

from .common import (
    LANES,
    Ptr,
    load_float32,
    store_rounded,
    task_count,
    task_range,
)
from .fork_join import Held, Job, fork_join, hold
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
    # BEGIN SOLUTION 04.5
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
    # END SOLUTION


@fieldwise_init
struct RopeJob[D: Int, norm: Bool, dtype: DType](Job):
    """The arguments of `qk_norm_rope_write_cpu`; a task is a range of tokens.
    """

    var q: Held[Self.dtype]
    var qkv: Held[Self.dtype]
    var q_weight: Held[Self.dtype]
    var k_weight: Held[Self.dtype]
    var eps: Float32
    var cos_sin: Held[DType.float32]
    var positions: Held[DType.int32]
    var slots: Held[DType.int32]
    var kv: Held[Self.dtype]
    var rows: Int
    var heads: Int
    var kv_heads: Int
    var page_size: Int
    var tasks: Int

    def run(self, task: Int):
        var first, last = task_range(task, self.tasks, self.rows)
        for t in range(first, last):
            self.token(t)

    @always_inline
    def token(self, t: Int):
        """Rotates the heads of one token, and writes its keys and values."""
        var page_size = self.page_size
        var angles = self.cos_sin.as_unsafe_any_origin().unsafe_offset(
            Int(self.positions[unsafe_offset=t]) * Self.D
        )
        var source = self.qkv.as_unsafe_any_origin().unsafe_offset(
            t * (self.heads + 2 * self.kv_heads) * Self.D
        )
        for h in range(self.heads):
            rotate_head[Self.D, Self.norm](
                self.q.as_unsafe_any_origin().unsafe_offset(
                    (t * self.heads + h) * Self.D
                ),
                source.unsafe_offset(h * Self.D),
                self.q_weight.as_unsafe_any_origin(),
                self.eps,
                angles,
            )
        var slot = Int(self.slots[unsafe_offset=t])
        if slot < 0:
            return
        var page = self.kv.as_unsafe_any_origin().unsafe_offset(
            slot // page_size * 2 * self.kv_heads * page_size * Self.D
            + slot % page_size * Self.D
        )
        for h in range(self.kv_heads):
            rotate_head[Self.D, Self.norm](
                page.unsafe_offset(h * page_size * Self.D),
                source.unsafe_offset((self.heads + h) * Self.D),
                self.k_weight.as_unsafe_any_origin(),
                self.eps,
                angles,
            )
            var v = source.unsafe_offset(
                (self.heads + self.kv_heads + h) * Self.D
            )
            var v_row = page.unsafe_offset(
                (self.kv_heads + h) * page_size * Self.D
            )
            comptime W = vector_width(Self.D)
            comptime for i in range(0, Self.D, W):
                v_row.unsafe_store(i, v.unsafe_load[width=W](i))


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
    var tasks = task_count(4 * rows * (heads + 2 * kv_heads) * D)
    fork_join(
        RopeJob[D, norm, dtype](
            hold(q),
            hold(qkv),
            hold(q_weight),
            hold(k_weight),
            eps,
            hold(cos_sin),
            hold(positions),
            hold(slots),
            hold(kv),
            rows,
            heads,
            kv_heads,
            page_size,
            tasks,
        ),
        tasks,
    )
