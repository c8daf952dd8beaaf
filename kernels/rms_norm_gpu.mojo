"""RMSNorm on the GPU, plain and fused with the residual addition (arXiv:1910.07467).

    y[t, e] = x[t, e] * rsqrt(mean_e(x[t, e]^2) + eps) * weight[e]          one rounding, at the end
    fused:    x := x + residual (rounded and written back), then the same

One block has one row. A thread keeps its vectors of 16 bytes in registers, so that memory is read once:

    row t   | 16 B | 16 B | 16 B | ... |        thread i holds vectors i, i + THREADS, ...
              lane0  lane1  lane2
    squares -> warp shuffle -> shared memory -> one sum for the block -> scale -> 16-byte stores

Weights never change, so they come before the wait for the kernel before (`gpu_common.mojo`).

The ladder (`kernels/steps/rms_norm_thread_gpu.mojo`, `rms_norm_block_gpu.mojo`): one thread a row; one block a row with
2-byte loads; 16-byte loads; registers instead of a second read. `python -m benchmarks.ladder rms_norm --device gpu`,
microseconds on an H100 that copies 2,430 GB/s, E = 1024 in bfloat16:

    rows                                     1        256       8192
    one thread a row                      60.8        337        350
    one block a row, 2-byte loads          2.2        2.5       17.8
    16-byte loads                          1.6        1.9       14.2
    registers, weights before the wait     0.8        1.2       10.7     3,150 GB/s: the L2 cache helps
    PyTorch 2.11                           2.2        2.6       13.6

Rows as long as the block (E = 1024 and 4096) are read without asking for bounds: one row 0.84 -> 0.78 us with the residual.
From 1,024 rows on the total is written with y, since stores between loads hold them up: 4.04 -> 3.92 us; from 4,096 on by 64
threads with two vectors each, so that all blocks are there at once: 12.7 -> 12.5. Tried without gain: a warp a row, 1 to 8 rows
a block, warps that stay and fetch their next row early, reads that leave L2 first.

Beside `torch.compile`, by turns (benchmarks/results/2026-11-27_h100_rowwise.json), microseconds at 1, 256 and 4,096 rows:

    E = 1024                    0.77     1.25     6.86          with the residual    0.78     1.88     12.5
        compiled                1.32     1.82     7.23                               1.35     2.59     12.7
    E = 4096                    0.99     2.69     22.9                               1.40     4.16     45.6
        compiled                1.79     3.57     25.0                               1.91     4.98     58.3
"""

from std.math import ceildiv, rsqrt
from std.memory import stack_allocation

from max.gpu import MAX_THREADS_PER_BLOCK_METADATA, block_idx, thread_idx
from max.gpu.host import DeviceContext
from std.utils import StaticTuple

from .common import Ptr
from .gpu_common import (
    block_sum_of_parts,
    early_launch,
    load_vector,
    store_vector,
    vector_width,
    wait_for_previous,
)


@__llvm_metadata(
    MAX_THREADS_PER_BLOCK_METADATA=StaticTuple[Int32, 1](Int32(threads))
)
@__name(
    t"mili_rms_norm_{dtype}_{width}_{threads}_{vectors}_{fused}_{exact}_{late}"
)
def rms_norm_kernel[
    dtype: DType,
    width: Int,
    threads: Int,
    vectors: Int,
    fused: Bool,
    exact: Bool,
    late: Bool,
](
    y: Ptr[dtype],
    total: Ptr[dtype],
    x: Ptr[dtype],
    residual: Ptr[dtype],
    weight: Ptr[dtype],
    cols_: Int32,
    eps: Float32,
):
    """One block a row; `threads * vectors * width` is at least `cols`, and `width` divides `cols`.

    exact: a row is as long as the block, so that no thread asks whether its vectors are there.
    late: the total is written with y, not before the sum.
    """
    # What never changes comes while the kernel before ends, if registers are plenty.
    comptime early = width > 1 and vectors <= 2
    var cols = Int(cols_)
    var row = Int(block_idx.x) * cols
    var values = stack_allocation[vectors, SIMD[dtype, width]]()
    var weights = stack_allocation[vectors, SIMD[dtype, width]]()
    # Rows of one length have one order of additions. Only late kernels come with two numbers of threads for a length: 64
    # with two vectors add as 128 with one.
    comptime parts = vectors if late else 1
    var squares = stack_allocation[parts, SIMD[DType.float32, width]]()
    comptime for i in range(parts):
        squares[unsafe_offset=i] = SIMD[DType.float32, width](0)
    comptime if early:
        comptime for i in range(vectors):
            var e = (Int(thread_idx.x) + i * threads) * width
            comptime if not exact:
                e = min(e, cols - width)
            weights[unsafe_offset=i] = load_vector[dtype, width](weight, e)
    wait_for_previous()
    comptime for i in range(vectors):
        var e = (Int(thread_idx.x) + i * threads) * width
        values[unsafe_offset=i] = SIMD[dtype, width](0)
        if exact or e < cols:
            var v = load_vector[dtype, width](x, row + e)
            comptime if fused:
                var r = load_vector[dtype, width](residual, row + e)
                v = (v.cast[DType.float32]() + r.cast[DType.float32]()).cast[
                    dtype
                ]()
                comptime if not late:
                    store_vector[dtype, width](total, row + e, v)
            values[unsafe_offset=i] = v
            var v32 = v.cast[DType.float32]()
            squares[unsafe_offset=i % parts] = v32.fma(
                v32, squares[unsafe_offset=i % parts]
            )
    var sums = SIMD[DType.float32, parts](0)
    comptime for i in range(parts):
        sums[i] = squares[unsafe_offset=i].reduce_add()
    var mean = block_sum_of_parts[threads](sums) / Float32(cols)
    var scale = rsqrt(mean + eps)
    comptime for i in range(vectors):
        var e = (Int(thread_idx.x) + i * threads) * width
        if exact or e < cols:
            comptime if not early:
                weights[unsafe_offset=i] = load_vector[dtype, width](weight, e)
            comptime if fused and late:
                store_vector[dtype, width](
                    total, row + e, values[unsafe_offset=i]
                )
            var w = weights[unsafe_offset=i].cast[DType.float32]()
            var v32 = values[unsafe_offset=i].cast[DType.float32]()
            store_vector[dtype, width](
                y, row + e, (v32 * scale * w).cast[dtype]()
            )


