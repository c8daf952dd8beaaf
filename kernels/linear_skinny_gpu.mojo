"""Linear for a few rows on NVIDIA tensor cores, weights straight from memory to registers.

Decoding multiplies every weight once with each of M <= 64 rows, so time is the time to read w. Tensor cores do the
sums because they need no horizontal additions, not because there is much to compute.

A lane loads 16 bytes, 8 elements of one weight row, and `mma` wants its k indices scattered: 2t, 2t+1, 2t+8, 2t+9. A
sum does not care about the order of its terms, so k is renumbered, for x and w alike:

    slice of 32 k:   lane t of a quad loads k = 8t ... 8t+7 of weight row g (and of x row g)
                     first mma takes its elements 0-3, the second its elements 4-7
    no shared memory, no shuffle: loaded registers are the operands

    block   tiles * 8 weight rows; its warps take slices in turn and add their sums in shared memory at the end

      k ->    warp 0 | warp 1 | ... | warp 7 | warp 0 | ...
    w rows   |UNROLL |        |     |        |
             |slices |        |     |        |

A warp starts UNROLL * tiles loads of 512 bytes before the first use, and where k is so long that it comes back for more, the
next ones before it computes. Weights depend on no earlier kernel, so the first loads begin while the kernel before still
runs (`wait_for_previous`); with k = 1024 and M <= 16 that is all of them.
"""

from .common import Ptr
from .gpu_common import (
    Registers,
    early_launch,
    load_vector,
    wait_for_previous,
    warp_index,
)
from .mma_gpu import mma_16x8x16
from max.gpu import (
    MAX_THREADS_PER_BLOCK_METADATA,
    WARP_SIZE,
    barrier,
    block_idx,
    lane_id,
    thread_idx,
)
from max.gpu.host import DeviceContext
from max.gpu.memory import AddressSpace
from std.math import ceildiv
from std.memory import stack_allocation
from std.utils import StaticTuple

comptime SLICE = 32
"""Elements of k that a warp takes at a time: four lanes of 8."""


@__llvm_metadata(
    MAX_THREADS_PER_BLOCK_METADATA=StaticTuple[Int32, 1](
        Int32(warps * WARP_SIZE)
    )
)
@__name(
    t"mili_linear_skinny_{dtype}_{out_dtype}_{octets}_{tiles}_{warps}_{unroll}_{once}"
)
def linear_skinny_kernel[
    dtype: DType,
    out_dtype: DType,
    octets: Int,
    tiles: Int,
    warps: Int,
    unroll: Int,
    once: Bool,
](
    y: Ptr[out_dtype],
    x: Ptr[dtype],
    w: Ptr[dtype],
    m_: Int32,
    n_: Int32,
    k_: Int32,
):
    """Block b writes columns b * 8 * tiles ... of y [m, n] for m up to 8 * octets rows; 8 divides k.

    once: k is at most warps * unroll * SLICE.
    """
    comptime F32 = DType.float32
    comptime row_tiles = ceildiv(octets, 2)
    var m = Int(m_)
    var n = Int(n_)
    var k = Int(k_)
    var lane = Int(lane_id())
    var g = lane >> 2
    var t = lane & 3
    var first = Int(block_idx.x) * (8 * tiles)

    # Rows beyond the end repeat the last one; their results are not stored.
    var w_rows = stack_allocation[tiles, Int]()
    comptime for j in range(tiles):
        w_rows[unsafe_offset=j] = min(first + j * 8 + g, n - 1) * k
    var x_rows = stack_allocation[octets, Int]()
    comptime for i in range(octets):
        x_rows[unsafe_offset=i] = min(i * 8 + g, m - 1) * k

    var acc = stack_allocation[row_tiles * tiles, SIMD[F32, 4]]()
    comptime for i in range(row_tiles * tiles):
        acc[unsafe_offset=i] = SIMD[F32, 4](0)
    var wv = stack_allocation[unroll * tiles, SIMD[dtype, 8]]()
    var ahead = stack_allocation[unroll * tiles, SIMD[dtype, 8]]()
    var xv = stack_allocation[unroll * octets, SIMD[dtype, 8]]()
    comptime stride = warps * unroll * SLICE

    @always_inline
    def load_weights(into: Registers[dtype, 8], start: Int) {imm}:
        comptime for u in range(unroll):
            var inside = min(start + u * SLICE + t * 8, k - 8)
            comptime for j in range(tiles):
                into[unsafe_offset=u * tiles + j] = load_vector[dtype, 8](
                    w, w_rows[unsafe_offset=j] + inside
                )

    var first_k = warp_index() * (unroll * SLICE)
    load_weights(wv, first_k)
    wait_for_previous()
    for start in range(first_k, min(k, first_k + 1) if once else k, stride):
        comptime if not once:
            load_weights(ahead, start + stride)
        comptime for u in range(unroll):
            var at = start + u * SLICE + t * 8
            var inside = min(at, k - 8)
            comptime for i in range(octets):
                var v = load_vector[dtype, 8](
                    x, x_rows[unsafe_offset=i] + inside
                )
                xv[unsafe_offset=u * octets + i] = v if at < k else SIMD[
                    dtype, 8
                ](0)
        comptime for u in range(unroll):
            comptime for half in range(2):
                comptime for i in range(row_tiles):
                    var top = xv[unsafe_offset=u * octets + 2 * i].slice[
                        4, offset=half * 4
                    ]()
                    var bottom = SIMD[dtype, 4](0)
                    comptime if 2 * i + 1 < octets:
                        bottom = xv[unsafe_offset=u * octets + 2 * i + 1].slice[
                            4, offset=half * 4
                        ]()
                    var a = SIMD[dtype, 8](
                        top[0],
                        top[1],
                        bottom[0],
                        bottom[1],
                        top[2],
                        top[3],
                        bottom[2],
                        bottom[3],
                    )
                    comptime for j in range(tiles):
                        var b = wv[unsafe_offset=u * tiles + j].slice[
                            4, offset=half * 4
                        ]()
                        acc[unsafe_offset=i * tiles + j] = mma_16x8x16(
                            a, b, acc[unsafe_offset=i * tiles + j]
                        )
        comptime if not once:
            comptime for i in range(unroll * tiles):
                wv[unsafe_offset=i] = ahead[unsafe_offset=i]

    # partial[warp][row][column] of this block
    comptime rows = octets * 8
    comptime columns = tiles * 8
    var partial = stack_allocation[
        warps * rows * columns,
        Float32,
        address_space=AddressSpace.SHARED,
        alignment=16,
    ]()
    comptime for i in range(row_tiles):
        comptime for j in range(tiles):
            var c = acc[unsafe_offset=i * tiles + j]
            var at = (
                (warp_index() * rows + i * 16 + g) * columns + j * 8 + 2 * t
            )
            partial[unsafe_offset=at] = c[0]
            partial[unsafe_offset=at + 1] = c[1]
            comptime if 2 * i + 1 < octets:
                partial[unsafe_offset=at + 8 * columns] = c[2]
                partial[unsafe_offset=at + 8 * columns + 1] = c[3]
    barrier()
    for e in range(Int(thread_idx.x), rows * columns, warps * WARP_SIZE):
        var row = e // columns
        var column = first + e % columns
        if row < m and column < n:
            var total = Float32(0)
            comptime for i in range(warps):
                total += partial[unsafe_offset=i * rows * columns + e]
            y[unsafe_offset=row * n + column] = total.cast[out_dtype]()


