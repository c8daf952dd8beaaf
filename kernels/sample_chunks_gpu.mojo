"""The first kernel of sampling on the GPU: the maximum and the sum of every chunk of a row of logits.

A row of 151,936 logits is 608 KB, more than one multiprocessor can hold, so it is read by many: a warp takes a chunk of
512, also a single row keeps 38 blocks busy. A lane has its 16 values in registers before it looks at the first, four
loads of 16 bytes at once; the exponentials need the maximum, and they come from the same registers. No warp waits for
another.

    row     | chunk 0 | chunk 1 | chunk 2 | ... |        m_c = max over chunk c
    warp        0         1         2                    s_c = sum over chunk c of 2^((logit - m_c) scale)

Chunks begin at the same ids whatever else is in the batch, so sums add up in the same order too.
"""

from std.math import exp2
from std.math.constants import log2e
from std.memory import stack_allocation
from std.utils import StaticTuple

from max.gpu import (
    MAX_THREADS_PER_BLOCK_METADATA,
    WARP_SIZE,
    block_idx,
    lane_id,
)
from max.gpu.primitives import warp

from .argmax_gpu import LOWEST
from .common import Ptr
from .gpu_common import load_vector, wait_for_previous, warp_index
from .sample import FIELDS

comptime STEPS = 4
"""Vectors of four logits that a lane has of a chunk."""
comptime STRIDE = 4 * WARP_SIZE
"""Logits from one vector of a lane to its next: a warp's loads are of neighbours."""
comptime CHUNK = STEPS * STRIDE
"""Logits of a chunk."""
comptime CHUNK_THREADS = 256
comptime Four = SIMD[DType.float32, 4]


@always_inline
def four[aligned: Bool](row: Ptr[DType.float32], cols: Int32, e: Int32) -> Four:
    """Logits e to e + 3 of a row, LOWEST from `cols` on; `aligned`: 4 divides `cols` and `e`.

    Loads are within the row whatever `e` is, so that no branch stands between one and the next.
    """
    var v = Four(LOWEST)
    comptime if aligned:
        v = load_vector[DType.float32, 4](row, Int(e if e < cols else 0))
        if e >= cols:
            v = Four(LOWEST)
    else:
        comptime for i in range(4):
            var logit = row[unsafe_offset=Int(min(e + Int32(i), cols - 1))]
            if e + Int32(i) < cols:
                v[i] = logit
    return v


@always_inline
def chunk_base(greatest: Float32) -> Float32:
    """What is subtracted from the logits of a chunk with this maximum: 0 if all are -inf, whose difference is no number.
    """
    return greatest if greatest > LOWEST else Float32(0)


@always_inline
def scale_of(temperature: Float32) -> Float32:
    """The factor of logits in powers of two; 0 for a greedy row, which has no use for it.
    """
    return Float32(log2e) / temperature if temperature > 0 else Float32(0)


@__llvm_metadata(
    MAX_THREADS_PER_BLOCK_METADATA=StaticTuple[Int32, 1](Int32(CHUNK_THREADS))
)
@__name(t"mili_sample_chunks_{aligned}")
def chunk_kernel[
    aligned: Bool
](
    stats: Ptr[DType.float32],
    logits: Ptr[DType.float32],
    fields: Ptr[DType.float32],
    cols: Int32,
    chunks: Int32,
):
    """Block (b, row) writes m_c and s_c of the chunks of its warps into stats [rows, chunks, 2]; a greedy row gets no
    sums.
    """
    comptime warps = CHUNK_THREADS // WARP_SIZE
    var row = Int(block_idx.y)
    var chunk = Int32(Int(block_idx.x) * warps + warp_index())
    wait_for_previous()
    if chunk >= chunks:
        return
    var own = logits.unsafe_offset(row * Int(cols))
    var first = chunk * Int32(CHUNK) + Int32(lane_id()) * 4
    var values = stack_allocation[STEPS, Four]()
    comptime for i in range(STEPS):
        values[unsafe_offset=i] = four[aligned](
            own, cols, first + Int32(i * STRIDE)
        )
    var scale = scale_of(fields[unsafe_offset=row * FIELDS])
    var greatest = LOWEST
    comptime for i in range(STEPS):
        comptime for j in range(4):
            var v = values[unsafe_offset=i][j]
            greatest = v if v > greatest else greatest  # passes over NaN
    greatest = warp.max(greatest)
    var sum = Float32(0)
    if scale > 0:
        var base = chunk_base(greatest)
        var weights = Four(0)
        comptime for i in range(STEPS):
            weights += exp2((values[unsafe_offset=i] - base) * scale)
        sum = warp.sum(weights.reduce_add())
    if lane_id() == 0:
        stats.unsafe_store[width=2, alignment=8](
            (row * Int(chunks) + Int(chunk)) * 2,
            SIMD[DType.float32, 2](greatest, sum),
        )
