"""One item of the CPU's attention: a tile of query rows of one request and one key/value head, over its pages.

    copy queries | for each span: for each block of 64 keys: pack, attend six rows at a time | join spans | divide
"""

from .attention import AttentionShape
from .attention_pages import fetch_block, find_block, values_after_keys
from .attention_pack import pack_block
from .attention_softmax import LOG2_E
from .attention_tile import (
    BLOCK,
    ROWS,
    SPAN,
    Geometry,
    Rows,
    attend,
    clear_state,
    join_state,
)
from .common import LANES, Ptr, load_float32, store_rounded, task_range
from .fork_join import Held, Job
from .linear_tile import DOT_BFLOAT16
from .rope import vector_width
from std.math import ceildiv
from std.memory.alloc import unsafe_alloc

comptime ITEM = 5
"""Numbers of an item: request, key/value head, first token, tokens, span (or ALL)."""
comptime ALL = -1
"""In place of a span: the item walks all of them."""


@fieldwise_init
struct AttentionJob[D: Int, dtype: DType, kind: Int](Job):
    """The arguments of `attention_cpu`; a task is a range of items."""

    comptime G = Geometry[Self.D, Self.kind]

    var o: Held[Self.dtype]
    var q: Held[Self.dtype]
    var kv: Held[Self.dtype]
    var row_offsets: Held[DType.int32]
    var context_lengths: Held[DType.int32]
    var page_table: Held[DType.int32]
    var items: Held[DType.int32]
    """Request, key/value head, first token, tokens, span (or ALL): [count, ITEM]."""
    var count: Int
    var tasks: Int
    var cores: Int
    var parts: Held[DType.float32]
    """States of the rows' spans, [T, H, spans, STATE], where items are single spans."""
    var spans: Int
    var scale: Float32
    var shape: AttentionShape

    def run(self, task: Int):
        var first, last = task_range(task, self.tasks, self.count)
        for i in range(first, last):
            self.attend_item(i)

    @always_inline
    def rows(self, request: Int, token: Int) -> Rows:
        """The rows of a tile that starts at a token."""
        var end = Int(self.row_offsets[unsafe_offset=request + 1])
        var context = Int(self.context_lengths[unsafe_offset=request])
        return Rows(
            self.shape.heads // self.shape.kv_heads,
            context - end + token,
            self.shape.window,
            self.scale * LOG2_E,
        )

    def attend_item(self, index: Int):
        """Computes one item: the outputs of its rows, or their states of one span.
        """
        var item = self.items.unsafe_offset(index * ITEM)
        var request = Int(item[unsafe_offset=0])
        var head = Int(item[unsafe_offset=1])
        var token = Int(item[unsafe_offset=2])
        var tokens = Int(item[unsafe_offset=3])
        var only = Int(item[unsafe_offset=4])
        var rows = self.rows(request, token)
        var count = tokens * rows.group
        var geometry = Self.G(count)
        var memory = unsafe_alloc[Float32](geometry.size(), alignment=64)
        var scratch = memory.as_unsafe_any_origin()
        var units = scratch.unsafe_bitcast[Int32]()
        self.copy_queries(scratch, token, tokens, head, rows.group)
        for r in range(count):
            clear_state[Self.G.WIDTH](
                scratch.unsafe_offset(geometry.total() + r * Self.G.STATE)
            )
        var last_key = rows.last_key(count - 1)
        var first_key = rows.first_key(0)
        var first_span = first_key // SPAN if only == ALL else only
        var end_span = last_key // SPAN + 1 if only == ALL else only + 1
        var end_key = min(end_span * SPAN, last_key + 1)
        var places = Array[Int64, 2 * BLOCK](fill=0)
        var here = Ptr[DType.int64](to=places[0])
        var ahead = here.unsafe_offset(BLOCK)
        self.find(
            request,
            head,
            max(first_span * SPAN, first_key // BLOCK * BLOCK),
            last_key,
            here,
        )
        var kv = self.kv.as_unsafe_any_origin().unsafe_bitcast[Int32]()
        fetch_block[Self.G.UNITS, BLOCK](kv, self.shape, here)
        for span in range(first_span, end_span):
            for r in range(count):
                clear_state[Self.G.WIDTH](
                    scratch.unsafe_offset(geometry.span() + r * Self.G.STATE)
                )
                scratch.unsafe_store(
                    geometry.sums() + r * LANES, SIMD[DType.float32, LANES](0)
                )
            var from_key = max(span * SPAN, first_key // BLOCK * BLOCK)
            for key in range(
                from_key, min((span + 1) * SPAN, last_key + 1), BLOCK
            ):
                if key + BLOCK < end_key:
                    self.find(request, head, key + BLOCK, last_key, ahead)
                else:
                    self.find_first(index + self.cores, here, ahead)
                pack_block[Self.D, BLOCK, Self.G.PAIRS](
                    units.unsafe_offset(geometry.keys()),
                    units.unsafe_offset(geometry.values()),
                    kv,
                    values_after_keys[Self.G.UNITS](self.shape),
                    here,
                    ahead,
                )
                swap(here, ahead)
                var groups = ceildiv(count, ROWS)
                for g in range(groups):
                    var first, last = task_range(g, groups, count)
                    comptime for height in range(1, ROWS + 1):
                        if last - first == height:
                            attend[Self.D, Self.kind, height](
                                scratch, geometry, rows, first, key
                            )
            for r in range(count):
                var state = scratch.unsafe_offset(
                    geometry.span() + r * Self.G.STATE
                )
                var sums = scratch.unsafe_load[width=LANES](
                    geometry.sums() + r * LANES
                )
                state[unsafe_offset=Self.G.WIDTH + 1] = sums.reduce_add()
                if only == ALL:
                    join_state[Self.G.WIDTH](
                        scratch.unsafe_offset(
                            geometry.total() + r * Self.G.STATE
                        ),
                        state,
                        rows.factor,
                    )
                else:
                    self.keep(state, self.row(token, head, r), span)
        if only == ALL:
            for r in range(count):
                self.finish(
                    scratch.unsafe_offset(geometry.total() + r * Self.G.STATE),
                    self.row(token, head, r),
                )
        memory.unsafe_free()

    @always_inline
    def row(self, token: Int, head: Int, r: Int) -> Int:
        """Which of the T * H rows of q and o is row r of a tile."""
        var group = self.shape.heads // self.shape.kv_heads
        return (
            (token + r // group) * self.shape.heads + head * group + r % group
        )

    def copy_queries(
        self,
        scratch: Ptr[DType.float32],
        token: Int,
        tokens: Int,
        head: Int,
        group: Int,
    ):
        """Writes the tile's queries one after another, as pairs for dot products and else as float32.
        """
        comptime W = vector_width(Self.D)
        for r in range(tokens * group):
            var q = self.q.as_unsafe_any_origin().unsafe_offset(
                self.row(token, head, r) * Self.D
            )
            comptime for i in range(0, Self.D, W):
                var at = r * Self.D + i
                comptime if Self.kind == DOT_BFLOAT16:
                    var to = scratch.unsafe_bitcast[Scalar[Self.dtype]]()
                    to.unsafe_store(at, q.unsafe_load[width=W](i))
                else:
                    scratch.unsafe_store(at, load_float32[width=W](q, i))

    @always_inline
    def find(
        self,
        request: Int,
        head: Int,
        key: Int,
        last_key: Int,
        rows: Ptr[DType.int64],
    ):
        """Writes rows [BLOCK]: where the keys from position `key` on begin."""
        var pages = self.page_table.unsafe_offset(
            request * self.shape.table_width
        )
        find_block[Self.G.UNITS, BLOCK](
            pages.as_unsafe_any_origin(), self.shape, head, key, last_key, rows
        )

    def find_first(
        self, index: Int, here: Ptr[DType.int64], rows: Ptr[DType.int64]
    ):
        """As `find`, for the first block of an item that this core may take next; `here` if there is none.
        """
        if index < self.count:
            var item = self.items.unsafe_offset(index * ITEM)
            var request = Int(item[unsafe_offset=0])
            var only = Int(item[unsafe_offset=4])
            var next = self.rows(request, Int(item[unsafe_offset=2]))
            var first_key = next.first_key(0) // BLOCK * BLOCK
            self.find(
                request,
                Int(item[unsafe_offset=1]),
                first_key if only == ALL else max(only * SPAN, first_key),
                next.last_key(Int(item[unsafe_offset=3]) * next.group - 1),
                rows,
            )
        else:
            for i in range(0, BLOCK, LANES):
                rows.unsafe_store(i, here.unsafe_load[width=LANES](i))

    @always_inline
    def keep(self, state: Ptr[DType.float32], row: Int, span: Int):
        """Copies a row's state of one span to `parts`."""
        var to = self.parts.unsafe_offset(
            (row * self.spans + span) * Self.G.STATE
        )
        comptime for i in range(0, Self.G.STATE, LANES):
            to.unsafe_store(i, state.unsafe_load[width=LANES](i))

    @always_inline
    def finish(self, total: Ptr[DType.float32], row: Int):
        """Writes o = weighted sums / sum; a row that saw no key gives zeros."""
        var sum = total[unsafe_offset=Self.G.WIDTH + 1]
        var inverse = 1 / sum if sum > 0 else Float32(0)
        var o = self.o.as_unsafe_any_origin().unsafe_offset(row * Self.D)
        comptime W = vector_width(Self.D)
        comptime for i in range(0, Self.D, W):
            store_rounded(o, i, total.unsafe_load[width=W](i) * inverse)

    def join(self, item: Held[DType.int32]):
        """Joins the spans of an item's rows in order and writes their outputs; `item` is any of their spans.
        """
        var head = Int(item[unsafe_offset=1])
        var token = Int(item[unsafe_offset=2])
        var rows = self.rows(Int(item[unsafe_offset=0]), token)
        var state = Array[Float32, Self.G.STATE](fill=0)
        var total = Ptr[DType.float32](to=state[0])
        for r in range(Int(item[unsafe_offset=3]) * rows.group):
            var row = self.row(token, head, r)
            clear_state[Self.G.WIDTH](total)
            var last = rows.last_key(r) // SPAN + 1
            for span in range(rows.first_key(r) // SPAN, last):
                var at = (row * self.spans + span) * Self.G.STATE
                join_state[Self.G.WIDTH](
                    total,
                    self.parts.as_unsafe_any_origin().unsafe_offset(at),
                    rows.factor,
                )
            self.finish(total, row)
