"""The index of the largest logit of each row, the lowest among equals, on the GPU.

    index[l] = min { v : logits[l, v] = max_u logits[l, u] }

One block has one row. A thread walks vectors of 16 bytes in rising order and keeps its first largest value; lanes of
a warp, then the warps, compare (value, index) pairs, where of equal values the lower index wins.
"""

from std.math import ceildiv
from std.memory import stack_allocation

from max.gpu import WARP_SIZE, barrier, block_idx, lane_id, thread_idx
from max.gpu.host import DeviceContext
from max.gpu.memory import AddressSpace
from max.gpu.primitives import warp

from .common import Ptr
from .gpu_common import load_vector, warp_index

comptime THREADS = 1024
comptime LOWEST = Float32.MIN


@always_inline
def better(
    value: Float32, index: Int32, than_value: Float32, than_index: Int32
) -> Bool:
    return value > than_value or (value == than_value and index < than_index)


@always_inline
def warp_best(mut value: Float32, mut index: Int32):
    """Leaves in every lane the best pair of the warp."""
    var step = WARP_SIZE // 2
    while step > 0:
        var other = warp.shuffle_xor(value, UInt32(step))
        var other_index = warp.shuffle_xor(index, UInt32(step))
        if better(other, other_index, value, index):
            value = other
            index = other_index
        step //= 2


@__name(t"mili_argmax_{width}")
def argmax_kernel[
    width: Int
](tokens: Ptr[DType.int32], logits: Ptr[DType.float32], cols_: Int32):
    """One block a row; `width` divides `cols`."""
    comptime warps = THREADS // WARP_SIZE
    var cols = Int(cols_)
    var row = Int(block_idx.x) * cols
    var value = LOWEST
    var index = Int32.MAX
    var e = Int(thread_idx.x) * width
    while e < cols:
        var v = load_vector[DType.float32, width](logits, row + e)
        comptime for i in range(width):
            if v[i] > value:
                value = v[i]
                index = Int32(e + i)
        e += THREADS * width
    warp_best(value, index)
    var values = stack_allocation[
        warps, Float32, address_space=AddressSpace.SHARED
    ]()
    var indices = stack_allocation[
        warps, Int32, address_space=AddressSpace.SHARED
    ]()
    if lane_id() == 0:
        values[unsafe_offset=warp_index()] = value
        indices[unsafe_offset=warp_index()] = index
    barrier()
    if warp_index() == 0:
        value = LOWEST
        index = Int32.MAX
        if Int(lane_id()) < warps:
            value = values[unsafe_offset=Int(lane_id())]
            index = indices[unsafe_offset=Int(lane_id())]
        warp_best(value, index)
        if lane_id() == 0:
            tokens[unsafe_offset=Int(block_idx.x)] = (
                index if index != Int32.MAX else 0
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
    if width % 4 == 0:
        ctx.enqueue_function[argmax_kernel[4]](
            tokens, logits, Int32(width), grid_dim=rows, block_dim=THREADS
        )
    else:
        ctx.enqueue_function[argmax_kernel[1]](
            tokens, logits, Int32(width), grid_dim=rows, block_dim=THREADS
        )
