"""The inner kernel of the CPU's linear: a tile of rows x blocks whose sums stay in registers while K goes by.

    unit u of K:      block 0    block 1               a block is 16 outputs, one 512-bit register
                    [16 lanes] [16 lanes]              loaded once for all rows of the tile
    row 0  x[0, u] -> sum 0,0    sum 0,1               x[r, u] is broadcast to all lanes
    row 1  x[1, u] -> sum 1,0    sum 1,1
    ...                                                12 x 2 sums + 2 weights + 1 input = 27 of 32
    row 11 x[11, u] -> sum 11,0  sum 11,1              attention, which may have few rows: 6 x 4 and 29

A unit is 32 bits of each lane: one float32, or a pair of neighbouring bfloat16 (packed layout, docs/architecture.md).
24 independent sums hide the latency of the multiply-add (4 to 6 cycles, one or two a cycle), and a unit needs 14 loads
for 24 multiply-adds, so the arithmetic units are the limit, not the load units. Against 6 x 4 the high tile reads two
streams of weights instead of four, and each line once for 12 rows: 12 rows took 12% less time, 16 rows 25%.

Every lane adds its products in the order of K, whatever the tile's size: that is what makes results the same to the
bit at every row count.
"""

from .common import LANES, Ptr, store_rounded
from std.collections import Array
from std.memory import bitcast
from std.sys._assembly import inlined_assembly
from std.sys.info import CompilationTarget
from std.sys.intrinsics import PrefetchOptions, prefetch

comptime Sums = SIMD[DType.float32, LANES]
comptime Units = SIMD[DType.int32, LANES]

comptime DOT_BFLOAT16 = 0
"""Bfloat16 pairs by `vdpbf16ps`: two products a lane, added in float32 (the CPU must have AVX512-BF16)."""
comptime FMA_BFLOAT16 = 1
"""Bfloat16 pairs widened by shift and mask, two float32 multiply-adds a lane; any CPU."""
comptime FMA_FLOAT32 = 2
"""Float32, one multiply-add a lane; any CPU."""

comptime WIDE_ROWS = 6
"""Rows of the widest tile: attention's, which is wide even when it has few rows."""


def tile_blocks[kind: Int]() -> Int:
    """Blocks of the widest tile, of WIDE_ROWS: what fits the registers of the CPU compiled for.
    """
    comptime if not CompilationTarget.has_avx512f():
        return 1  # 16 registers of 8 lanes, or 32 of 4: 6 x 1 blocks fill them
    comptime if kind == FMA_BFLOAT16:
        return 3  # widening needs registers of its own
    return 4


def high_blocks[kind: Int]() -> Int:
    """Blocks of the highest tile."""
    return min(2, tile_blocks[kind]())


def high_rows[kind: Int]() -> Int:
    """Rows of the highest tile; fewer where pairs that are widened take registers, or where there are only 16.
    """
    comptime widest = tile_blocks[kind]()
    comptime if widest == 1:
        return WIDE_ROWS
    return 12 if widest == 4 else 8


@always_inline
def dot_pairs(sums: Sums, a: Units, b: Units) -> Sums:
    """Adds two products of bfloat16 to each lane: `vdpbf16ps`.

    It treats subnormals as zero and rounds to nearest even, not configurable: same inputs, same bits.
    """
    comptime if CompilationTarget.has_avx512f():
        return inlined_assembly[
            "vdpbf16ps $3, $2, $0",
            Sums,
            constraints="=v,0,v,v",
            has_side_effect=False,
        ](sums, a, b)
    else:
        return sums  # never chosen: linear_cpu.mojo asks for AVX-512 first


@always_inline
def first_of_pair(pairs: Units) -> Sums:
    """The even bfloat16 of each pair, as float32."""
    # BEGIN SOLUTION 06.4
    return bitcast[DType.float32, LANES](pairs << 16)
    # END SOLUTION


@always_inline
def second_of_pair(pairs: Units) -> Sums:
    """The odd bfloat16 of each pair, as float32."""
    # BEGIN SOLUTION 06.4
    return bitcast[DType.float32, LANES](pairs & Units(-65536))
    # END SOLUTION


