"""What the GPU kernels share: pointers, 16-byte accesses, reductions.

A GPU moves memory in sectors of 32 bytes and a warp wants them whole: 32 lanes that each load 16 bytes fetch 512
bytes with one instruction. `vector_width` elements are such 16 bytes. Sums run in float32 whatever the storage type.
"""

from std.math import ceildiv
from std.memory import stack_allocation
from std.sys import size_of
from std.sys._assembly import inlined_assembly

from .common import Ptr
from max.gpu import WARP_SIZE, barrier, lane_id, thread_idx
from max.gpu.host import DeviceContext
from max.gpu.host.launch_attribute import LaunchAttribute
from max.gpu.memory import AddressSpace
from max.gpu.primitives import warp
from max.gpu.primitives.grid_controls import PDLLevel, pdl_launch_attributes

comptime SharedPtr[dtype: DType] = Pointer[
    Scalar[dtype], MutAnyOrigin, address_space=AddressSpace.SHARED
]


comptime Stage[dtype: DType] = Pointer[
    Scalar[dtype], MutUntrackedOrigin, address_space=AddressSpace.SHARED
]
"""Shared memory that copies fill which the compiler does not see."""

comptime Registers[dtype: DType, width: Int] = Pointer[
    SIMD[dtype, width], MutUntrackedOrigin
]
"""An array of a lane's own (`stack_allocation`): it stays in registers if every index is known when compiling."""

comptime HAS_DEPENDENT_LAUNCH = (
    DeviceContext.default_device_info.api == "cuda"
    and DeviceContext.default_device_info.compute >= 9.0
)
"""From Hopper on a kernel may be launched before the one before it has ended."""


def early_launch() -> List[LaunchAttribute]:
    """For `enqueue_function(attributes=...)`: the kernel may start while the one before it on the stream still runs.

    Its blocks then lie ready in place of being launched, which takes over a microsecond. It must call
    `wait_for_previous` before it touches what the kernel before writes or reads, in every block: a kernel that skips it
    could end, and let a later one go on, before an earlier one has ended. Before the wait it may read what no kernel
    that may still run writes: weights, and the positions, slots, lengths and page tables that a step is given, which are
    copied before its first kernel. (CUDA Programming Guide, "Programmatic Dependent Launch and Synchronization".)
    """
    return pdl_launch_attributes(PDLLevel(1))


@always_inline
def wait_for_previous():
    """Waits until all kernels queued before have ended and their writes are seen; then lets the next kernel start.
    """
    wait_for_results()
    start_next()


@always_inline
def wait_for_results():
    """Waits until all kernels queued before have ended and their writes are seen.

    Nothing where the GPU starts kernels in order. Assembly, not the intrinsic: it says that memory changes.
    """
    comptime if HAS_DEPENDENT_LAUNCH:
        inlined_assembly[
            "griddepcontrol.wait;",
            NoneType,
            constraints="~{memory}",
            has_side_effect=True,
        ]()


@always_inline
def start_next():
    """Lets the next kernel start, as soon as all blocks have come here or ended; its own wait is for the end of this.
    """
    comptime if HAS_DEPENDENT_LAUNCH:
        inlined_assembly[
            "griddepcontrol.launch_dependents;",
            NoneType,
            constraints="~{memory}",
            has_side_effect=True,
        ]()


@always_inline
def vector_width[dtype: DType]() -> Int:
    """Elements in 16 bytes, the widest access of one lane."""
    return 16 // size_of[dtype]()


@always_inline
def load_vector[
    dtype: DType, width: Int
](p: Ptr[dtype], offset: Int) -> SIMD[dtype, width]:
    """Loads `width` consecutive elements with one instruction; the address must be a multiple of their size.
    """
    return p.unsafe_load[width=width, alignment=width * size_of[dtype]()](
        offset
    )


@always_inline
def store_vector[
    dtype: DType, width: Int
](p: Ptr[dtype], offset: Int, value: SIMD[dtype, width]):
    """Stores `width` consecutive elements with one instruction; the address must be a multiple of their size.
    """
    p.unsafe_store[width=width, alignment=width * size_of[dtype]()](
        offset, value
    )


