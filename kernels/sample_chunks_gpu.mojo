"""The first kernel of sampling on the GPU: the maximum and the sum of every chunk of a row of logits.

A row of 151,936 logits is 608 KB, more than one multiprocessor can hold, so it is read in chunks of 4096 by blocks of
their own: also a single row keeps 38 of them busy. A thread has its 16 values in registers before it looks at the
first, four loads of 16 bytes at once; the exponentials need the maximum, and they come from the same registers.

    row     | chunk 0 | chunk 1 | chunk 2 | ... |        m_c = max over chunk c
    block       0         1         2                    s_c = sum over chunk c of 2^((logit - m_c) scale)

Chunks begin at the same ids whatever else is in the batch, so sums add up in the same order too.
"""

from std.math import exp2
from std.math.constants import log2e
from std.memory import stack_allocation
from std.utils import StaticTuple

from max.gpu import (
    MAX_THREADS_PER_BLOCK_METADATA,
    WARP_SIZE,
    barrier,
    block_idx,
    lane_id,
    thread_idx,
)
from max.gpu.memory import AddressSpace
from max.gpu.primitives import warp

from .argmax_gpu import LOWEST
from .common import Ptr
from .gpu_common import load_vector, warp_index
from .sample import FIELDS

comptime CHUNK = 4096
"""Logits of a chunk."""
comptime CHUNK_THREADS = 256
comptime Four = SIMD[DType.float32, 4]


@always_inline
def four[aligned: Bool](row: Ptr[DType.float32], cols: Int, e: Int) -> Four:
    """Logits e to e + 3 of a row, LOWEST from `cols` on; `aligned`: 4 divides `cols` and `e`.

    Loads are within the row whatever `e` is, so that no branch stands between one and the next.
    """
    var v = Four(LOWEST)
    comptime if aligned:
        v = load_vector[DType.float32, 4](row, min(e, cols - 4))
        if e >= cols:
            v = Four(LOWEST)
    else:
        comptime for i in range(4):
            var logit = row[unsafe_offset=min(e + i, cols - 1)]
            if e + i < cols:
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
    cols_: Int32,
    chunks: Int32,
):
    """Block (c, row) writes m_c and s_c into stats [rows, chunks, 2]; a greedy row gets no sums.
    """
    comptime warps = CHUNK_THREADS // WARP_SIZE
    comptime steps = CHUNK // (4 * CHUNK_THREADS)
    var cols = Int(cols_)
    var row = Int(block_idx.y)
    var own = logits.unsafe_offset(row * cols)
    var first = Int(block_idx.x) * CHUNK + Int(thread_idx.x) * 4
    var values = stack_allocation[steps, Four]()
    comptime for i in range(steps):
        values[unsafe_offset=i] = four[aligned](
            own, cols, first + i * 4 * CHUNK_THREADS
        )
    var scale = scale_of(fields[unsafe_offset=row * FIELDS])
    var greatest = LOWEST
    comptime for i in range(steps):
        comptime for j in range(4):
            var v = values[unsafe_offset=i][j]
            greatest = v if v > greatest else greatest  # passes over NaN
    greatest = warp.max(greatest)
    var maxima = stack_allocation[
        warps, Float32, address_space=AddressSpace.SHARED
    ]()
    var sums = stack_allocation[
        warps, Float32, address_space=AddressSpace.SHARED
    ]()
    if lane_id() == 0:
        maxima[unsafe_offset=warp_index()] = greatest
    barrier()
    comptime for i in range(warps):
        greatest = max(greatest, maxima[unsafe_offset=i])
    if scale > 0:
        var base = chunk_base(greatest)
        var weights = Four(0)
        comptime for i in range(steps):
            weights += exp2((values[unsafe_offset=i] - base) * scale)
        var sum = warp.sum(weights.reduce_add())
        if lane_id() == 0:
            sums[unsafe_offset=warp_index()] = sum
        barrier()
    if thread_idx.x == 0:
        var at = (row * Int(chunks) + Int(block_idx.x)) * 2
        stats[unsafe_offset=at] = greatest
        if scale > 0:
            var sum = Float32(0)
            comptime for i in range(warps):
                sum += sums[unsafe_offset=i]
            stats[unsafe_offset=at + 1] = sum
