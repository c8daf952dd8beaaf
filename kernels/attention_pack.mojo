"""Packs a block of keys and values of the cache for the inner kernel of `linear_tile.mojo`.

Scores and outputs are products of the same kind as a linear layer's, so the same tiles compute them, once keys and
values look like packed weights (docs/architecture.md), with a unit of 32 bits: one float32 or a pair of bfloat16.

    scores   q [rows, D]    times  keys:    16 keys are the lanes,    units run over D       a 16 x 16 transposition
    output   p [rows, keys] times  values:  16 of D are the lanes,    units run over keys    pairs: two rows interleaved

    keys of a page           packed                          values of a page         packed (bfloat16)
    key 0  | u0 u1 u2 ..     | u0 of keys 0 to 15 |          key 0 | a0 a1 a2 ..      | a0 b0  a1 b1 .. a15 b15 |
    key 1  | u0 u1 u2 ..     | u1 of keys 0 to 15 |          key 1 | b0 b1 b2 ..      keys 2 and 3 follow
    ..                       ..

Packing moves each key and value once for all the rows of a tile; it takes longer than the arithmetic only where there
are fewer than about six rows, and there memory is slower than both. With each line that is packed, the same line of the
block to come is fetched (`attention_pages.mojo`): a few at a time, since a core waits for those beyond what it can keep
in flight.
"""

from .attention_pages import fetch
from .common import LANES, Ptr
from .linear_tile import Units

comptime Lines = Array[Units, LANES]


@always_inline
def interleave_low_high(a: Units, b: Units) -> Tuple[Units, Units]:
    """Returns a0 b0 a1 b1 .. a7 b7 and a8 b8 .. a15 b15."""
    var both = a.interleave(b)
    return (both.slice[LANES, offset=0](), both.slice[LANES, offset=LANES]())


@always_inline
def transpose(mut lines: Lines):
    """Transposes 16 x 16 units by four perfect shuffles: each rotates the 8 bits of (row, column) by one.
    """
    comptime for _ in range(4):
        var next = Lines(fill=Units(0))
        comptime for i in range(LANES // 2):
            var low, high = interleave_low_high(lines[i], lines[i + LANES // 2])
            next[2 * i] = low
            next[2 * i + 1] = high
        lines = next^


@no_inline
def pack_keys[
    UNITS: Int, KEYS: Int
](
    packed: Ptr[DType.int32],
    keys: Ptr[DType.int32],
    rows: Ptr[DType.int64],
    ahead: Ptr[DType.int64],
):
    """Writes packed [KEYS / 16, UNITS, 16]; key j is the UNITS units at keys + rows[j]. Fetches those at keys + ahead[j].
    """
    for group in range(KEYS // LANES):
        var base = packed.unsafe_offset(group * UNITS * LANES)
        comptime if UNITS >= LANES:
            # The last window ends at the last unit; where it overlaps the one before, it writes the same again.
            comptime windows = (UNITS + LANES - 1) // LANES
            for window in range(windows):
                var first = min(window * LANES, UNITS - LANES)
                var lines = Lines(fill=Units(0))
                comptime for i in range(LANES):
                    var at = Int(rows[unsafe_offset=group * LANES + i]) + first
                    lines[i] = keys.unsafe_load[width=LANES](at)
                    var next = Int(ahead[unsafe_offset=group * LANES + i])
                    fetch(keys.unsafe_offset(next + first))
                transpose(lines)
                comptime for i in range(LANES):
                    base.unsafe_store((first + i) * LANES, lines[i])
        else:
            for i in range(LANES):
                var at = Int(rows[unsafe_offset=group * LANES + i])
                comptime for u in range(UNITS):
                    base[unsafe_offset=u * LANES + i] = keys[
                        unsafe_offset=at + u
                    ]


@no_inline
def pack_value_pairs[
    D: Int, KEYS: Int
](
    packed: Ptr[DType.uint16],
    values: Ptr[DType.uint16],
    rows: Ptr[DType.int64],
    ahead: Ptr[DType.int64],
):
    """Writes packed [ceil(D/16), KEYS / 2, 16, 2] of bfloat16 bits; value j is D numbers at values + 2 rows[j].

    Fetches those at values + 2 ahead[j].
    """
    comptime blocks = (D + LANES - 1) // LANES
    for pair in range(KEYS // 2):
        var a = values.unsafe_offset(2 * Int(rows[unsafe_offset=2 * pair]))
        var b = values.unsafe_offset(2 * Int(rows[unsafe_offset=2 * pair + 1]))
        comptime for half in range(2):
            var next = values.unsafe_offset(
                2 * Int(ahead[unsafe_offset=2 * pair + half])
            )
            comptime for line in range(0, D, 2 * LANES):
                fetch(next.unsafe_offset(line))
        comptime for block in range(blocks):
            var to = packed.unsafe_offset(
                (block * KEYS // 2 + pair) * 2 * LANES
            )
            comptime if block * LANES + LANES <= D:
                var low = a.unsafe_load[width=LANES](block * LANES)
                var high = b.unsafe_load[width=LANES](block * LANES)
                to.unsafe_store(0, low.interleave(high))
            else:
                to.unsafe_store(0, SIMD[DType.uint16, 2 * LANES](0))
                comptime for i in range(D - block * LANES):
                    to[unsafe_offset=2 * i] = a[unsafe_offset=block * LANES + i]
                    to[unsafe_offset=2 * i + 1] = b[
                        unsafe_offset=block * LANES + i
                    ]


@no_inline
def pack_values[
    D: Int, KEYS: Int
](
    packed: Ptr[DType.int32],
    values: Ptr[DType.int32],
    rows: Ptr[DType.int64],
    ahead: Ptr[DType.int64],
):
    """Writes packed [ceil(D/16), KEYS, 16] of float32 bits; value j is D numbers at values + rows[j]. Fetches those at
    values + ahead[j].
    """
    comptime blocks = (D + LANES - 1) // LANES
    for key in range(KEYS):
        var line = values.unsafe_offset(Int(rows[unsafe_offset=key]))
        var next = values.unsafe_offset(Int(ahead[unsafe_offset=key]))
        comptime for at in range(0, D, LANES):
            fetch(next.unsafe_offset(at))
        comptime for block in range(blocks):
            var to = packed.unsafe_offset((block * KEYS + key) * LANES)
            comptime if block * LANES + LANES <= D:
                to.unsafe_store(0, line.unsafe_load[width=LANES](block * LANES))
            else:
                to.unsafe_store(0, Units(0))
                comptime for i in range(D - block * LANES):
                    to[unsafe_offset=i] = line[unsafe_offset=block * LANES + i]


@always_inline
def pack_block[
    D: Int, KEYS: Int, PAIRS: Bool
](
    packed_keys: Ptr[DType.int32],
    packed_values: Ptr[DType.int32],
    kv: Ptr[DType.int32],
    values_at: Int,
    rows: Ptr[DType.int64],
    ahead: Ptr[DType.int64],
):
    """Packs a block: keys at kv + rows[j], values `values_at` units further, of bfloat16 (PAIRS) or float32.

    Meanwhile the block at `ahead` is fetched.
    """
    comptime UNITS = D // 2 if PAIRS else D
    var values = kv.unsafe_offset(values_at)
    pack_keys[UNITS, KEYS](packed_keys, kv, rows, ahead)
    comptime if PAIRS:
        pack_value_pairs[D, KEYS](
            packed_values.unsafe_bitcast[UInt16](),
            values.unsafe_bitcast[UInt16](),
            rows,
            ahead,
        )
    else:
        pack_values[D, KEYS](packed_values, values, rows, ahead)
