"""Linear on a CPU, over packed weights (docs/architecture.md): y = x @ w.T.

    y[m, n] = sum_k x[m, k] * w[n, k]                            x [M, K], w [N, K], y [M, N], float32 sums

    packed w:  block 0 | block 1 | ... | block N/16-1            a block: 16 outputs x K, contiguous, in the order read
    cores:     |---- core 0 ----|---- core 1 ----|               each streams its own contiguous part of w once
                                                                 (many rows: first cut by rows)
    for each 2 blocks                                            (2 x 16 outputs x K: stays in the L2 cache)
        for each 12 rows                                         12 x 2 tile of sums in registers, `linear_tile.mojo`
            all of K                                             meanwhile the next blocks are fetched into L2

One row is bound by reading w; the prefetch of the next blocks keeps memory busy while the sums are written and the next
blocks begin. Up to 12 rows are one tile, and more read w from L2 after the first, so few rows cost what one row costs
until arithmetic takes longer than memory. Many rows are bound by arithmetic. All row counts add in one order: results do
not depend on the batch, to the bit.

Three ways to multiply, chosen once by what the CPU has (`cpu_features.mojo`): AMX tiles (`linear_amx.mojo`), bfloat16
dot products (AVX512-BF16), float32 multiply-adds. A machine uses one for every row count, again for equal bits.

The ladder (kernels/steps/, `python -m benchmarks.ladder linear`): microseconds for N = 3072, K = 576 in bfloat16,
weights not in cache, on two cores of an AMD EPYC (Zen 5) that read 53 GB/s and do 1,034 GFLOP/s:

    rows                                     1          8        128
    naive: the definition                1,607     12,922    208,754
    16 lanes along K                       110        551      7,986
    4 outputs at once                      149        459      5,205     four short streams of w: worse for one row
    all cores                             91.7        244      2,497
    packed weights, 4 blocks              88.2        169      1,785     one stream a core, no sums across lanes
    bfloat16 dot products                 78.8        142      1,368
    12 x 2 tiles, prefetch (this file)    68.5       76.2        478     97%, 88%, 92% of what the machine can do
    PyTorch 2.13 (oneDNN)                  141        164        589
"""

from .common import LANES, Ptr, task_range
from .cpu_features import cpu_features
from .fork_join import Held, Job, fork_join, hold
from .linear_amx import linear_amx
from .linear_tile import (
    DOT_BFLOAT16,
    FMA_BFLOAT16,
    FMA_FLOAT32,
    high_blocks,
    high_rows,
    padded_rows,
    store_tile,
    tile,
)
from max.runtime.asyncrt import parallelism_level
from std.collections import Array
from std.math import ceildiv
from std.memory.alloc import unsafe_alloc
from std.sys.info import CompilationTarget

comptime MANY_ROWS = 32
"""Above this, arithmetic takes longer than reading the weights on any CPU."""

comptime BEST = 0
"""Let the CPU decide."""
comptime FMA = 1
"""Float32 multiply-adds: any CPU."""
comptime DOT = 2
"""Bfloat16 dot products: needs AVX512-BF16."""
comptime AMX = 3
"""Matrix tiles: needs AMX-BF16."""


def best_path[dtype: DType]() -> Int:
    """Returns the fastest path of this CPU for a dtype."""
    comptime if dtype == DType.bfloat16:
        var features = cpu_features()
        if features.amx_bf16:
            return AMX
        if CompilationTarget.has_avx512f() and features.avx512_bf16:
            return DOT
    return FMA


def linear_cpu[
    dtype: DType, out_dtype: DType
](
    y: Ptr[out_dtype],
    x: Ptr[dtype],
    w: Ptr[dtype],
    m: Int,
    n: Int,
    k: Int,
    path: Int = BEST,
):
    """Writes y [m, n] = x [m, k] @ w.T; w is the packed matrix of n rows and k columns.

    `path` other than BEST is for tests; the caller answers for the CPU having it.
    """
    comptime if dtype == DType.bfloat16:
        var chosen = best_path[dtype]() if path == BEST else path
        var units = ceildiv(k, 2)
        if chosen == AMX:
            linear_amx(y, x, w, m, n, k)
        elif chosen == DOT and k % 2 == 0:
            var pairs = x.unsafe_bitcast[Int32]()
            linear_units[DOT_BFLOAT16](y, pairs, w, m, n, units, units)
        elif chosen == DOT:
            linear_padded[DOT_BFLOAT16, DType.bfloat16](y, x, w, m, n, k)
        else:
            linear_padded[FMA_BFLOAT16, DType.float32](y, x, w, m, n, k)
    else:
        linear_units[FMA_FLOAT32](y, x.unsafe_bitcast[Int32](), w, m, n, k, k)


def linear_padded[
    dtype: DType, out_dtype: DType, //, kind: Int, to: DType
](y: Ptr[out_dtype], x: Ptr[dtype], w: Ptr[dtype], m: Int, n: Int, k: Int):
    """As `linear_units`, with a copy of x in dtype `to` whose rows are a whole number of pairs.
    """
    var units = ceildiv(k, 2)
    var copy = unsafe_alloc[Scalar[to]](m * units * 2)
    var rows = copy.as_unsafe_any_origin()
    padded_rows(x, m, k, rows, m, units * 2)
    comptime stride = 2 if to == DType.float32 else 1
    linear_units[kind](
        y, rows.unsafe_bitcast[Int32](), w, m, n, units, units * stride
    )
    copy.unsafe_free()


