"""Attention of one token, step 4: the context is cut into spans, so that one request keeps all cores busy.

    span 0 | span 1 | span 2 | ...       256 keys each; every span gives a state (a, m, l) of its own
    join:   m = max m_s     o = sum_s a_s exp(m_s - m) / sum_s l_s exp(m_s - m)

(Flash decoding: Dao et al. 2023.) States lie so far apart that no two cores write to the same cache line: without the
padding the line between two spans goes back and forth for every key, and two cores gain nothing. The engine's `attention_cpu.mojo` packs keys for bfloat16 dot products in addition.
"""

from ..attention import AttentionShape
from ..common import Ptr
from ..fork_join import Held, Job, fork_join, hold
from .attention_grouped import attend_group
from .attention_pages import first_key, pages_of
from std.math import ceildiv, exp
from std.memory.alloc import unsafe_alloc

comptime SPAN = 256
comptime PADDED = 32
"""Floats for the greatest score and the sum of a state, and to the next state: two cache lines.
"""


@fieldwise_init
struct SpanJob[D: Int, W: Int, dtype: DType](Job):
    """The arguments of `attention`; task i is span i % spans of key/value head i / spans % KH of token i / spans / KH.
    """

    comptime STATE = Self.D + PADDED

    var q: Held[Self.dtype]
    var kv: Held[Self.dtype]
    var row_offsets: Held[DType.int32]
    var context_lengths: Held[DType.int32]
    var page_table: Held[DType.int32]
    var scale: Float32
    var shape: AttentionShape
    var states: Held[DType.float32]
    """[T, H, spans, STATE]; a span without keys has a sum of 0."""
    var spans: Int

    def run(self, task: Int):
        var span = task % self.spans
        var head = task // self.spans % self.shape.kv_heads
        var t = task // self.spans // self.shape.kv_heads
        var b = 0
        while Int(self.row_offsets[unsafe_offset=b + 1]) <= t:
            b += 1
        var last = (
            Int(self.context_lengths[unsafe_offset=b])
            - Int(self.row_offsets[unsafe_offset=b + 1])
            + t
        )
        var group = self.shape.heads // self.shape.kv_heads
        var row = t * self.shape.heads + head * group
        attend_group[Self.D, Self.W](
            self.states.as_unsafe_any_origin().unsafe_offset(
                (row * self.spans + span) * Self.STATE
            ),
            self.spans * Self.STATE,
            self.q.as_unsafe_any_origin().unsafe_offset(row * Self.D),
            self.kv.as_unsafe_any_origin(),
            pages_of[Self.D](
                self.page_table.as_unsafe_any_origin(), self.shape, b, head
            ),
            max(span * SPAN, first_key(last, self.shape.window)),
            min((span + 1) * SPAN, last + 1),
            self.scale,
            group,
        )


def join_spans[
    D: Int, dtype: DType
](o: Ptr[dtype], states: Ptr[DType.float32], spans: Int):
    """Writes o [D] of one head from its states [spans, D + 2]."""
    comptime STATE = D + PADDED
    var greatest = Float32.MIN_FINITE
    for s in range(spans):
        greatest = max(greatest, states[unsafe_offset=s * STATE + D])
    var total = Float32(0)
    for s in range(spans):
        var factor = exp(states[unsafe_offset=s * STATE + D] - greatest)
        states[unsafe_offset=s * STATE + D] = factor
        total += states[unsafe_offset=s * STATE + D + 1] * factor
    for d in range(D):
        var sum = Float32(0)
        for s in range(spans):
            sum += (
                states[unsafe_offset=s * STATE + d]
                * states[unsafe_offset=s * STATE + D]
            )
        o[unsafe_offset=d] = (sum / total).cast[dtype]()


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
    comptime Work = SpanJob[D, W, dtype]
    var longest = 0
    for b in range(shape.requests):
        longest = max(longest, Int(context_lengths[unsafe_offset=b]))
    var spans = max(1, ceildiv(longest, SPAN))
    var rows = Int(row_offsets[unsafe_offset=shape.requests])
    var states = unsafe_alloc[Float32](
        max(1, rows * shape.heads * spans * Work.STATE)
    )
    fork_join(
        Work(
            hold(q),
            hold(kv),
            hold(row_offsets),
            hold(context_lengths),
            hold(page_table),
            scale,
            shape,
            states,
            spans,
        ),
        rows * shape.kv_heads * spans,
    )
    for row in range(rows * shape.heads):
        join_spans[D](
            o.unsafe_offset(row * D),
            states.as_unsafe_any_origin().unsafe_offset(
                row * spans * Work.STATE
            ),
            spans,
        )
    states.unsafe_free()
