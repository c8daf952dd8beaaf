"""Sampling on the GPU: temperature, top-k, top-p, min-p and a draw; the mathematics stands in sample.mojo.

One block of 1024 threads has one row. Nothing is stored between passes: a weight is one exp2 of a logit, and the logits
of all rows of a decode step stay in the second-level cache for the most part.

    passes over the row:  1 maximum (with its index: temperature 0 ends here)
                          2 sums, tile by tile in the order of ids, until the tile in which the target lies
                         31 more for each of top-k and top-p: bisection over the bits of the boundary

Sums add up in the same order every time: a thread its elements, shuffles within a warp, the warps in order. So the same
logits and random number give the same token.
"""

from std.memory import stack_allocation

from max.gpu import barrier, block_idx, lane_id, thread_idx
from max.gpu.host import DeviceContext
from max.gpu.memory import AddressSpace

from .argmax_gpu import LOWEST, THREADS, better, warp_best
from .common import Ptr
from .gpu_common import SharedPtr, load_vector, warp_index
from .sample import FIELDS
from .sample_row_gpu import LOG2_E, Row, WARPS, as_float


@__name(t"mili_sample_{width}")
def sample_kernel[
    width: Int
](
    tokens: Ptr[DType.int32],
    logits: Ptr[DType.float32],
    fields: Ptr[DType.float32],
    cols_: Int32,
):
    """One block a row; `width` divides `cols`."""
    var cols = Int(cols_)
    var row = Int(block_idx.x)
    var own = logits.unsafe_offset(row * cols)
    var value = LOWEST
    var index = Int32.MAX
    var e = Int(thread_idx.x) * width
    while e < cols:
        var v = load_vector[DType.float32, width](own, e)
        comptime for i in range(width):
            if v[i] > value:
                value = v[i]
                index = Int32(e + i)
        e += THREADS * width
    warp_best(value, index)
    var values = stack_allocation[
        WARPS, Float32, address_space=AddressSpace.SHARED
    ]()
    var indices = stack_allocation[
        WARPS, Int32, address_space=AddressSpace.SHARED
    ]()
    if lane_id() == 0:
        values[unsafe_offset=warp_index()] = value
        indices[unsafe_offset=warp_index()] = index
    barrier()
    value = LOWEST
    index = Int32.MAX
    comptime for i in range(WARPS):
        var other = values[unsafe_offset=i]
        var other_index = indices[unsafe_offset=i]
        if better(other, other_index, value, index):
            value = other
            index = other_index
    barrier()
    var at = fields.unsafe_offset(row * FIELDS)
    var temperature = at[unsafe_offset=0]
    if temperature <= 0:
        if thread_idx.x == 0:
            tokens[unsafe_offset=row] = index if index != Int32.MAX else 0
        return
    var sums = SharedPtr[DType.float32](unsafe_from_address=Int(values))
    var weights = Row[width](own, cols, value, LOG2_E / temperature, sums)
    var top_k = Int(at[unsafe_offset=1])
    var top_p = at[unsafe_offset=2]
    var min_p = at[unsafe_offset=3]
    var boundary = 0
    var equals = Float32(cols)
    var limited = top_k > 0 and top_k < cols
    if limited:
        boundary = weights.boundary(Float32(top_k), True, 0)
        equals = Float32(top_k) - weights.from_on(as_float(boundary + 1), True)
    if top_p < 1:
        var whole = weights.from_on(as_float(boundary + 1), False)
        if limited:
            whole += equals * as_float(boundary)
        var low = weights.boundary(top_p * whole, False, boundary)
        var missing = top_p * whole - weights.from_on(as_float(low + 1), False)
        var needed = Float32(cols)
        if low > 0:
            needed = max(Float32(1), (missing / as_float(low)).__ceil__())
        equals = min(equals, needed) if low == boundary else needed
        boundary = low
    var least = as_float(boundary)
    var last = cols
    if min_p > least:
        least = min_p
    elif (
        boundary > 0
        and weights.from_on(least, True)
        - weights.from_on(as_float(boundary + 1), True)
        > equals
    ):
        last = weights.last_equal(least, equals)
    var token = weights.draw(least, last, at[unsafe_offset=4])
    if thread_idx.x == 0:
        tokens[unsafe_offset=row] = token


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
    if width % 4 == 0:
        ctx.enqueue_function[sample_kernel[4]](
            tokens,
            logits,
            fields,
            Int32(width),
            grid_dim=rows,
            block_dim=THREADS,
        )
    else:
        ctx.enqueue_function[sample_kernel[1]](
            tokens,
            logits,
            fields,
            Int32(width),
            grid_dim=rows,
            block_dim=THREADS,
        )
