"""A counter in device memory that outlives a kernel: what blocks of one launch count together.

It is zero when a kernel starts, and a kernel that used it leaves it so: a captured graph needs no launch that clears
it. One a CUDA stream, made at the first use, which must come before a capture; kernels of one stream follow each other,
and none touches it before the one before has ended (`wait_for_previous`).
"""

from .common import Ptr
from max.gpu.host import DeviceBuffer, DeviceContext
from max.gpu.host._nvidia_cuda import CUDA
from std.ffi import _get_global_or_null, external_call
from std.memory.alloc import unsafe_alloc


def device_counter(ctx: DeviceContext) raises -> Ptr[DType.int32]:
    """The counter of the stream of `ctx`; it lives as long as the process."""
    var stream = CUDA(ctx.stream())
    var address = Int(stream.value()) if stream else 0
    var name = String("MILI_COUNTER_", ctx.id(), "_", address)
    var found = _get_global_or_null(name)
    if not found:
        var made = unsafe_alloc[DeviceBuffer[DType.int32]](1)
        made.unsafe_write(ctx.enqueue_create_buffer[DType.int32](1))
        made[].enqueue_fill(0)
        external_call["KGEN_CompilerRT_InsertGlobal", NoneType](
            StringSlice(name), made.unsafe_bitcast[NoneType]()
        )
        return made[].unsafe_ptr().as_unsafe_any_origin()
    var buffer = found.value().unsafe_bitcast[DeviceBuffer[DType.int32]]()
    return buffer[].unsafe_ptr().as_unsafe_any_origin()
