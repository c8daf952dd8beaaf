"""Attention on a CPU: flash attention over pages for prefill, chunks and decode alike.

Work is cut into items, taken by cores one after another, the longest first:

    one request x one key/value head x a tile of tokens           its G = H / KH query heads share the keys
                                     x one span of 256 keys       only where there are too few items for the cores

    item:  copy the tile's queries; for each block of 64 keys up to the last token: pack keys, pack values
           (`attention_pack.mojo`), attend in groups of six rows (`attention_tile.mojo`); divide by the sums

Each row is computed by the same instructions in the same order whatever tile and item it is in, and blocks and spans
start at fixed positions, so results are the same to the bit for every batch, chunk and number of cores.

Three kinds of arithmetic, as in `linear_cpu.mojo`: bfloat16 dot products where the CPU has AVX512-BF16 (probabilities
are rounded to bfloat16 there), float32 multiply-adds on bfloat16 pairs, and float32 throughout.

The ladder (kernels/steps/, `python -m benchmarks.ladder prefill` and `decode`), 9 query and 3 key/value heads of 64, pages
of 16, bfloat16, microseconds on two cores of an AMD EPYC (Zen 5) that read 52 GB/s and do 1,030 GFLOP/s; decoding reads
keys and values from memory:

    prefill of                             128        512    decode at                     512       4096
    all scores in memory                 7,342    122,872    all scores in memory          511      4,270
    online softmax                       6,286    100,547    online softmax                400      3,170
    keys shared by 16 rows               3,834     64,689    16 lanes                     81.5        613
    16 lanes                               469      6,351    heads share a read           63.7        451
    all cores                              243      3,215    spans on all cores           38.4        247
    packed, dot products (this file)      70.0        660    packed (this file)           21.0        107
    PyTorch 2.13                           374      3,454    PyTorch 2.13                  224      1,753

Prefill reaches 458 GFLOP/s, the causal half counted, where `linear_cpu.mojo` reaches 1,000: sums over so short a D are what
limits it, since each ends with emptying its tile of registers, and the exponentials.

Pages are 2 KB pieces in any order, which the hardware's prefetcher does not foresee, so the next block is fetched while
this one is packed (`attention_pages.mojo`). With and without, in turns, decoding from memory, microseconds and GB/s:

    decode at                                      512                4096
    9 and 3 heads of 64, not fetched      20.6    19 GB/s       162    19 GB/s
    9 and 3 heads of 64                   14.0    28 GB/s       106    30 GB/s       from the cache: 56 GB/s
    16 and 8 heads of 128, not fetched    98.1    21 GB/s       815    21 GB/s
    16 and 8 heads of 128                 64.1    33 GB/s       513    33 GB/s       from the cache: 66 GB/s
"""

from .attention import AttentionShape
from .attention_job import ALL, ITEM, AttentionJob
from .attention_tile import SPAN
from .common import Ptr
from .cpu_features import cpu_features
from .fork_join import Held, fork_join
from .linear_cpu import BEST, FMA
from .linear_tile import DOT_BFLOAT16, FMA_BFLOAT16, FMA_FLOAT32
from max.runtime.asyncrt import parallelism_level
from std.math import ceildiv
from std.memory.alloc import unsafe_alloc
from std.sys.info import CompilationTarget

comptime TILE_ROWS = 96
"""Query rows of a tile, if the request has as many: enough that packing keys and values costs little."""
comptime FEW_ROWS = 24
"""Tiles are not halved below this to keep cores busy: packing would cost more than it gains."""
comptime MOST_TASKS = 16384


def attention_cpu[
    D: Int, dtype: DType
](
    o: Ptr[dtype],
    q: Ptr[dtype],
    kv: Ptr[dtype],
    row_offsets: Ptr[DType.int32],
    context_lengths: Ptr[DType.int32],
    page_table: Ptr[DType.int32],
    scale: Float32,
    shape: AttentionShape,
    path: Int = BEST,
):
    """Writes o [T, H, D] for queries q [T, H, D] over the cache [pages, 2, KH, PS, D]; scale > 0.

    Tokens that no request owns get zeros. `path` FMA keeps from bfloat16 dot products, for tests.
    """
    var owned = Int(row_offsets[unsafe_offset=shape.requests])
    for i in range(owned * shape.heads * D, shape.tokens * shape.heads * D):
        o[unsafe_offset=i] = 0
    comptime if dtype == DType.bfloat16:
        var dot = path != FMA and CompilationTarget.has_avx512f()
        if dot and cpu_features().avx512_bf16:
            attend_all[D, dtype, DOT_BFLOAT16](
                o, q, kv, row_offsets, context_lengths, page_table, scale, shape
            )
        else:
            attend_all[D, dtype, FMA_BFLOAT16](
                o, q, kv, row_offsets, context_lengths, page_table, scale, shape
            )
    else:
        attend_all[D, dtype, FMA_FLOAT32](
            o, q, kv, row_offsets, context_lengths, page_table, scale, shape
        )


