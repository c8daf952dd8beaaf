"""A block of `linear_stream_gpu.mojo`: the producer's lane, the consumers' warps, and their ring.

    full[s]   stage s has come: one arrival, which announces its bytes; the copies count them off
    free[s]   its products have ended: one arrival a consumer warp
"""

from .cluster_gpu import cluster_arrive, cluster_rank
from .common import Ptr
from .gpu_common import (
    Stage,
    SharedPtr,
    start_next,
    wait_for_results,
    warp_index,
)
from .linear_stream_join_gpu import Join, store_sums
from .mbarrier_gpu import (
    Barriers,
    arrive,
    arrive_and_expect,
    fence_barriers,
    init_barrier,
    wait_barrier,
)
from .mma_gpu import TILE_K
from .tensor_copy_gpu import copy_box, prefetch_map
from .wgmma_gpu import descriptor
from max.gpu import (
    MAX_THREADS_PER_BLOCK_METADATA,
    WARP_SIZE,
    barrier,
    block_idx,
    lane_id,
)
from max.gpu.compute.mma import (
    wgmma_async,
    wgmma_commit_group_sync,
    wgmma_fence_aligned,
    wgmma_wait_group_sync,
)
from max.gpu.host.nvidia.tma import TMADescriptor
from max.gpu.memory import AddressSpace, external_memory
from std.math import ceildiv
from std.sys import size_of
from std.utils import StaticTuple

comptime TILE = 64
"""Rows of w of a block."""
comptime WARPS = 4
"""Consumers; the producer is one more."""
comptime THREADS = (WARPS + 1) * WARP_SIZE
comptime MOST_STAGES = 32
comptime BARRIER_BYTES = 1024
"""The barriers stand in front of the ring, whose tiles must lie at multiples of 1,024."""


@__llvm_arg_metadata(w_map, `nvvm.grid_constant`)
@__llvm_arg_metadata(x_map, `nvvm.grid_constant`)
@__llvm_metadata(
    MAX_THREADS_PER_BLOCK_METADATA=StaticTuple[Int32, 1](Int32(THREADS)),
    `nvvm.minctasm`=SIMDLength(2),
)
@__name(t"mili_linear_stream_{dtype}_{out_dtype}_{rows}_{split}")
def linear_stream_kernel[
    dtype: DType, out_dtype: DType, rows: Int, split: Int
](
    w_map: TMADescriptor,
    x_map: TMADescriptor,
    y: Ptr[out_dtype],
    m_: Int32,
    n_: Int32,
    k_: Int32,
    row_tiles: Int32,
    tile_rows: Int32,
    stages_: Int32,
    ring_bytes: Int32,
    late: Int32,
):
    """Cluster b writes columns 64 (b / row_tiles) and on of rows (b % row_tiles) * tile_rows and on; 8 divides k, 2 n.

    Its blocks share k. Clusters with the same rows of w follow each other, so that w comes from memory once. Boxes of x
    have tile_rows <= rows rows; the rest of a stage keeps what was there, which only outputs see that nobody stores.
    """
    comptime w_size = TILE * TILE_K
    comptime stage_size = w_size + rows * TILE_K
    var cluster = UInt32(block_idx.x) // UInt32(split)
    var row0 = Int(cluster % UInt32(row_tiles)) * Int(tile_rows)
    var m = min(Int(m_) - row0, Int(tile_rows))
    var n = Int(n_)
    var stages = Int(stages_)
    var part = cluster_rank() if split > 1 else 0
    var column0 = Int(cluster // UInt32(row_tiles)) * TILE
    var steps = ceildiv(Int(k_), TILE_K)
    var begin = steps * part // split
    steps = steps * (part + 1) // split - begin

    var shared = external_memory[
        Scalar[dtype], address_space=AddressSpace.SHARED, alignment=1024
    ]()
    var full = Barriers(unsafe_from_address=Int(shared))
    var free = full.unsafe_offset(MOST_STAGES)
    var ring = Stage[dtype](unsafe_from_address=Int(shared) + BARRIER_BYTES)
    var join = Join[split](
        m,
        part,
        Int(ring),
        Int(ring) + Int(ring_bytes),
        free.unsafe_offset(MOST_STAGES),
    )
    var acc = SIMD[DType.float32, rows // 2](0)
    var leader = lane_id() == 0

    if warp_index() == WARPS:
        var w_at = Int64(Int(Pointer(to=w_map)))
        var x_at = Int64(Int(Pointer(to=x_map)))
        var bytes = (w_size + Int(tile_rows) * TILE_K) * size_of[dtype]()

        @always_inline
        def fetch_w(step: Int, s: Int) {imm}:
            var on = full.unsafe_offset(s)
            arrive_and_expect(on, bytes)
            copy_box(
                ring.unsafe_offset(s * stage_size),
                w_at,
                (begin + step) * TILE_K,
                column0,
                on,
            )

        @always_inline
        def fetch_x(step: Int, s: Int) {imm}:
            copy_box(
                ring.unsafe_offset(s * stage_size + w_size),
                x_at,
                (begin + step) * TILE_K,
                row0,
                full.unsafe_offset(s),
            )

        if leader:
            prefetch_map(w_at)
            prefetch_map(x_at)
            for s in range(min(stages, steps)):
                init_barrier(full.unsafe_offset(s), 1)
                init_barrier(free.unsafe_offset(s), WARPS)
            join.init()
            fence_barriers()
            for s in range(min(stages, steps)):
                fetch_w(s, s)
            join.expect()
        comptime if split > 1:
            cluster_arrive()
        barrier()
        wait_for_results()
        if leader:
            if late == 0:
                start_next()
            for s in range(min(stages, steps)):
                fetch_x(s, s)
            var s = 0
            var phase = 0
            for step in range(stages, steps):
                wait_barrier(free.unsafe_offset(s), phase)
                fetch_w(step, s)
                fetch_x(step, s)
                s += 1
                if s == stages:
                    s = 0
                    phase ^= 1
            if late != 0:
                start_next()
    else:
        comptime if split > 1:
            cluster_arrive()
        barrier()
        wait_for_results()
        var s = 0
        var phase = 0
        var before = 0
        for step in range(steps):
            wait_barrier(full.unsafe_offset(s), phase)
            var slot = ring.unsafe_offset(s * stage_size)
            var w_tile = SharedPtr[dtype](unsafe_from_address=Int(slot))
            var x_tile = SharedPtr[dtype](
                unsafe_from_address=Int(slot.unsafe_offset(w_size))
            )
            wgmma_fence_aligned()
            comptime for kk in range(TILE_K // 16):
                acc = wgmma_async[
                    TILE,
                    rows,
                    16,
                    DType.float32,
                    rows // 2,
                    a_type=dtype,
                    b_type=dtype,
                ](descriptor(w_tile, kk), descriptor(x_tile, kk), acc)
            wgmma_commit_group_sync()
            # The products of the step before have ended: its stage may be filled again.
            wgmma_wait_group_sync[1]()
            if leader and step > 0:
                arrive(free.unsafe_offset(before))
            before = s
            s += 1
            if s == stages:
                s = 0
                phase ^= 1
        wgmma_wait_group_sync[0]()

    comptime if split > 1:
        join.exchange(acc)
    if warp_index() < WARPS:
        store_sums(
            y.unsafe_offset(row0 * n + column0), acc, join, n - column0, n
        )
    join.leave()
