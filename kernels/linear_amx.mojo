"""Linear by AMX: matrix tiles of 16 x 16 float32 sums, for CPUs that have AMX-BF16.

`tdpbf16ps C, A, B` adds A [16 rows, 32 of K] times B [32 of K, 16 outputs] to C. B wants pairs of K side by side, which
is the packed layout as it stands: one tile is 16 units of one block, 1 KiB in a row.

                     block 0      block 1
                     B0 (tmm6)    B1 (tmm7)        each step of 32 in K: 4 tile loads, 4 products
    rows  0 to 15    C00 (tmm0)   C01 (tmm1)       A0 (tmm4)
    rows 16 to 31    C10 (tmm2)   C11 (tmm3)       A1 (tmm5)

x is copied with zeros to whole tiles where its shape needs it; the last, partial tile of a block likewise. The order of
the sum is the instruction's own and the same for every row, so row counts agree to the bit here too: one row runs the
same instruction with fifteen rows of zeros (it costs 16 cycles for 1 KiB of weights, less than memory takes).
"""

from .common import LANES, Ptr, task_range
from .fork_join import Held, Job, fork_join, hold
from .linear_tile import padded_rows, store_tile
from max.runtime.asyncrt import parallelism_level
from std.collections import Array
from std.math import align_up, ceildiv
from std.memory.alloc import unsafe_alloc
from std.sys._assembly import inlined_assembly
from std.sys.intrinsics import PrefetchOptions, prefetch

comptime TILE_K = 32
"""Inputs in one tile of A: 64 bytes of bfloat16."""
comptime TILE_UNITS = TILE_K // 2
"""Units (pairs of K) in one tile of B."""
comptime TILE_BYTES = 1024
comptime ROWS = 2 * LANES
"""Rows that the four tiles of sums cover."""


@always_inline
def configure(config: Ptr[DType.uint8]):
    """Gives all eight tiles 16 rows of 64 bytes. The setting belongs to the thread.
    """
    for i in range(64):
        config[unsafe_offset=i] = 0
    config[unsafe_offset=0] = 1  # palette
    for t in range(8):
        config[unsafe_offset=16 + 2 * t] = 64
        config[unsafe_offset=48 + t] = 16
    inlined_assembly[
        "ldtilecfg ($0)",
        NoneType,
        constraints="r,~{memory}",
        has_side_effect=True,
    ](Int(config))


@always_inline
def load[tile: Int](address: Int, stride: Int):
    """Loads a tile of 16 rows of 64 bytes, `stride` bytes apart."""
    inlined_assembly[
        "tileloadd ($0,$1,1), %tmm" + String(tile),
        NoneType,
        constraints="r,r,~{memory}",
        has_side_effect=True,
    ](address, stride)


@always_inline
def store[tile: Int](address: Int, stride: Int):
    """Stores a tile of 16 rows of 64 bytes, `stride` bytes apart."""
    inlined_assembly[
        "tilestored %tmm" + String(tile) + ", ($0,$1,1)",
        NoneType,
        constraints="r,r,~{memory}",
        has_side_effect=True,
    ](address, stride)


@always_inline
def multiply[c: Int, a: Int, b: Int]():
    """C += A B."""
    inlined_assembly[
        "tdpbf16ps %tmm"
        + String(b)
        + ", %tmm"
        + String(a)
        + ", %tmm"
        + String(c),
        NoneType,
        constraints="~{memory}",
        has_side_effect=True,
    ]()


@no_inline
def amx_tiles[
    HEIGHT: Int, BLOCKS: Int
](
    sums: Int,
    x: Int,
    stride: Int,
    w: Int,
    units: Int,
    last_tiles: Int,
    fetch: Bool,
):
    """Writes sums [16 HEIGHT, BLOCKS, 16] of the rows at x, `stride` bytes apart, times the blocks at w.

    HEIGHT and BLOCKS are 1 or 2. `last_tiles` holds the last partial tile of each block, filled up with zeros.
    """
    inlined_assembly[
        "tilezero %tmm0\n tilezero %tmm1\n tilezero %tmm2\n tilezero %tmm3",
        NoneType,
        constraints="~{memory}",
        has_side_effect=True,
    ]()
    var whole = units // TILE_UNITS
    for step in range(ceildiv(units, TILE_UNITS)):
        comptime for a in range(HEIGHT):
            load[4 + a](x + a * LANES * stride + step * 64, stride)
        comptime for b in range(BLOCKS):
            var at = w + b * units * 64 + step * TILE_BYTES
            if step == whole:
                at = last_tiles + b * TILE_BYTES
            load[6 + b](at, 64)
            if fetch:  # the same tile of the next group
                comptime for line in range(TILE_UNITS):
                    prefetch[
                        PrefetchOptions()
                        .for_read()
                        .medium_locality()
                        .to_data_cache()
                    ](
                        Ptr[DType.uint8](
                            unsafe_from_address=at
                            + BLOCKS * units * 64
                            + line * 64
                        )
                    )
        comptime for a in range(HEIGHT):
            comptime for b in range(BLOCKS):
                multiply[2 * a + b, 4 + a, 6 + b]()
    comptime for a in range(HEIGHT):
        comptime for b in range(BLOCKS):
            store[2 * a + b](sums + (a * LANES * BLOCKS + b) * 64, BLOCKS * 64)