def warps_of(n: Int, k: Int) -> Int:
    """Warps of a block that share k."""
    if n > 2048 or k <= 1024:
        return 8
    return 16 if k <= 2048 else 24


def linear_skinny_gpu[
    dtype: DType, out_dtype: DType, N: Int = 0, K: Int = 0, most: Int = 64
](
    y: Ptr[out_dtype],
    x: Ptr[dtype],
    w: Ptr[dtype],
    m: Int,
    n: Int,
    k: Int,
    ctx: DeviceContext,
) raises:
    """Writes y [m, n] = x [m, k] @ w.T for m from 1 to 64 and k a multiple of 8.

    N and K, if not 0, are n and k, and m is `most` or less: only what that needs is compiled.
    """

    def launch[
        octets: Int, tiles: Int, warps: Int, unroll: Int, once: Bool
    ]() raises {imm}:
        ctx.enqueue_function[
            linear_skinny_kernel[
                dtype, out_dtype, octets, tiles, warps, unroll, once
            ]
        ](
            y,
            x,
            w,
            Int32(m),
            Int32(n),
            Int32(k),
            grid_dim=ceildiv(n, 8 * tiles),
            block_dim=warps * WARP_SIZE,
            attributes=early_launch(),
        )

    @always_inline
    def go[octets: Int, tiles: Int, warps: Int, unroll: Int]() raises {imm}:
        comptime most_k = warps * unroll * SLICE
        comptime if K > 0:
            launch[octets, tiles, warps, unroll, K <= most_k]()
        else:
            if k <= most_k:
                launch[octets, tiles, warps, unroll, True]()
            else:
                launch[octets, tiles, warps, unroll, False]()

    @always_inline
    def few_rows[octets: Int]() raises {imm}:
        # With few columns the warps of a block share k among them, so that all SMs have enough under way.
        comptime if N > 0 and K > 0:
            go[octets, 2 if N > 4096 else 1, warps_of(N, K), 4]()
        else:
            var warps = warps_of(n, k)
            if n > 4096:
                go[octets, 2, 8, 4]()
            elif warps == 8:
                go[octets, 1, 8, 4]()
            elif warps == 16:
                go[octets, 1, 16, 4]()
            else:
                go[octets, 1, 24, 4]()

    if m <= 8:
        few_rows[1]()
        return
    comptime if most > 8:
        if m <= 16:
            few_rows[2]()
        elif m <= 32:
            if n >= 8192:
                go[4, 4, 8, 2]()
            else:
                go[4, 2, 8, 2]()
        else:
            go[8, 2, 8, 2]()
