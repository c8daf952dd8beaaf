"""The inner part of attention on a CPU: a tile of query rows against blocks of 64 keys of one key/value head.

    rows (query heads of the group x tokens), up to 96        keys 64        D
      6 rows  | s = q k^T: 6 x 64 by linear tiles | softmax | p v: 6 x D by linear tiles |  acc = acc * rescale + p v
      6 rows  | ...        K block packed once, V block packed once, both in the nearest caches for all rows

Blocks start at multiples of 64 and are gathered in spans of 256 keys; each span has its own softmax state, and spans
are joined in order. So decoding can give the spans of a long context to several cores and get the bits of a tile that
walks them all.
"""

from .attention_softmax import NOTHING, exp2_negative, softmax_row
from .common import LANES, Ptr
from .linear_tile import (
    DOT_BFLOAT16,
    FMA_FLOAT32,
    WIDE_ROWS,
    Sums,
    tile,
    tile_blocks,
)
from std.math import align_up, ceildiv, iota

comptime BLOCK = 64
"""Keys in a block."""
comptime SPAN = 256
"""Keys in a span, a multiple of BLOCK."""
comptime ROWS = WIDE_ROWS
"""Rows that are multiplied at once."""


@fieldwise_init
struct Geometry[D: Int, kind: Int](ImplicitlyCopyable, Movable):
    """Sizes, in 32-bit units, of what a tile of `rows` rows keeps in its scratch memory.
    """

    comptime PAIRS = Self.kind != FMA_FLOAT32
    """Whether cache elements are bfloat16, two in a unit."""
    comptime UNITS = Self.D // 2 if Self.PAIRS else Self.D
    """Units of one key or value."""
    comptime QUERY = Self.UNITS if Self.kind == DOT_BFLOAT16 else Self.D
    """Units of one query row: pairs for dot products, else float32."""
    comptime KEY_UNITS = BLOCK // 2 if Self.PAIRS else BLOCK
    """Units of a block's keys, over which the product with values runs."""
    comptime PROBABILITIES = BLOCK // 2 if Self.kind == DOT_BFLOAT16 else BLOCK
    comptime VALUE_BLOCKS = (Self.D + LANES - 1) // LANES
    comptime WIDTH = Self.VALUE_BLOCKS * LANES
    """D rounded up to whole registers."""
    comptime STATE = Self.WIDTH + LANES
    """Of a row's partial result: WIDTH weighted sums, then the greatest score and the sum."""

    var rows: Int

    def keys(self) -> Int:
        return align_up(self.rows * Self.QUERY, LANES)

    def values(self) -> Int:
        return self.keys() + BLOCK * Self.UNITS

    def scores(self) -> Int:
        return self.values() + Self.WIDTH * Self.KEY_UNITS

    def probabilities(self) -> Int:
        return self.scores() + ROWS * max(BLOCK, Self.WIDTH)

    def sums(self) -> Int:
        return self.probabilities() + ROWS * Self.PROBABILITIES

    def span(self) -> Int:
        """States of the span: WIDTH weighted sums, then the greatest score."""
        return self.sums() + self.rows * LANES

    def total(self) -> Int:
        return self.span() + self.rows * Self.STATE

    def size(self) -> Int:
        return self.total() + self.rows * Self.STATE


@always_inline
def group_first[kind: Int, BLOCKS: Int](group: Int) -> Int:
    """First block of a group, when BLOCKS are cut into tiles of even width."""
    comptime groups = ceildiv(BLOCKS, tile_blocks[kind]())
    return group * BLOCKS // groups


@always_inline
def multiply[
    kind: Int, HEIGHT: Int, BLOCKS: Int
](
    sums: Ptr[DType.float32],
    x: Ptr[DType.int32],
    x_stride: Int,
    w: Ptr[DType.int32],
    units: Int,
):
    """Writes sums = x [HEIGHT, units] times BLOCKS packed blocks; `sum_at` says where each is.
    """
    comptime for group in range(ceildiv(BLOCKS, tile_blocks[kind]())):
        comptime first = group_first[kind, BLOCKS](group)
        comptime width = group_first[kind, BLOCKS](group + 1) - first
        var blocks = w.unsafe_offset(first * units * LANES)
        tile[kind, HEIGHT, width, 0](
            sums.unsafe_offset(first * HEIGHT * LANES),
            x,
            x_stride,
            blocks,
            units,
            blocks,
        )


@always_inline
def sum_at[kind: Int, HEIGHT: Int, BLOCKS: Int, block: Int](row: Int) -> Int:
    """Where `multiply` writes the sixteen sums of a row and block."""
    comptime group = group_of[kind, BLOCKS](block)
    comptime first = group_first[kind, BLOCKS](group)
    comptime width = group_first[kind, BLOCKS](group + 1) - first
    return (first * HEIGHT + block - first + row * width) * LANES


