"""Warpgroup products of Hopper (`wgmma`): shared tiles as they read them, and their registers.

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
from std.memory import bitcast
from std.sys import _RegisterPackType
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
def wgmma_64_f16(
    a: SIMD[DType.float16, 8],
    b: WGMMADescriptor[DType.float16],
    c: SIMD[DType.float32, 32],
) -> SIMD[DType.float32, 32]:
    """Starts c + a @ b for a 64 x 16 tile a in registers and an n-major 16 x 64 tile b; `wgmma_async` of the library takes only bfloat16 from registers.
    """
    var halves = bitcast[DType.uint32, 4](a)
    var r = inlined_assembly[
        """{
        .reg .pred add;
        setp.ne.b32 add, 1, 0;
        wgmma.mma_async.sync.aligned.m64n64k16.f32.f16.f16
        {$0, $1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15,
         $16, $17, $18, $19, $20, $21, $22, $23, $24, $25, $26, $27, $28, $29, $30, $31},
        {$32, $33, $34, $35}, $36, add, 1, 1, 1;
        }""",
        _RegisterPackType[
            Float32,
            Float32,
            Float32,
            Float32,
            Float32,
            Float32,
            Float32,
            Float32,
            Float32,
            Float32,
            Float32,
            Float32,
            Float32,
            Float32,
            Float32,
            Float32,
            Float32,
            Float32,
            Float32,
            Float32,
            Float32,
            Float32,
            Float32,
            Float32,
            Float32,
            Float32,
            Float32,
            Float32,
            Float32,
            Float32,
            Float32,
            Float32,
        ],
        constraints="=f," * 32
        + "r,r,r,r,l,0,1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,16,17,18,19,20,21,22,23,24,25,26,27,28,29,30,31",
        has_side_effect=True,
    ](
        halves[0],
        halves[1],
        halves[2],
        halves[3],
        b.desc,
        c[0],
        c[1],
        c[2],
        c[3],
        c[4],
        c[5],
        c[6],
        c[7],
        c[8],
        c[9],
        c[10],
        c[11],
        c[12],
        c[13],
        c[14],
        c[15],
        c[16],
        c[17],
        c[18],
        c[19],
        c[20],
        c[21],
        c[22],
        c[23],
        c[24],
        c[25],
        c[26],
        c[27],
        c[28],
        c[29],
        c[30],
        c[31],
    )
    return SIMD[DType.float32, 32](
        r[0],
        r[1],
        r[2],
        r[3],
        r[4],
        r[5],
        r[6],
        r[7],
        r[8],
        r[9],
        r[10],
        r[11],
        r[12],
        r[13],
        r[14],
        r[15],
        r[16],
        r[17],
        r[18],
        r[19],
        r[20],
        r[21],
        r[22],
        r[23],
        r[24],
        r[25],
        r[26],
        r[27],
        r[28],
        r[29],
        r[30],
        r[31],
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