@no_inline
def tile[
    kind: Int, ROWS: Int, BLOCKS: Int, AHEAD: Int
](
    sums: Ptr[DType.float32],
    x: Ptr[DType.int32],
    x_stride: Int,
    w: Ptr[DType.int32],
    units: Int,
    ahead: Ptr[DType.int32],
):
    """Writes sums [ROWS, BLOCKS, 16] = x [ROWS, units] times BLOCKS packed blocks [units, 16] at w.

    x holds units for DOT_BFLOAT16 and FMA_FLOAT32, and two float32 for each unit for FMA_BFLOAT16; `x_stride` is
    counted in its own 32-bit elements. While computing, AHEAD lines a unit are fetched from `ahead` on: weights that
    come next.
    """
    var acc = Array[Sums, ROWS * BLOCKS](fill=Sums(0))
    for u in range(units):
        var weights = Array[Units, BLOCKS](fill=Units(0))
        comptime for b in range(BLOCKS):
            weights[b] = w.unsafe_load[width=LANES]((b * units + u) * LANES)
        comptime for line in range(AHEAD):
            prefetch[
                PrefetchOptions().for_read().medium_locality().to_data_cache()
            ](ahead.unsafe_offset((u * AHEAD + line) * LANES))
        comptime for r in range(ROWS):
            comptime if kind == DOT_BFLOAT16:
                var pair = Units(
                    x.unsafe_load[width=1, alignment=2](r * x_stride + u)
                )
                comptime for b in range(BLOCKS):
                    comptime at = r * BLOCKS + b
                    acc[at] = dot_pairs(acc[at], pair, weights[b])
            elif kind == FMA_FLOAT32:
                var value = Sums(
                    bitcast[DType.float32](x[unsafe_offset=r * x_stride + u])
                )
                comptime for b in range(BLOCKS):
                    comptime at = r * BLOCKS + b
                    acc[at] = bitcast[DType.float32, LANES](weights[b]).fma(
                        value, acc[at]
                    )
        comptime if kind == FMA_BFLOAT16:
            comptime for half in range(2):
                var wide = Array[Sums, BLOCKS](fill=Sums(0))
                comptime for b in range(BLOCKS):
                    comptime if half == 0:
                        wide[b] = first_of_pair(weights[b])
                    else:
                        wide[b] = second_of_pair(weights[b])
                comptime for r in range(ROWS):
                    var value = Sums(
                        bitcast[DType.float32](
                            x[unsafe_offset=r * x_stride + 2 * u + half]
                        )
                    )
                    comptime for b in range(BLOCKS):
                        comptime at = r * BLOCKS + b
                        acc[at] = wide[b].fma(value, acc[at])
    comptime for i in range(ROWS * BLOCKS):
        sums.unsafe_store(i * LANES, acc[i])


@always_inline
def store_tile[
    out_dtype: DType, //, BLOCKS: Int
](y: Ptr[out_dtype], sums: Ptr[DType.float32], rows: Int, n: Int, column: Int):
    """Rounds the sums [rows, BLOCKS, 16] into y [rows, n] from `column` on, without writing beyond n.
    """
    for r in range(rows):
        comptime for b in range(BLOCKS):
            var source = (r * BLOCKS + b) * LANES
            var to = column + b * LANES
            if to + LANES <= n:
                store_rounded(
                    y, r * n + to, sums.unsafe_load[width=LANES](source)
                )
            else:
                for i in range(n - to):
                    y[unsafe_offset=r * n + to + i] = sums[
                        unsafe_offset=source + i
                    ].cast[out_dtype]()


def padded_rows[
    dtype: DType, to: DType, //
](x: Ptr[dtype], m: Int, k: Int, padded: Ptr[to], rows: Int, width: Int):
    """Copies x [m, k] into padded [rows, width], converted, with zeros beyond m and k.
    """
    for r in range(rows):
        var line = padded.unsafe_offset(r * width)
        var filled = k if r < m else 0
        for i in range(filled):
            line[unsafe_offset=i] = x[unsafe_offset=r * k + i].cast[to]()
        for i in range(filled, width):
            line[unsafe_offset=i] = 0
