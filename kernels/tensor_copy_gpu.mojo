"""Tensor copies from memory to shared memory (Hopper and later): a box of a matrix, rows swizzled as `wgmma` reads them.

The host describes the matrix in 128 bytes, a tensor map, which travels with the kernel's arguments. One thread then asks
for a box by its first column and row; the copy engine computes the addresses, puts zeros where the box leaves the matrix
and counts the bytes of the whole box off at a barrier. (CUDA Driver API, "Tensor Map Object Management"; PTX ISA,
"cp.async.bulk.tensor".)
"""

from .common import Ptr
from .gpu_common import Stage
from .mbarrier_gpu import Barriers
from .mma_gpu import TILE_K
from max.gpu.host import DeviceBuffer, DeviceContext
from max.gpu.host.nvidia.tma import (
    TensorMapL2Promotion,
    TensorMapSwizzle,
    TMADescriptor,
    create_tma_descriptor,
)
from std.sys._assembly import inlined_assembly
from std.utils.index import Index


def tensor_map[
    dtype: DType
](
    matrix: Ptr[dtype],
    rows: Int,
    columns: Int,
    box_rows: Int,
    ctx: DeviceContext,
) raises -> TMADescriptor:
    """Describes a row-major matrix, 8 a divisor of `columns`, for boxes of [box_rows, 64] elements of two bytes.
    """
    return create_tma_descriptor[
        dtype,
        2,
        TensorMapSwizzle.SWIZZLE_128B,
        TensorMapL2Promotion.L2_256B,
    ](
        DeviceBuffer[dtype](ctx, matrix, rows * columns, owning=False),
        Index(rows, columns),
        Index(columns, 1),
        Index(box_rows, TILE_K),
    )


@always_inline
def prefetch_map(map: Int64):
    """Fetches the tensor map at that address, so that the first copy need not wait for it.
    """
    inlined_assembly[
        "prefetch.tensormap [$0];",
        NoneType,
        constraints="l,~{memory}",
        has_side_effect=True,
    ](map)


@always_inline
def copy_box[
    dtype: DType
](target: Stage[dtype], map: Int64, column: Int, row: Int, barrier: Barriers,):
    """Starts the copy of the box at (row, column) of the matrix whose map lies at that address.
    """
    inlined_assembly[
        (
            "cp.async.bulk.tensor.2d.shared::cluster.global.tile"
            ".mbarrier::complete_tx::bytes [$0], [$1, {$2, $3}], [$4];"
        ),
        NoneType,
        constraints="r,l,r,r,r,~{memory}",
        has_side_effect=True,
    ](
        Int32(Int(target)),
        map,
        Int32(column),
        Int32(row),
        Int32(Int(barrier)),
    )
