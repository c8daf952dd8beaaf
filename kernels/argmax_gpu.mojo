"""Argmax on a GPU, first version: one block a row, a tree in shared memory."""

from .common import Ptr
from layout import TileTensor, row_major, stack_allocation
from max.gpu import barrier, block_idx, thread_idx
from max.gpu.host import DeviceContext
from max.gpu.memory import AddressSpace

comptime BLOCK = 256


def argmax_kernel(
    tokens: Ptr[DType.int32], logits: Ptr[DType.float32], width: Int32
):
    """Block t writes the lowest index of the greatest value of row t."""
    var values = stack_allocation[
        DType.float32, address_space=AddressSpace.SHARED
    ](row_major[BLOCK]())
    var places = stack_allocation[
        DType.int32, address_space=AddressSpace.SHARED
    ](row_major[BLOCK]())
    comptime assert values.flat_rank == 1 and places.flat_rank == 1
    var row = logits.unsafe_offset(Int(block_idx.x) * Int(width))
    var thread = Int(thread_idx.x)
    var best = Float32.MIN
    var place = Int32.MAX
    for i in range(thread, Int(width), BLOCK):
        if row[unsafe_offset=i] > best:
            best = row[unsafe_offset=i]
            place = Int32(i)
    values[thread] = best
    places[thread] = place
    var half = BLOCK // 2
    while half > 0:
        barrier()
        if thread < half:
            var other = values[thread + half]
            var better = other > values[thread] or (
                other == values[thread]
                and places[thread + half] < places[thread]
            )
            if better:
                values[thread] = other
                places[thread] = places[thread + half]
        half //= 2
    if thread == 0:
        tokens[unsafe_offset=Int(block_idx.x)] = (
            places[0] if places[0] != Int32.MAX else 0
        )


def argmax_gpu(
    tokens: Ptr[DType.int32],
    logits: Ptr[DType.float32],
    rows: Int,
    width: Int,
    ctx: DeviceContext,
) raises:
    """Writes tokens [rows] from logits [rows, width]."""
    if rows == 0:
        return
    ctx.enqueue_function[argmax_kernel](
        tokens, logits, Int32(width), grid_dim=rows, block_dim=BLOCK
    )