def linear_units[
    dtype: DType, out_dtype: DType, //, kind: Int
](
    y: Ptr[out_dtype],
    x: Ptr[DType.int32],
    w: Ptr[dtype],
    m: Int,
    n: Int,
    units: Int,
    x_stride: Int,
):
    """Cuts the blocks among cores. x holds `x_stride` 32-bit elements a row, w `units` lines of 16 lanes a block.
    """
    var blocks = ceildiv(n, LANES)
    var cut = cut_work(m, blocks, units, high_blocks[kind]())
    fork_join(
        LinearJob[out_dtype, kind](
            hold(y),
            hold(x),
            hold(w.unsafe_bitcast[Int32]()),
            m,
            n,
            units,
            x_stride,
            blocks,
            cut,
        ),
        cut.row_parts * cut.block_parts,
    )


@fieldwise_init
struct Cut(ImplicitlyCopyable, Movable):
    """How a product is cut into tasks: parts of the rows times parts of the blocks, these of whole `step` blocks.
    """

    var row_parts: Int
    var block_parts: Int
    var step: Int


def cut_work(m: Int, blocks: Int, units: Int, wide: Int) -> Cut:
    """Few rows: each core reads a part of the weights, of 64 KiB at least. Many rows: four tasks a core, so that a core
    that is busy elsewhere does not hold up the rest, cut by rows first: those parts are even, and arithmetic takes
    longer than reading the weights once more.
    """
    var cores = parallelism_level(None)
    if m <= MANY_ROWS:
        var most = min(cores, blocks // 4, blocks * units // 1024)
        return Cut(1, max(1, most), 1)
    var row_parts = min(4 * cores, m // MANY_ROWS)
    var groups = ceildiv(blocks, wide)
    return Cut(row_parts, min(groups, ceildiv(4 * cores, row_parts)), wide)


@fieldwise_init
struct LinearJob[out_dtype: DType, kind: Int](Job):
    """The arguments of `linear_units`; a task is a range of rows times a contiguous range of blocks.
    """

    var y: Held[Self.out_dtype]
    var x: Held[DType.int32]
    var w: Held[DType.int32]
    var m: Int
    var n: Int
    var units: Int
    var x_stride: Int
    var blocks: Int
    var cut: Cut

    def run(self, task: Int):
        comptime BLOCKS = high_blocks[Self.kind]()
        # Neighbouring tasks share their weights, which the second core then finds in the shared cache.
        var top, bottom = task_range(
            task % self.cut.row_parts, self.cut.row_parts, self.m
        )
        var step, end = task_range(
            task // self.cut.row_parts,
            self.cut.block_parts,
            ceildiv(self.blocks, self.cut.step),
        )
        var block = step * self.cut.step
        var last = min(end * self.cut.step, self.blocks)
        while block + BLOCKS <= last:
            self.group[BLOCKS](block, last, top, bottom)
            block += BLOCKS
        while block < last:
            self.group[1](block, last, top, bottom)
            block += 1

    @always_inline
    def weights(self, block: Int) -> Ptr[DType.int32]:
        """Where a block begins."""
        return self.w.as_unsafe_any_origin().unsafe_offset(
            block * self.units * LANES
        )

    @always_inline
    def group[
        BLOCKS: Int
    ](self, block: Int, last_block: Int, top: Int, bottom: Int):
        """Rows top to bottom of x times BLOCKS blocks, in tiles of as even a height as possible.

        Meanwhile the next BLOCKS blocks are fetched: all by a single tile, else one by each of the first tiles. At the
        end of the task's blocks that is what is left and lines of its own.
        """
        comptime HIGHEST = high_rows[Self.kind]()
        var sums = Array[Float32, HIGHEST * BLOCKS * LANES](fill=0)
        var at = Ptr[DType.float32](to=sums[0])
        var w = self.weights(block)
        var next = self.weights(min(block + BLOCKS, last_block - BLOCKS))
        var tiles = ceildiv(bottom - top, HIGHEST)
        for t in range(tiles):
            var first, last = task_range(t, tiles, bottom - top)
            var rows = self.x.as_unsafe_any_origin().unsafe_offset(
                (top + first) * self.x_stride
            )
            comptime for height in range(1, HIGHEST + 1):
                if last - first == height:
                    if tiles == 1:
                        tile[Self.kind, height, BLOCKS, BLOCKS](
                            at, rows, self.x_stride, w, self.units, next
                        )
                    comptime if height >= HIGHEST // 2:  # two tiles or more are at least half full
                        if tiles > 1:
                            var ahead = self.part(w, next, t, BLOCKS)
                            tile[Self.kind, height, BLOCKS, 1](
                                at, rows, self.x_stride, w, self.units, ahead
                            )
            var to = self.y.as_unsafe_any_origin().unsafe_offset(
                (top + first) * self.n
            )
            store_tile[BLOCKS](to, at, last - first, self.n, block * LANES)

    @always_inline
    def part(
        self,
        w: Ptr[DType.int32],
        next: Ptr[DType.int32],
        block: Int,
        blocks: Int,
    ) -> Ptr[DType.int32]:
        """Block `block` of the next `blocks`; when all are fetched, w, which is in the cache.
        """
        if block < blocks:
            return next.unsafe_offset(block * self.units * LANES)
        return w
