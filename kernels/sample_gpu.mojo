"""Sampling on the GPU: temperature, top-k, top-p, min-p and a draw; the mathematics stands in sample.mojo.

Two kernels. The first (sample_chunks_gpu.mojo) reads all logits once, in chunks of 512, and leaves the maximum m_c and
the sum s_c of each. The second has one block a row and reads one chunk again, 2 KB of 608:

    top   = max_c m_c                      target = random * sum_c s_c 2^((m_c - top) scale)
    chunk = the first at which the running sum of s_c 2^((m_c - top) scale) passes the target
    token = the first of it at which the running sum of weights passes what is left of the target

    chunks   | s0 | s1 | s2 | s3 | ...      a thread each: a prefix sum (sample_find_gpu.mojo)
    target                 ^
    ids             | | | | | | | ...       a thread each

A greedy row is the same with a weight of 1 for what equals `top`, 0 for the rest, and a target of 0. A row with filters
first finds what they keep (sample_filter_gpu.mojo), and sums the chunks that hold some of it again. Sums add up in the
same order every time, so the same logits and random number give the same token.

The ladder, microseconds for V = 151,936 on an H100; logits normal, with a deviation of 2, of 1 where flat:

    rows                                                           1      64     256
    temperature 0.6, top-k 20, top-p 0.95
        31 passes over the row for each filter (bisection)     1,156   1,231   3,492
        a bound, then a short list that is sorted               23.6    47.3    90.9
        lanes look at 32 chunks at once; no pass in two copies  17.9    40.1    84.8
    temperature 1, top-p 0.95, flat: 112,500 ids are kept
        bisection                                                693     840   2,212
        1024 bins, then a list                                  97.5     162     262
    temperature 0.6, no filters                                  4.6    18.6    57.4
    PyTorch: `topk` of 20, softmax, exponential race            73.3     212     634

Tried: asking for a warp's next chunk while one is computed (nothing at 1 row, 2 to 7% at 256, left out); fewer comparisons a
weight (nothing); one block on each SM, whose registers all fit (256 rows: 98).
"""

from std.math import ceildiv
from std.memory import stack_allocation
from std.utils import StaticTuple

from max.gpu import (
    MAX_THREADS_PER_BLOCK_METADATA,
    WARP_SIZE,
    barrier,
    block_idx,
    thread_idx,
)
from max.gpu.host import DeviceContext
from max.gpu.memory import AddressSpace

from .argmax_gpu import LOWEST
from .common import Ptr
from .gpu_common import early_launch, wait_for_previous
from .sample import FIELDS
from .sample_chunks_gpu import (
    CHUNK,
    CHUNK_THREADS,
    chunk_kernel,
    scale_of,
)
from .sample_filter_gpu import Filters, is_filtered
from .sample_find_gpu import THREADS, Block
from .sample_list_gpu import SPACE, List
from .sample_row_gpu import Ids, Kept, Row


@__llvm_metadata(
    MAX_THREADS_PER_BLOCK_METADATA=StaticTuple[Int32, 1](Int32(THREADS)),
    `nvvm.minctasm`=SIMDLength(2),
)
@__name(t"mili_sample_draw_{aligned}")
def draw_kernel[
    aligned: Bool
](
    tokens: Ptr[DType.int32],
    stats: Ptr[DType.float32],
    logits: Ptr[DType.float32],
    fields: Ptr[DType.float32],
    cols: Int32,
    chunks: Int32,
):
    """One block a row draws its token; `stats` is what `chunk_kernel` has left.
    """
    var index = Int(block_idx.x)
    var floats = stack_allocation[
        Block.FLOATS, Float32, address_space=AddressSpace.SHARED
    ]()
    var places = stack_allocation[
        Block.PLACES, Int32, address_space=AddressSpace.SHARED
    ]()
    var length = stack_allocation[1, Int32, address_space=AddressSpace.SHARED]()
    var entries = stack_allocation[
        SPACE, UInt64, address_space=AddressSpace.SHARED
    ]()
    var block = Block(floats, places)
    wait_for_previous()
    var own_stats = stats.unsafe_offset(index * Int(chunks) * 2)
    var field = fields.unsafe_offset(index * FIELDS)
    var scale = scale_of(field[unsafe_offset=0])
    var top = LOWEST
    for chunk in range(Int32(thread_idx.x), chunks, Int32(THREADS)):
        top = max(top, own_stats[unsafe_offset=2 * Int(chunk)])
    top = block.greatest(top)
    var row = Row[aligned](
        logits.unsafe_offset(index * Int(cols)),
        own_stats,
        cols,
        chunks,
        top,
        scale,
    )
    var kept = Kept(0, cols)
    if scale > 0 and is_filtered(field, cols):
        var own = Float32(0)
        for chunk in range(Int32(thread_idx.x), chunks, Int32(THREADS)):
            own += row.at(chunk)
        var whole = block.total(own)
        if whole > 0:  # not where it is no number
            kept = Filters(
                row,
                block,
                List(entries),
                length,
                field.unsafe_origin_cast[MutUntrackedOrigin](),
            ).kept(whole)
            row.sum_kept(kept)
            barrier()
    var chunk = block.find[False](
        row, chunks, field[unsafe_offset=4] if scale > 0 else Float32(0), 0
    )
    var token = Int32(-1)
    if chunk.place >= 0:
        var left = chunk.target - chunk.before
        if scale > 0:
            left /= row.greatest(chunk.place)
        token = block.find[False](
            Ids(row, chunk.place, kept), Int32(CHUNK), 0, left
        ).place
        if token >= 0:
            token += chunk.place * Int32(CHUNK)
    if thread_idx.x == 0:
        # A greedy row of nothing but NaN gives 0, as on the CPU; it finds nothing.
        tokens[unsafe_offset=index] = token if scale > 0 else max(
            token, Int32(0)
        )


def sample_gpu(
    tokens: Ptr[DType.int32],
    logits: Ptr[DType.float32],
    fields: Ptr[DType.float32],
    rows: Int,
    width: Int,
    ctx: DeviceContext,
) raises:
    """Writes tokens [rows] from logits [rows, width] and fields [rows, FIELDS].
    """
    if rows == 0:
        return
    comptime per_block = CHUNK_THREADS // WARP_SIZE
    var chunks = ceildiv(width, CHUNK)
    var workspace = ctx.enqueue_create_buffer[DType.float32](rows * chunks * 2)
    var stats = workspace.unsafe_ptr().as_unsafe_any_origin()

    def go[aligned: Bool]() raises {imm}:
        ctx.enqueue_function[chunk_kernel[aligned]](
            stats,
            logits,
            fields,
            Int32(width),
            Int32(chunks),
            grid_dim=(ceildiv(chunks, per_block), rows),
            block_dim=CHUNK_THREADS,
            attributes=early_launch(),
        )
        ctx.enqueue_function[draw_kernel[aligned]](
            tokens,
            stats,
            logits,
            fields,
            Int32(width),
            Int32(chunks),
            grid_dim=rows,
            block_dim=THREADS,
            attributes=early_launch(),
        )

    if width % 4 == 0:
        go[True]()
    else:
        go[False]()
    _ = workspace^
