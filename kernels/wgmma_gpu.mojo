"""Hopper's building blocks: tiles as `wgmma` reads them, barriers in shared memory, registers by warpgroup.

A warpgroup is 128 threads, four warps of 16 rows each. One `wgmma.m64nNk16` adds a 64 x 16 tile times a 16 x N tile to
a 64 x N float32 tile; lane 4 g + t of warp w holds of every eight columns the four floats that `mma.m16n8k16` gives it,
rows 16 w + g and 16 w + g + 8. A tile in shared memory is named by a descriptor: address, two strides, swizzle.

Shared tiles have rows of 64 elements, 128 bytes, swizzled as in `mma_gpu.mojo`; the eight rows of a 1,024-byte piece
are what a descriptor calls an atom of 128-byte swizzle:

    k-major   row = m or n, 64 of k along it      next k step of 16: 32 bytes on       next eight rows: 1,024 bytes on
    n-major   row = k, 64 of n along it           next k step of 16: 2,048 bytes on    next 64 of n: the next panel

Products run while the threads go on. Between a product and the wait for it, nothing may touch its registers: `pin`
keeps the compiler from moving a use of them over the wait.
"""

from .gpu_common import SharedPtr
from .mma_gpu import TILE_K
from max.gpu.compute.mma import WGMMADescriptor
from std.sys._assembly import inlined_assembly

comptime SWIZZLE_128 = Int64(1) << 62
comptime EIGHT_ROWS = Int64(64) << 32
"""Bytes from eight rows to the next, 1,024, in sixteens."""


@always_inline
def address_of[dtype: DType](tile: SharedPtr[dtype]) -> Int64:
    """The address field of a descriptor."""
    return Int64((Int(tile) & 0x3FFFF) >> 4)


@always_inline
def descriptor[
    dtype: DType
](tile: SharedPtr[dtype], k_step: Int) -> WGMMADescriptor[dtype]:
    """Of a k-major tile with rows of 64 elements, from k = 16 k_step on."""
    return WGMMADescriptor[dtype](
        (address_of(tile) + Int64(2 * k_step))
        | Int64(1) << 16
        | EIGHT_ROWS
        | SWIZZLE_128
    )


@always_inline
def transposed_descriptor[
    dtype: DType, rows: Int
](tile: SharedPtr[dtype], k_step: Int) -> WGMMADescriptor[dtype]:
    """Of an n-major tile in panels of [rows, 64], from k = 16 k_step on."""
    comptime panel = Int64(rows * TILE_K * 2 // 16)
    return WGMMADescriptor[dtype](
        (address_of(tile) + Int64(128 * k_step))
        | panel << 16
        | EIGHT_ROWS
        | SWIZZLE_128
    )


@always_inline
def pin[
    width: SIMDLength
](registers: SIMD[DType.float32, width]) -> SIMD[DType.float32, width]:
    """The same values, computed before what precedes this in the program and used after what follows.
    """
    var pinned = registers
    comptime for i in range(Int(width)):
        pinned[i] = inlined_assembly[
            "", Float32, constraints="=f,0", has_side_effect=True
        ](registers[i])
    return pinned


@always_inline
def fence_async():
    """What this thread has seen written to shared memory is what `wgmma` reads.
    """
    inlined_assembly[
        "fence.proxy.async.shared::cta;",
        NoneType,
        constraints="~{memory}",
        has_side_effect=True,
    ]()


@fieldwise_init
struct Barrier(ImplicitlyCopyable, TrivialRegisterPassable):
    """A barrier of eight bytes in shared memory that counts arrivals; it is reused, so that phases alternate.
    """

    var address: Int32

    @always_inline
    def init(self, count: Int):
        """Sets the arrivals of a phase; one thread does it."""
        inlined_assembly[
            "mbarrier.init.shared::cta.b64 [$0], $1;",
            NoneType,
            constraints="r,r,~{memory}",
            has_side_effect=True,
        ](self.address, Int32(count))

    @always_inline
    def arrive(self):
        """Counts this thread."""
        inlined_assembly[
            "mbarrier.arrive.shared::cta.b64 _, [$0];",
            NoneType,
            constraints="r,~{memory}",
            has_side_effect=True,
        ](self.address)

    @always_inline
    def arrive_after_copies(self):
        """Counts this thread when the asynchronous copies that it has started are complete.
        """
        inlined_assembly[
            "cp.async.mbarrier.arrive.noinc.shared::cta.b64 [$0];",
            NoneType,
            constraints="r,~{memory}",
            has_side_effect=True,
        ](self.address)

    @always_inline
    def wait(self, parity: Int):
        """Waits for the end of the phase of this parity."""
        inlined_assembly[
            """{
            .reg .pred done;
            again:
            mbarrier.try_wait.parity.shared::cta.b64 done, [$0], $1;
            @done bra through;
            bra again;
            through:
            }""",
            NoneType,
            constraints="r,r,~{memory}",
            has_side_effect=True,
        ](self.address, Int32(parity))