def count_tiles(row_offsets: Ptr[DType.int32], requests: Int, tile: Int) -> Int:
    """Tiles of `tile` tokens of all requests."""
    var tiles = 0
    for b in range(requests):
        var tokens = Int(
            row_offsets[unsafe_offset=b + 1] - row_offsets[unsafe_offset=b]
        )
        tiles += ceildiv(tokens, tile)
    return tiles


@always_inline
def same_tile(items: Held[DType.int32], i: Int, j: Int) -> Bool:
    """Whether two items differ in their span alone."""
    for field in range(ITEM - 1):
        if items[unsafe_offset=i * ITEM + field] != (
            items[unsafe_offset=j * ITEM + field]
        ):
            return False
    return True


def attend_all[
    D: Int, dtype: DType, kind: Int
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
    """Cuts the work into items and runs them on all cores."""
    var cores = parallelism_level(None)
    var group = shape.heads // shape.kv_heads
    var tile = max(1, TILE_ROWS // group)
    var tiles = count_tiles(row_offsets, shape.requests, tile)
    while tile * group > FEW_ROWS and tiles * shape.kv_heads < 4 * cores:
        tile = ceildiv(tile, 2)
        tiles = count_tiles(row_offsets, shape.requests, tile)
    var longest = 0
    for b in range(shape.requests):
        longest = max(longest, Int(context_lengths[unsafe_offset=b]))
    var spans = ceildiv(longest, SPAN)
    var whole = spans <= 1 or cores == 1 or tiles * shape.kv_heads >= 2 * cores
    comptime Work = AttentionJob[D, dtype, kind]
    var states = 0 if whole else shape.tokens * shape.heads * spans
    var parts = unsafe_alloc[Float32](max(1, states * Work.G.STATE))
    var items = unsafe_alloc[Int32](
        max(1, tiles * shape.kv_heads * (1 if whole else spans) * ITEM)
    )
    var count = 0
    for b in range(shape.requests):
        var first = Int(row_offsets[unsafe_offset=b])
        var end = Int(row_offsets[unsafe_offset=b + 1])
        var before = Int(context_lengths[unsafe_offset=b]) - end
        # The last tile of a request has the most keys: it goes first.
        for t in range(ceildiv(end - first, tile) - 1, -1, -1):
            var token = first + t * tile
            var tokens = min(tile, end - token)
            var low = 0
            if shape.window > 0:
                low = max(0, before + token - shape.window + 1) // SPAN
            var high = (before + token + tokens - 1) // SPAN + 1
            for head in range(shape.kv_heads):
                for span in range(0 if whole else low, 1 if whole else high):
                    var item = items.unsafe_offset(count * ITEM)
                    item[unsafe_offset=0] = Int32(b)
                    item[unsafe_offset=1] = Int32(head)
                    item[unsafe_offset=2] = Int32(token)
                    item[unsafe_offset=3] = Int32(tokens)
                    item[unsafe_offset=4] = Int32(ALL if whole else span)
                    count += 1
    var tasks = min(count, MOST_TASKS)
    var job = Work(
        o.unsafe_origin_cast[MutUntrackedOrigin](),
        q.unsafe_origin_cast[MutUntrackedOrigin](),
        kv.unsafe_origin_cast[MutUntrackedOrigin](),
        row_offsets.unsafe_origin_cast[MutUntrackedOrigin](),
        context_lengths.unsafe_origin_cast[MutUntrackedOrigin](),
        page_table.unsafe_origin_cast[MutUntrackedOrigin](),
        items,
        count,
        tasks,
        cores,
        parts,
        spans,
        scale,
        shape,
    )
    fork_join(job, tasks)
    if not whole:
        for i in range(count):
            # Spans of a tile stand together: the first of them joins all.
            if i == 0 or not same_tile(items, i - 1, i):
                job.join(items.unsafe_offset(i * ITEM))
    items.unsafe_free()
    parts.unsafe_free()
