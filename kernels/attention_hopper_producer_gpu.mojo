"""The producer warpgroup of `attention_hopper_gpu.mojo`: copies tiles of keys and values into the rings, page by page.

    order         K0 | K1 V0 | K2 V1 | K3 V2 | ...        a consumer starts the scores of a tile before the values of the last
    page table    read two tiles ahead: lane i of each warp finds where key 8 i of a tile lies, the others ask it by a shuffle
    copies        16 bytes a thread, sixteen rows of the warpgroup at once; rows after the last key are zeros

Nobody waits for copies here: each thread's arrival at a tile's barrier is itself asynchronous, and comes when its copies
have.
"""

from .attention_hopper_block_gpu import BlockMemory, Copier, Work
from .common import Ptr
from .gpu_common import SharedPtr
from .mbarrier_gpu import arrive_after_copies, wait_barrier
from .mma_gpu import TILE_K, copy_async_16, wait_copies
from max.gpu import lane_id
from max.gpu.primitives import warp


@always_inline
def produce[
    D: Int, dtype: DType, groups: Int, keys: Int, stages: Int, //
](
    memory: BlockMemory[D, dtype, groups, keys, stages],
    work: Work,
    copier: Copier[D],
    kv: Ptr[dtype],
    table: Ptr[DType.int32],
    kv_heads: Int32,
    shift: Int32,
):
    """Copies all tiles of the block from the pages that the request's `table` names, of PS = 2^shift keys; PS is at
    least 8, so that eight keys lie in one page.
    """
    var lane = Int32(lane_id())
    var values_after = kv_heads << shift
    var source = kv.unsafe_offset(
        Int((copier.row & 7) * Int32(D) + copier.chunk * 8)
    )

    @always_inline
    def key_rows(n: Int32) {imm} -> Int32:
        """Of tile n: lane i has the row of the cache where its key 8 i is."""
        var j = (work.first_tile + n) * Int32(keys) + lane * 8
        if lane >= Int32(keys // 8) or j > work.latest:
            return 0
        var page = table[unsafe_offset=Int(j >> shift)]
        return ((page * 2 * kv_heads + work.kv_head) << shift) + (
            j & ((1 << shift) - 1)
        )

    @always_inline
    def copy_tile(target: SharedPtr[dtype], n: Int32, from_rows: Int32) {imm}:
        """Starts the copies of tile n from the rows of the cache that the lanes have.
        """
        var known = (
            work.latest - (work.first_tile + n) * Int32(keys) - copier.row
        )
        var to = target.unsafe_offset(copier.place)
        comptime for i in range(keys // Copier[D].ROWS):
            comptime first = i * Copier[D].ROWS
            var row = warp.shuffle_idx(
                from_rows, UInt32(copier.row >> 3) + UInt32(first // 8)
            )
            comptime for panel in range(memory.panels):
                if copier.has_chunk[panel]():
                    copy_async_16(
                        to.unsafe_offset((panel * keys + first) * TILE_K),
                        source.unsafe_offset(Int(row) * D + panel * TILE_K),
                        Int32(first) <= known,
                    )

    @always_inline
    def copy_keys(n: Int32, from_rows: Int32) {imm}:
        var stage, phase = memory.place_of(n)
        if n >= Int32(stages):
            wait_barrier(memory.free_k(stage), phase ^ 1)
        copy_tile(memory.key(stage), n, from_rows)
        arrive_after_copies(memory.full_k(stage))

    @always_inline
    def copy_values(n: Int32, from_rows: Int32) {imm}:
        var stage, phase = memory.place_of(n)
        if n >= Int32(stages):
            wait_barrier(memory.free_v(stage), phase ^ 1)
        copy_tile(memory.value(stage), n, from_rows + values_after)
        arrive_after_copies(memory.full_v(stage))

    var these = key_rows(0)
    var next = key_rows(1)
    copy_keys(0, these)
    for n in range(work.count):
        var later = key_rows(n + 2)
        if n + 1 < work.count:
            copy_keys(n + 1, next)
        copy_values(n, these)
        these = next
        next = later
    wait_copies[0]()
