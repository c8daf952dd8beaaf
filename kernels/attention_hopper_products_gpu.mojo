"""The two products of `attention_hopper_gpu.mojo`, started by a consumer warpgroup and waited for by its caller.

    S [64, KEYS] = Q [64, D] K^T      Q and K in shared memory, both k-major: k runs over D, in steps of 16
    O [64, D]   += P [64, KEYS] V     P in registers: the accumulator of S, rounded, has the order of the operand;
                                      V in shared memory, n-major: k runs over the keys
"""

from .attention_hopper_block_gpu import F32, GROUP_ROWS
from .gpu_common import SharedPtr
from .mma_gpu import TILE_K
from .wgmma_gpu import descriptor, transposed_descriptor, wgmma_64_f16
from max.gpu.compute.mma import (
    WGMMADescriptor,
    wgmma_async,
    wgmma_commit_group_sync,
    wgmma_fence_aligned,
)
from std.memory import stack_allocation


@always_inline
def start_scores[
    D: Int, keys: Int, dtype: DType
](query: SharedPtr[dtype], tile: SharedPtr[dtype]) -> SIMD[F32, keys // 2]:
    """Starts Q K^T; what is returned is not to be touched before the wait for it.
    """
    var s = stack_allocation[1, SIMD[F32, keys // 2]]()[unsafe_offset=0]
    wgmma_fence_aligned()
    comptime for k in range(D // 16):
        comptime panel = k // 4
        s = wgmma_async[
            64,
            keys,
            16,
            F32,
            keys // 2,
            a_type=dtype,
            b_type=dtype,
            scale_d=0 if k == 0 else 1,
        ](
            descriptor(query.unsafe_offset(panel * GROUP_ROWS * TILE_K), k % 4),
            descriptor(tile.unsafe_offset(panel * keys * TILE_K), k % 4),
            s,
        )
    wgmma_commit_group_sync()
    return s


@always_inline
def start_values[
    keys: Int, width: Int, dtype: DType
](
    tile: SharedPtr[dtype],
    p: SIMD[dtype, keys // 2],
    acc: SIMD[F32, width // 2],
) -> SIMD[F32, width // 2]:
    """Starts acc + P V for `width` columns, whole panels; what is returned is not to be touched before the wait for it.
    """
    var sums = acc
    wgmma_fence_aligned()
    comptime for k in range(keys // 16):
        var part = p.slice[8, offset=8 * k]()
        comptime if dtype == DType.bfloat16:
            sums = wgmma_async[
                64,
                width,
                16,
                dtype,
                F32,
                8,
                width // 2,
                a_type=dtype,
                b_type=dtype,
                layout_b="row",
            ](part, transposed_descriptor[rows=keys](tile, k), sums)
        else:
            comptime for panel in range(width // TILE_K):
                var panel_tile = tile.unsafe_offset(panel * keys * TILE_K)
                sums = sums.insert[offset=32 * panel](
                    wgmma_64_f16(
                        rebind[SIMD[DType.float16, 8]](part),
                        rebind[WGMMADescriptor[DType.float16]](
                            transposed_descriptor[rows=keys](panel_tile, k)
                        ),
                        sums.slice[32, offset=32 * panel](),
                    )
                )
    wgmma_commit_group_sync()
    return sums
