"""A consumer warpgroup of `attention_hopper_gpu.mojo`: 64 rows of queries over all tiles of the block.

Tile n, in the order of the program:

    start     S(n) = Q K(n)^T, then O += P(n-1) V(n-1)
    wait      for S(n)                             K(n) is free
    compute   the softmax of S(n)                  the tensor cores go on with O
    wait      for V(n) and K(n+1) to arrive
    wait      for O                                V(n-1) is free
    scale     O by what the greatest score has changed; round P(n)
"""

from .attention_hopper_block_gpu import (
    F32,
    GROUP_ROWS,
    GROUP_THREADS,
    BlockMemory,
    Copier,
    Work,
)
from .attention_hopper_products_gpu import start_scores, start_values
from .attention_hopper_softmax_gpu import OnlineSoftmax
from .common import Ptr
from .gpu_common import SharedPtr, warp_index
from .mbarrier_gpu import arrive, wait_barrier
from .mma_gpu import (
    TILE_K,
    commit_copies,
    copy_async_16,
    swizzled,
    wait_copies,
)
from .wgmma_gpu import fence_async, pin
from max.gpu import lane_id
from max.gpu.compute.mma import wgmma_wait_group_sync
from max.gpu.sync import named_barrier, named_barrier_arrive
from std.math import ceildiv
from std.sys import size_of


@always_inline
def consume[
    D: Int,
    dtype: DType,
    groups: Int,
    keys: Int,
    stages: Int,
    //,
    turns: Bool,
](
    memory: BlockMemory[D, dtype, groups, keys, stages],
    work: Work,
    copier: Copier[D],
    me: Int32,
    o: Ptr[dtype],
    q: Ptr[dtype],
    scale: Float32,
):
    """Computes and writes the rows of consumer `me`."""
    comptime width = memory.panels * TILE_K
    """Columns of O: whole panels, of which the first D are written."""
    var lane = Int32(lane_id())
    var group_row = work.row0 + me * GROUP_ROWS
    var query = memory.query(Int(me))
    copy_queries(query, work, copier, group_row, q)
    var softmax = OnlineSoftmax[keys].of_lane(work, group_row, scale)

    @always_inline
    def start_of(n: Int32) {imm} -> Int32:
        """The first key of tile n."""
        return (work.first_tile + n) * Int32(keys)

    @always_inline
    def arrived(n: Int32) {imm}:
        """Waits for the values of tile n and the keys of the next."""
        var stage, phase = memory.place_of(n)
        wait_barrier(memory.full_v(stage), phase)
        if n + 1 < work.count:
            var next_stage, next_phase = memory.place_of(n + 1)
            wait_barrier(memory.full_k(next_stage), next_phase)
        fence_async()

    @always_inline
    def turn() {imm}:
        """Waits until the consumer before this one has started its products."""
        comptime if turns:
            named_barrier[Int32(2 * GROUP_THREADS)](8 + me)

    @always_inline
    def pass_on() {imm}:
        comptime if turns:
            var other = me + 1 if me + 1 < Int32(groups) else 0
            named_barrier_arrive[Int32(2 * GROUP_THREADS)](8 + other)

    wait_copies[0]()
    fence_async()
    named_barrier[Int32(GROUP_THREADS)](1 + me)
    if me == Int32(groups - 1):
        pass_on()

    var acc = SIMD[F32, width // 2](0)
    wait_barrier(memory.full_k(0), 0)
    fence_async()
    turn()
    var s = start_scores[D, keys](query, memory.key(0))
    if me != Int32(groups - 1) or work.count > 1:
        pass_on()
    wgmma_wait_group_sync[0]()
    s = pin(s)
    if lane == 0:
        arrive(memory.free_k(0))
    var p = softmax.probabilities(s, start_of(0)).cast[dtype]()
    arrived(0)
    for n in range(Int32(1), work.count):
        var stage, _ = memory.place_of(n)
        var before, _ = memory.place_of(n - 1)
        turn()
        s = start_scores[D, keys](query, memory.key(stage))
        acc = start_values[keys, width](memory.value(before), p, acc)
        if me != Int32(groups - 1) or n + 1 < work.count:
            pass_on()
        wgmma_wait_group_sync[1]()
        s = pin(s)
        if lane == 0:
            arrive(memory.free_k(stage))
        s = pin(softmax.probabilities(s, start_of(n)))
        # Between the softmax and the wait for O, so that the assembler does not move that wait up.
        arrived(n)
        wgmma_wait_group_sync[0]()
        acc = pin(acc)
        if lane == 0:
            arrive(memory.free_v(before))
        comptime for i in range(D // 2):
            acc[i] *= softmax.rescale[(i >> 1) & 1]
        p = s.cast[dtype]()
    var last, _ = memory.place_of(work.count - 1)
    acc = start_values[keys, width](memory.value(last), p, acc)
    wgmma_wait_group_sync[0]()
    acc = pin(acc)

    # Through the place of the queries, so that a row is written 16 bytes a lane; no warp reads queries any more.
    named_barrier[Int32(GROUP_THREADS)](1 + me)
    var inverse = 1 / softmax.sums()
    var warp_row = Int(warp_index() & 3) * 16 + Int(lane >> 2)
    comptime for i in range(0, D // 2, 2):
        comptime half = (i >> 1) & 1
        comptime column = i >> 2
        var pair = (acc.slice[2, offset=i]() * inverse[half]).cast[dtype]()
        query.unsafe_store[alignment=2 * size_of[dtype]()](
            (column >> 3) * (GROUP_ROWS * TILE_K)
            + swizzled(warp_row + half * 8, column & 7)
            + Int(2 * (lane & 3)),
            pair,
        )
    named_barrier[Int32(GROUP_THREADS)](1 + me)
    write_rows(query, work, copier, group_row, o)


@always_inline
def copy_queries[
    D: Int, dtype: DType
](
    query: SharedPtr[dtype],
    work: Work,
    copier: Copier[D],
    group_row: Int32,
    q: Ptr[dtype],
):
    """Starts the copies of 64 rows from `group_row` on; rows beyond the end repeat the last one.
    """
    comptime for i in range(GROUP_ROWS // Copier[D].ROWS):
        comptime first = i * Copier[D].ROWS
        var row = group_row + copier.row + Int32(first)
        var source = work.row_offset[D](min(row, work.rows - 1)) + Int(
            copier.chunk * 8
        )
        comptime for panel in range(ceildiv(D, TILE_K)):
            if copier.has_chunk[panel]():
                copy_async_16(
                    query.unsafe_offset(
                        copier.place + (panel * GROUP_ROWS + first) * TILE_K
                    ),
                    q.unsafe_offset(source + panel * TILE_K),
                    True,
                )
    commit_copies()


@always_inline
def write_rows[
    D: Int, dtype: DType
](
    rows: SharedPtr[dtype],
    work: Work,
    copier: Copier[D],
    group_row: Int32,
    o: Ptr[dtype],
):
    """Writes 64 rows, as `copy_queries` read them, as far as the request has them.
    """
    comptime for i in range(GROUP_ROWS // Copier[D].ROWS):
        comptime first = i * Copier[D].ROWS
        var row = group_row + copier.row + Int32(first)
        if row < work.rows:
            var to = work.row_offset[D](row) + Int(copier.chunk * 8)
            comptime for panel in range(ceildiv(D, TILE_K)):
                if copier.has_chunk[panel]():
                    o.unsafe_store[alignment=16](
                        to + panel * TILE_K,
                        rows.unsafe_load[width=8, alignment=16](
                            copier.place + (panel * GROUP_ROWS + first) * TILE_K
                        ),
                    )
