"""Linear for one to 256 rows on Hopper: the copy engine streams the weights, `wgmma` multiplies them.

For so few rows time is the time to read w, so w takes the side of the product that must be 64 long, and the rows of x,
filled up to ROWS, the side that may be short:

    y^T [64, ROWS] = w [64, K] @ x^T [K, ROWS]                                a block; k in steps of 64

               x  +------+------+---        stage      64 x 64 of w and ROWS x 64 of x, swizzled as `wgmma` reads them
             ROWS |      |      |
                  +------+------+---        producer   one lane asks for boxes of w and x
               w  +------+------+--- y^T    consumers  four warps; the sums are registers, ROWS / 2 a thread
               64 |      |      |   +---+
                  +------+------+---|   |   | s | s+1 | s+2 | ...  a ring in shared memory (mbarrier_gpu.mojo)
                   k ->             +---+

Weights depend on no earlier kernel, so the whole ring asks for its part of w before `griddepcontrol.wait`: of a small
matrix most has come when x is ready. Where w has few rows, the SPLIT blocks of a cluster share k and add up their sums
(linear_stream_join_gpu.mojo). More than 128 rows are two times as many blocks.

What is chosen, as measured on an H100 (132 SMs; matrices of Qwen3-0.6B and Qwen3-8B):

    split     to 64 blocks, or to 132 if each keeps 32 steps: more split a matrix of few rows too fine, and what blocks
              of a cluster send each other is slow
    ring      200 KB where all blocks run at once, which leaves room for a block of a kernel that does not multiply;
              else 75 KB, so that three blocks share an SM and cover each other's beginning and end
    late      from 65 rows on the next kernel may start only when the last stage has been asked for, so that its weights
              do not delay this one's x, which then is as many bytes as w

Time by cuBLAS's, by turns, one product after another in a captured graph, w not in the cache (`benchmarks.gpu.run_all`,
benchmarks/results/2026-11-26_h100_linear.json):

    rows                   8     16     32     64    128    256
    0.6B  qkv                  0.74   0.75   0.69   0.92   0.91          blocks read rows / 64 times as many bytes of x as
          o                    0.52   0.52   0.60   0.77   0.78          of w, which limits from 128 rows on
          gate_up              0.76   0.75   0.80   0.95
          down                 0.51   0.51   0.55   0.75   0.79
          head          0.92   0.92   0.93   0.92   0.97
    8B    qkv           0.85   0.86   0.87   0.96   0.99
          o             0.76   0.77   0.86   0.90   1.00
          gate_up       0.92   0.93   0.93   0.97   0.96
          down          0.88   0.88   0.88   0.88   1.00
          head          0.93   0.94   0.94   0.94   0.97

Tried without gain: a policy for the L2 cache that drops w first or keeps x (5% slower to 3% quicker, and by turns no difference);
blocks that begin at different k, so that they ask for different parts of x at a time (up to 25% slower: what all ask for at
once comes once).
"""

from .common import Ptr
from .gpu_common import early_launch
from .linear_stream_block_gpu import (
    BARRIER_BYTES,
    MOST_STAGES,
    THREADS,
    TILE,
    linear_stream_kernel,
)
from .linear_stream_join_gpu import UNIT_BYTES, units_of
from .mma_gpu import TILE_K
from .tensor_copy_gpu import tensor_map
from max.gpu.host import DeviceContext, Dim, FuncAttribute
from std.math import ceildiv
from std.sys import size_of

comptime MOST_ROWS = 256
comptime SMS = DeviceContext.default_device_info.sm_count
comptime ONE_WAVE_BYTES = 200 * 1024
comptime MANY_WAVES_BYTES = 75 * 1024


