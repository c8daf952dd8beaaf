"""Tensor-core building blocks for NVIDIA GPUs from Ampere on: asynchronous copies, swizzled tiles, `ldmatrix`, `mma`.

One `mma.m16n8k16` of a warp adds a 16 x 16 tile times a 16 x 8 tile to a 16 x 8 float32 tile. Lane 4 g + t holds

    A  a[g][2t,2t+1]  a[g+8][2t,2t+1]  a[g][2t+8,2t+9]  a[g+8][2t+8,2t+9]       (row, k)     8 elements
    B  b[2t,2t+1][g]  b[2t+8,2t+9][g]                                           (k, column)  4 elements
    C  c[g][2t,2t+1]  c[g+8][2t,2t+1]                                           (row, column) 4 floats

A shared tile has rows of 64 elements, 128 bytes, in eight chunks of 16 bytes. Chunk c of row r stands at place
c XOR (r mod 8), so that the eight rows that one `ldmatrix` reads lie in different banks:

    row 0 | 0 1 2 3 4 5 6 7 |
    row 1 | 1 0 3 2 5 4 7 6 |
    row 2 | 2 3 0 1 6 7 4 5 |
"""

from .common import Ptr
from .gpu_common import SharedPtr
from max.gpu import barrier, lane_id
from max.gpu.compute.mma import ld_matrix, mma
from std.memory import bitcast
from std.sys._assembly import inlined_assembly

comptime TILE_K = 64
"""Elements of a row of a shared tile."""


@always_inline
def mma_16x8x16[
    dtype: DType
](a: SIMD[dtype, 8], b: SIMD[dtype, 4], c: SIMD[DType.float32, 4]) -> SIMD[
    DType.float32, 4
]:
    """Returns c + a @ b of one warp."""
    var d = c
    mma(d, a, b, c)
    return d


@always_inline
def read_once() -> Int64:
    """The policy for what is read once: it leaves the L2 cache first, so that instructions and small tables stay.
    """
    return inlined_assembly[
        "createpolicy.fractional.L2::evict_first.b64 $0, 1.0;",
        Int64,
        constraints="=l",
        has_side_effect=False,
    ]()


@always_inline
def copy_async_16[
    dtype: DType, //, once: Bool = False
](target: SharedPtr[dtype], source: Ptr[dtype], valid: Bool):
    """Starts a copy of 16 bytes to shared memory that bypasses registers; writes zeros where not `valid`.

    once: nobody reads them again soon, so they leave the L2 cache first.
    """
    comptime if once:
        inlined_assembly[
            (
                "cp.async.cg.shared.global.L2::cache_hint.L2::128B"
                " [$0], [$1], 16, $2, $3;"
            ),
            NoneType,
            constraints="r,l,r,l,~{memory}",
            has_side_effect=True,
        ](
            Int32(Int(target)),
            Int64(Int(source)),
            Int32(16) if valid else Int32(0),
            read_once(),
        )
        return
    inlined_assembly[
        "cp.async.cg.shared.global.L2::128B [$0], [$1], 16, $2;",
        NoneType,
        constraints="r,l,r,~{memory}",
        has_side_effect=True,
    ](Int32(Int(target)), Int64(Int(source)), Int32(16) if valid else Int32(0))


@always_inline
def commit_copies():
    """Closes the group of copies started since the last commit."""
    inlined_assembly[
        "cp.async.commit_group;",
        NoneType,
        constraints="~{memory}",
        has_side_effect=True,
    ]()


@always_inline
def wait_copies[pending: Int]():
    """Waits until at most `pending` groups of this thread are under way."""
    inlined_assembly[
        "cp.async.wait_group $0;",
        NoneType,
        constraints="n,~{memory}",
        has_side_effect=True,
    ](Int32(pending))


@always_inline
def transposed[dtype: DType](pair: SIMD[dtype, 2]) -> SIMD[dtype, 2]:
    """Transposes an 8 x 8 matrix of two-byte elements of which lane 4 g + t holds row g, columns 2 t and 2 t + 1.
    """
    var bits = inlined_assembly[
        "movmatrix.sync.aligned.m8n8.trans.b16 $0, $1;",
        UInt32,
        constraints="=r,r",
        has_side_effect=True,
    ](bitcast[DType.uint32, 1](pair))
    return bitcast[dtype, 2](bits)


@always_inline
def swizzled(row: Int, chunk: Int) -> Int:
    """Element offset of a chunk of 16 bytes in a shared tile with rows of 64 two-byte elements.
    """
    return row * TILE_K + ((chunk ^ (row & 7)) << 3)


@always_inline
def load_a[
    dtype: DType
](tile: SharedPtr[dtype], row: Int, step: Int) -> SIMD[dtype, 8]:
    """The A operand of rows row to row + 15, k from 16 step: the tile is stored [row][k].
    """
    var lane = Int(lane_id())
    return ld_matrix[8](
        tile.unsafe_offset(swizzled(row + (lane & 15), step * 2 + (lane >> 4)))
    )


@always_inline
def load_b_pair[
    dtype: DType
](tile: SharedPtr[dtype], column: Int, step: Int) -> SIMD[dtype, 8]:
    """The B operands of two times eight columns from `column`, k from 16 step: the tile is stored [column][k].
    """
    var lane = Int(lane_id())
    var row = column + (lane & 7) + ((lane >> 4) << 3)
    return ld_matrix[8](
        tile.unsafe_offset(swizzled(row, step * 2 + ((lane >> 3) & 1)))
    )


@always_inline
def load_b_pair_transposed[
    dtype: DType
](tile: SharedPtr[dtype], row: Int, chunk: Int) -> SIMD[dtype, 8]:
    """The B operands of columns 8 chunk to 8 chunk + 15 and k = row to row + 15: the tile is stored [k][column].
    """
    var lane = Int(lane_id())
    return ld_matrix[8, transpose=True](
        tile.unsafe_offset(swizzled(row + (lane & 15), chunk + (lane >> 4)))
    )