@always_inline
def warp_index() -> Int:
    return Int(UInt32(thread_idx.x) // UInt32(WARP_SIZE))


@always_inline
def lane_anew() -> Int32:
    """The lane's number on an NVIDIA GPU, read again: what is computed from it is computed here, and not before a loop
    and kept in registers.
    """
    return inlined_assembly[
        "mov.u32 $0, %laneid;",
        Int32,
        constraints="=r",
        has_side_effect=True,
    ]()


@always_inline
def thread_anew() -> Int32:
    """The thread's number in its block along x, read again where that can be said (NVIDIA): see `lane_anew`.
    """
    comptime if DeviceContext.default_device_info.api == "cuda":
        return inlined_assembly[
            "mov.u32 $0, %tid.x;",
            Int32,
            constraints="=r",
            has_side_effect=True,
        ]()
    return Int32(thread_idx.x)


@always_inline
def group_sum[lanes: Int](value: Float32) -> Float32:
    """Sums over aligned groups of `lanes` lanes (a power of two); every lane of the group gets the sum.
    """
    var total = value
    comptime if lanes >= 2:
        total += warp.shuffle_xor(total, UInt32(1))
    comptime if lanes >= 4:
        total += warp.shuffle_xor(total, UInt32(2))
    comptime if lanes >= 8:
        total += warp.shuffle_xor(total, UInt32(4))
    comptime if lanes >= 16:
        total += warp.shuffle_xor(total, UInt32(8))
    comptime if lanes >= 32:
        total += warp.shuffle_xor(total, UInt32(16))
    return total


@always_inline
def group_max[lanes: Int](value: Float32) -> Float32:
    """The largest over aligned groups of `lanes` lanes (a power of two); every lane of the group gets it.
    """
    var best = value
    comptime if lanes >= 2:
        best = max(best, warp.shuffle_xor(best, UInt32(1)))
    comptime if lanes >= 4:
        best = max(best, warp.shuffle_xor(best, UInt32(2)))
    comptime if lanes >= 8:
        best = max(best, warp.shuffle_xor(best, UInt32(4)))
    comptime if lanes >= 16:
        best = max(best, warp.shuffle_xor(best, UInt32(8)))
    comptime if lanes >= 32:
        best = max(best, warp.shuffle_xor(best, UInt32(16)))
    return best


@always_inline
def block_sum[threads: Int](value: Float32) -> Float32:
    """Sums over a block of `threads` threads; every thread gets the sum. Call it once in a kernel.
    """
    return block_sum_of_parts[threads, 1](value)


@always_inline
def block_sum_of_parts[
    threads: Int, parts: Int
](values: SIMD[DType.float32, parts]) -> Float32:
    """`block_sum` of `parts` values a thread, to the bit as if `parts` times as many threads had one each.

    Each warp sums with shuffles, its first lane puts the result into shared memory, and all threads add those few.
    """
    comptime warps = ceildiv(threads, WARP_SIZE)
    var partial = values
    comptime for i in range(parts):
        partial[i] = warp.sum(values[i])
    comptime if warps * parts == 1:
        return partial[0]
    var shared = stack_allocation[
        warps * parts, Float32, address_space=AddressSpace.SHARED
    ]()
    if lane_id() == 0:
        comptime for i in range(parts):
            shared[unsafe_offset=i * warps + warp_index()] = partial[i]
    barrier()
    var total = Float32(0)
    comptime for i in range(warps * parts):
        total += shared[unsafe_offset=i]
    return total


@always_inline
def pow2_at_least(n: Int) -> Int:
    """The smallest power of two that is not below `n`."""
    var p = 1
    while p < n:
        p *= 2
    return p


def log2_exact(n: Int) raises -> Int:
    """The exponent of `n`, which must be a power of two."""
    var shift = 0
    while (1 << shift) < n:
        shift += 1
    if (1 << shift) != n:
        raise Error("the page size is ", n, " but must be a power of two")
    return shift