def group_of[kind: Int, BLOCKS: Int](block: Int) -> Int:
    """The group of a block."""
    var group = 0
    while group_first[kind, BLOCKS](group + 1) <= block:
        group += 1
    return group


@fieldwise_init
struct Rows(ImplicitlyCopyable, Movable):
    """The query rows of a tile: row r is head r % group of token r / group."""

    var group: Int
    var position: Int
    """Of the first token."""
    var window: Int
    var factor: Float32
    """The scale of scores times log2(e)."""

    @always_inline
    def last_key(self, row: Int) -> Int:
        return self.position + row // self.group

    @always_inline
    def first_key(self, row: Int) -> Int:
        return (
            max(0, self.last_key(row) - self.window + 1) if self.window
            > 0 else 0
        )


@always_inline
def attend[
    D: Int, kind: Int, HEIGHT: Int
](
    scratch: Ptr[DType.float32],
    geometry: Geometry[D, kind],
    rows: Rows,
    row: Int,
    key: Int,
):
    """Rows row to row + HEIGHT against the packed block of keys that starts at position `key`.
    """
    comptime G = Geometry[D, kind]
    comptime KEY_BLOCKS = BLOCK // LANES
    if (
        rows.last_key(row + HEIGHT - 1) < key
        or rows.first_key(row) >= key + BLOCK
    ):
        return
    var units = scratch.unsafe_bitcast[Int32]()
    var scores = scratch.unsafe_offset(geometry.scores())
    var probabilities = units.unsafe_offset(geometry.probabilities())
    multiply[kind, HEIGHT, KEY_BLOCKS](
        scores,
        units.unsafe_offset(row * G.QUERY),
        G.QUERY,
        units.unsafe_offset(geometry.keys()),
        G.UNITS,
    )
    var rescales = Array[Float32, HEIGHT](fill=1)
    for r in range(HEIGHT):
        var line = Array[Sums, KEY_BLOCKS](fill=Sums(0))
        comptime for b in range(KEY_BLOCKS):
            var at = sum_at[kind, HEIGHT, KEY_BLOCKS, b](r)
            line[b] = scores.unsafe_load[width=LANES](at)
        var last = rows.last_key(row + r) - key
        var first = rows.first_key(row + r) - key
        if last < BLOCK - 1 or first > 0:
            comptime for b in range(KEY_BLOCKS):
                var at = iota[DType.int32, LANES]() + Int32(b * LANES)
                var seen = at.le(Int32(last)) & at.ge(Int32(first))
                line[b] = seen.select(line[b], Sums(Float32.MIN))
        var state = scratch.unsafe_offset(geometry.span() + (row + r) * G.STATE)
        rescales[r] = softmax_row[kind](
            line,
            rows.factor,
            state.unsafe_offset(G.WIDTH),
            scratch.unsafe_offset(geometry.sums() + (row + r) * LANES),
            probabilities.unsafe_offset(r * G.PROBABILITIES),
        )
    multiply[kind, HEIGHT, G.VALUE_BLOCKS](
        scores,
        probabilities,
        G.PROBABILITIES,
        units.unsafe_offset(geometry.values()),
        G.KEY_UNITS,
    )
    for r in range(HEIGHT):
        var state = scratch.unsafe_offset(geometry.span() + (row + r) * G.STATE)
        comptime for b in range(G.VALUE_BLOCKS):
            var at = sum_at[kind, HEIGHT, G.VALUE_BLOCKS, b](r)
            var product = scores.unsafe_load[width=LANES](at)
            var before = state.unsafe_load[width=LANES](b * LANES)
            state.unsafe_store(
                b * LANES, before.fma(Sums(rescales[r]), product)
            )


@always_inline
def clear_state[WIDTH: Int](state: Ptr[DType.float32]):
    """A row that has seen no key."""
    comptime for i in range(0, WIDTH + LANES, LANES):
        state.unsafe_store(i, Sums(0))
    state[unsafe_offset=WIDTH] = NOTHING


@no_inline
def join_state[
    WIDTH: Int
](total: Ptr[DType.float32], span: Ptr[DType.float32], factor: Float32):
    """Adds a span's weighted sums, greatest score and sum (at WIDTH, WIDTH + 1) to those of the spans before.
    """
    # BEGIN SOLUTION 09.5
    var before = total[unsafe_offset=WIDTH]
    var here = span[unsafe_offset=WIDTH]
    var now = max(before, here)
    var a = exp2_negative(Sums((before - now) * factor))
    var b = exp2_negative(Sums((here - now) * factor))
    comptime for i in range(0, WIDTH, LANES):
        var old = total.unsafe_load[width=LANES](i)
        var new = span.unsafe_load[width=LANES](i)
        total.unsafe_store(i, old.fma(a, new * b))
    total[unsafe_offset=WIDTH] = now
    var sum = total[unsafe_offset=WIDTH + 1]
    total[unsafe_offset=WIDTH + 1] = sum.fma(
        a[0], span[unsafe_offset=WIDTH + 1] * b[0]
    )
    # END SOLUTION