def linear_stream_gpu[
    dtype: DType, out_dtype: DType, N: Int = 0, K: Int = 0, least: Int = 1
](
    y: Ptr[out_dtype],
    x: Ptr[dtype],
    w: Ptr[dtype],
    m: Int,
    n: Int,
    k: Int,
    ctx: DeviceContext,
) raises:
    """Writes y [m, n] = x [m, k] @ w.T for two-byte elements, m from 1 to 256, k a multiple of 8 and an even n.

    N and K, if not 0, are n and k, and m is `least` or more: only what that needs is compiled.
    """

    @always_inline
    def go[rows: Int, split: Int]() raises {imm}:
        launch[dtype, out_dtype, rows, split](y, x, w, m, n, k, ctx)

    @always_inline
    def split_over[rows: Int]() raises {imm}:
        # Sums in float32 are logits, of which there are always many.
        comptime if out_dtype == DType.float32:
            go[rows, 1]()
        elif N > 0 and K > 0:
            comptime if rows == MOST_ROWS // 2:
                if m > rows:
                    go[rows, split_of(2 * ceildiv(N, TILE), K)]()
                    return
            comptime if least <= rows:
                go[rows, split_of(ceildiv(N, TILE), K)]()
        else:
            var split = split_of(ceildiv(n, TILE) * ceildiv(m, rows), k)
            if split == 1:
                go[rows, 1]()
            elif split == 2:
                go[rows, 2]()
            else:
                go[rows, 4]()

    comptime if least <= 8:
        if m <= 8:
            split_over[8]()
            return
    comptime if least <= 64:
        if m <= 16:
            split_over[16]()
            return
        if m <= 32:
            split_over[32]()
            return
        if m <= 64:
            split_over[64]()
            return
    split_over[128]()


def split_of(tiles: Int, k: Int) -> Int:
    """Blocks that share the k of a tile: 1, 2 or 4."""
    var steps = ceildiv(k, TILE_K)
    var split = 1
    while split < 4:
        var blocks = tiles * split * 2
        var each = steps // (split * 2)
        if blocks <= 64 and each >= 4 or blocks <= SMS and each >= 32:
            split *= 2
        else:
            break
    return split


def launch[
    dtype: DType, out_dtype: DType, rows: Int, split: Int
](
    y: Ptr[out_dtype],
    x: Ptr[dtype],
    w: Ptr[dtype],
    m: Int,
    n: Int,
    k: Int,
    ctx: DeviceContext,
) raises:
    """Starts the kernel with as many stages as fit."""
    comptime element = size_of[dtype]()
    comptime stage_bytes = (TILE + rows) * TILE_K * element
    comptime sums_bytes = units_of(rows) * UNIT_BYTES if split > 1 else 0
    comptime assert 2 * stage_bytes + BARRIER_BYTES <= MANY_WAVES_BYTES
    var row_tiles = ceildiv(m, rows)
    # Boxes that leave x come slowly: each row tile has as many rows as x gives it.
    var tile_rows = ceildiv(m, row_tiles)
    var tiles = ceildiv(n, TILE)
    var received = (
        (split - 1) * ceildiv(units_of(tile_rows), split) * UNIT_BYTES
    )
    var blocks = tiles * row_tiles * split
    var room = ONE_WAVE_BYTES if blocks <= SMS else MANY_WAVES_BYTES
    var stages = min(
        (room - BARRIER_BYTES - received) // stage_bytes,
        min(ceildiv(ceildiv(k, TILE_K), split), MOST_STAGES),
    )
    var ring_bytes = max(stages * stage_bytes, sums_bytes)
    ctx.enqueue_function[linear_stream_kernel[dtype, out_dtype, rows, split]](
        tensor_map(w, n, k, TILE, ctx),
        tensor_map(x, m, k, tile_rows, ctx),
        y,
        Int32(m),
        Int32(n),
        Int32(k),
        Int32(row_tiles),
        Int32(tile_rows),
        Int32(stages),
        Int32(ring_bytes),
        Int32(1 if m > 64 else 0),
        grid_dim=blocks,
        block_dim=THREADS,
        cluster_dim=Dim(split),
        shared_mem_bytes=BARRIER_BYTES + ring_bytes + received,
        func_attribute=FuncAttribute.MAX_DYNAMIC_SHARED_SIZE_BYTES(
            UInt32(ONE_WAVE_BYTES)
        ),
        attributes=early_launch(),
    )