def rms_norm_gpu[
    dtype: DType
](
    y: Ptr[dtype],
    x: Ptr[dtype],
    weight: Ptr[dtype],
    rows: Int,
    width: Int,
    eps: Float32,
    ctx: DeviceContext,
) raises:
    """Writes y = RMSNorm(x) for x, y [rows, width] and weight [width]."""
    launch[dtype, False](y, y, x, x, weight, rows, width, eps, ctx)


def add_rms_norm_gpu[
    dtype: DType
](
    y: Ptr[dtype],
    total: Ptr[dtype],
    x: Ptr[dtype],
    residual: Ptr[dtype],
    weight: Ptr[dtype],
    rows: Int,
    width: Int,
    eps: Float32,
    ctx: DeviceContext,
) raises:
    """Writes total = residual + x and y = RMSNorm(total); all [rows, width] but weight [width].
    """
    launch[dtype, True](y, total, x, residual, weight, rows, width, eps, ctx)


def launch[
    dtype: DType, fused: Bool
](
    y: Ptr[dtype],
    total: Ptr[dtype],
    x: Ptr[dtype],
    residual: Ptr[dtype],
    weight: Ptr[dtype],
    rows: Int,
    cols: Int,
    eps: Float32,
    ctx: DeviceContext,
) raises:
    """Chooses vectors, threads and registers by the length of a row; raises above 32,768 elements.
    """
    comptime width = vector_width[dtype]()
    if rows == 0:
        return

    def go[
        w: Int,
        threads: Int,
        vectors: Int,
        exact: Bool = False,
        late: Bool = False,
    ]() raises {imm}:
        comptime kernel = rms_norm_kernel[
            dtype, w, threads, vectors, fused, exact, late
        ]
        ctx.enqueue_function[kernel](
            y,
            total,
            x,
            residual,
            weight,
            Int32(cols),
            eps,
            grid_dim=rows,
            block_dim=threads,
            attributes=early_launch(),
        )

    if cols == 128 * width:
        # Stores between the loads: few rows gain by them, many lose.
        comptime if fused:
            if rows >= 4096:
                go[width, 64, 2, exact=True, late=True]()
                return
            if rows >= 1024:
                go[width, 128, 1, exact=True, late=True]()
                return
        go[width, 128, 1, exact=True]()
    elif cols % width == 0 and cols <= 128 * width:
        go[width, 128, 1]()
    elif cols % width == 0 and cols <= 512 * width:
        # Fused, one thread has twice as much to wait for.
        comptime threads = 512 if fused else 256
        comptime vectors = 512 // threads
        if cols == 512 * width:
            go[width, threads, vectors, exact=True]()
        else:
            go[width, threads, vectors]()
    elif cols % width == 0 and cols <= 4096 * width:
        go[width, 1024, 4]()
    elif cols <= 4096:
        go[1, 512, 8]()
    elif cols <= 32768:
        go[1, 1024, 32]()
    else:
        raise Error(
            "rms_norm: rows of ",
            cols,
            " elements are above the 32768 that one block holds",
        )