def linear_amx[
    dtype: DType, out_dtype: DType, //
](y: Ptr[out_dtype], x: Ptr[dtype], w: Ptr[dtype], m: Int, n: Int, k: Int):
    """Writes y [m, n] = x [m, k] @ w.T for packed bfloat16 w. The CPU must have AMX-BF16.
    """
    var rows = align_up(m, LANES)
    var width = align_up(k, TILE_K)
    if rows == m and width == k:
        amx_rows(y, x, w, m, n, k, width)
        return
    var copy = unsafe_alloc[Scalar[dtype]](rows * width)
    padded_rows(x, m, k, copy.as_unsafe_any_origin(), rows, width)
    amx_rows(y, copy.as_unsafe_any_origin(), w, m, n, k, width)
    copy.unsafe_free()


def amx_rows[
    dtype: DType, out_dtype: DType, //
](
    y: Ptr[out_dtype],
    x: Ptr[dtype],
    w: Ptr[dtype],
    m: Int,
    n: Int,
    k: Int,
    width: Int,
):
    """As `linear_amx`, for x [m rounded up to 16, width] in whole tiles."""
    var blocks = ceildiv(n, LANES)
    var tasks = max(1, min(parallelism_level(None), blocks * k // 2048))
    fork_join(
        AmxJob[dtype, out_dtype](
            hold(y),
            hold(x),
            hold(w),
            m,
            n,
            k,
            width,
            blocks,
            tasks,
        ),
        tasks,
    )


@fieldwise_init
struct AmxJob[dtype: DType, out_dtype: DType](Job):
    """The arguments of `amx_rows`; a task is a contiguous range of blocks."""

    var y: Held[Self.out_dtype]
    var x: Held[Self.dtype]
    var w: Held[Self.dtype]
    var m: Int
    var n: Int
    var k: Int
    var width: Int
    var blocks: Int
    var tasks: Int

    def run(self, task: Int):
        var config = Array[UInt8, 64](fill=0)
        configure(Ptr[DType.uint8](to=config[0]))
        var y = self.y.as_unsafe_any_origin()
        var x = self.x.as_unsafe_any_origin()
        var w = self.w.as_unsafe_any_origin()
        var block, last = task_range(task, self.tasks, self.blocks)
        while block + 2 <= last:
            amx_group[2](y, x, w, self.m, self.n, self.k, self.width, block)
            block += 2
        if block < last:
            amx_group[1](y, x, w, self.m, self.n, self.k, self.width, block)
        inlined_assembly[
            "tilerelease",
            NoneType,
            constraints="~{memory}",
            has_side_effect=True,
        ]()


@always_inline
def amx_group[
    dtype: DType, out_dtype: DType, //, BLOCKS: Int
](
    y: Ptr[out_dtype],
    x: Ptr[dtype],
    w: Ptr[dtype],
    m: Int,
    n: Int,
    k: Int,
    width: Int,
    block: Int,
):
    """All rows times BLOCKS blocks."""
    var units = ceildiv(k, 2)
    var weights = w.unsafe_offset(block * units * TILE_K)
    var sums = Array[Float32, ROWS * BLOCKS * LANES](fill=0)
    var last_tiles = Array[Scalar[dtype], BLOCKS * TILE_BYTES // 2](fill=0)
    var whole = units // TILE_UNITS * TILE_UNITS
    for b in range(BLOCKS):
        for i in range((units - whole) * TILE_K):
            last_tiles[b * TILE_BYTES // 2 + i] = weights[
                unsafe_offset=(b * units + whole) * TILE_K + i
            ]
    var at = Ptr[DType.float32](to=sums[0])
    var ends = Int(Ptr[dtype](to=last_tiles[0]))
    for first in range(0, m, ROWS):
        var source = Int(x.unsafe_offset(first * width))
        if m - first > LANES:
            amx_tiles[2, BLOCKS](
                Int(at),
                source,
                width * 2,
                Int(weights),
                units,
                ends,
                first == 0,
            )
        else:
            amx_tiles[1, BLOCKS](
                Int(at),
                source,
                width * 2,
                Int(weights),
                units,
                ends,
                first == 0,
            )
        store_tile[BLOCKS](
            y.unsafe_offset(first * n),
            at,
            min(ROWS, m - first),
            n,
            block * LANES,
        )
