"""Attention of many new tokens on Hopper (FlashAttention-3, arXiv:2407.08608): copies, products and softmax overlap.

Rows are as in `attention_prefill_gpu.mojo`: the query heads that share a key/value head are rows of the same tile.

    block      GROUPS x 64 rows of queries against tiles of KEYS keys; GROUPS + 1 warpgroups
    producer   one warpgroup copies tiles of keys and of values into a ring of STAGES each, page by page
    consumers  a warpgroup for each 64 rows:  S [64, KEYS] = Q K^T  ->  online softmax  ->  O [64, D] += P V
               Q, K, V are read from shared memory by `wgmma`; S, P and O stay in registers

`wgmma` runs while its warps go on, so a consumer starts the scores of the next tile before the values of this one, and
computes the softmax of the next while the tensor cores multiply the values of this one. The consumers take turns in
starting their products: one's softmax runs beside the other's products.

    consumer 0   S1 | S2 = Q K2^T, O += P1 V1  softmax 2         | S3, O += P2 V2  softmax 3         |
    consumer 1         softmax 1         | S2 = Q K2^T, O += P1 V1  softmax 2         | S3 ...

    barriers   full_k, full_v [STAGES]   the copies of a tile have arrived    128 arrivals, one a producer thread
               free_k, free_v [STAGES]   a tile was read by all               4 arrivals of each consumer, one a warp
"""

from .attention import AttentionShape
from .attention_prefill_gpu import find_tile
from .common import Ptr
from .gpu_common import SharedPtr, group_max, group_sum, log2_exact, warp_index
from .mma_gpu import TILE_K, commit_copies, copy_async_16, swizzled, wait_copies
from .wgmma_gpu import (
    Barrier,
    descriptor,
    fence_async,
    pin,
    transposed_descriptor,
    wgmma_64_f16,
)
from max.gpu import (
    MAX_THREADS_PER_BLOCK_METADATA,
    WARP_SIZE,
    barrier,
    block_idx,
    lane_id,
    thread_idx,
)
from max.gpu.compute.mma import (
    WGMMADescriptor,
    wgmma_async,
    wgmma_commit_group_sync,
    wgmma_fence_aligned,
    wgmma_wait_group_sync,
)
from max.gpu.host import DeviceContext, FuncAttribute
from max.gpu.intrinsics import warpgroup_reg_alloc, warpgroup_reg_dealloc
from max.gpu.memory import AddressSpace, external_memory
from max.gpu.primitives import warp
from max.gpu.sync import named_barrier, named_barrier_arrive
from std.math import ceildiv, exp2
from std.math.constants import log2e
from std.memory import stack_allocation
from std.sys import size_of
from std.utils import StaticTuple

comptime GROUP_ROWS = 64
comptime GROUP_THREADS = 128
comptime F32 = DType.float32
comptime LOWEST = Float32(-1e30)
"""Below every score, and finite when scaled: a row that has seen no key yet."""


@fieldwise_init
struct Tiling[D: Int, dtype: DType, groups: Int, keys: Int, stages: Int](
    ImplicitlyCopyable, TrivialRegisterPassable
):
    """Shared memory of a block: queries, stages of keys and values, barriers.
    """

    comptime panels = ceildiv(Self.D, TILE_K)
    comptime queries = Self.panels * GROUP_ROWS * TILE_K
    comptime tile = Self.panels * Self.keys * TILE_K
    comptime elements = (
        Self.groups * Self.queries + 2 * Self.stages * Self.tile
    )
    comptime bytes = Self.elements * size_of[Self.dtype]() + 4 * Self.stages * 8
    comptime threads = (Self.groups + 1) * GROUP_THREADS

    var base: Int

    @always_inline
    def at(self, element: Int) -> SharedPtr[Self.dtype]:
        return SharedPtr[Self.dtype](
            unsafe_from_address=self.base + element * size_of[Self.dtype]()
        )

    @always_inline
    def query(self, group: Int) -> SharedPtr[Self.dtype]:
        return self.at(group * Self.queries)

    @always_inline
    def key(self, stage: Int) -> SharedPtr[Self.dtype]:
        return self.at(Self.groups * Self.queries + stage * Self.tile)

    @always_inline
    def value(self, stage: Int) -> SharedPtr[Self.dtype]:
        return self.key(stage + Self.stages)

    @always_inline
    def barrier(self, kind: Int, stage: Int) -> Barrier:
        var first = self.base + Self.elements * size_of[Self.dtype]()
        return Barrier(Int32(first + (kind * Self.stages + stage) * 8))

    @always_inline
    def full_k(self, stage: Int) -> Barrier:
        return self.barrier(0, stage)

    @always_inline
    def full_v(self, stage: Int) -> Barrier:
        return self.barrier(1, stage)

    @always_inline
    def free_k(self, stage: Int) -> Barrier:
        return self.barrier(2, stage)

    @always_inline
    def free_v(self, stage: Int) -> Barrier:
        return self.barrier(3, stage)


@__llvm_metadata(
    MAX_THREADS_PER_BLOCK_METADATA=StaticTuple[Int32, 1](
        Int32((groups + 1) * GROUP_THREADS)
    )
)
@__name(t"mili_attention_hopper_{dtype}_{D}_{groups}_{keys}_{stages}_{turns}")
def attention_hopper_kernel[
    D: Int,
    dtype: DType,
    groups: Int,
    keys: Int,
    stages: Int,
    turns: Bool,
](
    o: Ptr[dtype],
    q: Ptr[dtype],
    kv: Ptr[dtype],
    row_offsets: Ptr[DType.int32],
    context_lengths: Ptr[DType.int32],
    page_table: Ptr[DType.int32],
    scale: Float32,
    requests: Int32,
    heads: Int32,
    kv_heads: Int32,
    shift: Int32,
    table_width: Int32,
    window: Int32,
    least: Int32,
):
    """Block (h, i) writes 64 * groups rows of tile i for key/value head h; 16 divides D, scale is above 0.
    """
    comptime T = Tiling[D, dtype, groups, keys, stages]
    comptime rows_of_block = groups * GROUP_ROWS
    comptime rows_at_once = GROUP_THREADS // 8
    comptime width = T.panels * TILE_K
    """Columns of O: whole panels, of which the first D are written."""
    var group = UInt32(heads) // UInt32(kv_heads)
    var kv_head = Int32(block_idx.x)
    var found, found_tile = find_tile(
        row_offsets,
        Int(requests),
        Int(group),
        rows_of_block,
        Int(block_idx.y),
        Int(least),
    )
    # The same in all lanes, and the compiler knows it of a value that lane 0 gives.
    var b = Int(warp.shuffle_idx(Int32(found), UInt32(0)))
    var tile = warp.shuffle_idx(Int32(found_tile), UInt32(0))
    if b < 0:
        return
    var first_token = row_offsets[unsafe_offset=b]
    var tokens = row_offsets[unsafe_offset=b + 1] - first_token
    var position0 = context_lengths[unsafe_offset=b] - tokens
    var rows = tokens * Int32(group)
    var row0 = tile * Int32(rows_of_block)
    var shared = external_memory[
        Scalar[dtype], address_space=AddressSpace.SHARED, alignment=1024
    ]()
    var memory = T(Int(shared))

    @always_inline
    def position(row: Int32) {imm} -> Int32:
        """Of a row of the request; rows beyond the end repeat the last one."""
        return position0 + Int32(UInt32(min(row, rows - 1)) // group)

    # Keys that the first and the last row of the block see.
    var latest = position(row0 + Int32(rows_of_block - 1))
    var first_key = max(
        Int32(0), position(row0) - window + 1
    ) if window > 0 else Int32(0)
    var first_tile = Int32(UInt32(first_key) // UInt32(keys))
    var count = Int32(UInt32(latest) // UInt32(keys)) + 1 - first_tile

    if thread_idx.x == 0:
        comptime for i in range(stages):
            memory.full_k(i).init(GROUP_THREADS)
            memory.full_v(i).init(GROUP_THREADS)
            memory.free_k(i).init(4 * groups)
            memory.free_v(i).init(4 * groups)
    barrier()

    var me = warp.shuffle_idx(Int32(warp_index() // 4), UInt32(0))
    var thread = Int32(thread_idx.x) & (GROUP_THREADS - 1)
    var lane = Int32(lane_id())

    @always_inline
    def place_of(n: Int32) {} -> Tuple[Int, Int]:
        """The stage of tile n of the block, and the parity of the phase in which it is filled.
        """
        var round = Int(UInt32(n) // UInt32(stages))
        return (Int(n) - round * stages, round & 1)

    # A thread copies chunk `chunk` of each panel of rows thread_row, thread_row + rows_at_once, ...: one place mod 8.
    var chunk = thread & 7
    var thread_row = thread >> 3
    var place = swizzled(Int(thread_row), Int(chunk))

    @always_inline
    def has_chunk[panel: Int]() {imm} -> Bool:
        """Whether the panel is so wide; a row of 80 elements ends after two chunks of its second panel.
        """
        comptime chunks = D // 8 - panel * 8
        comptime if chunks >= 8:
            return True
        else:
            return chunk < Int32(chunks)

    if me == Int32(groups):
        warpgroup_reg_dealloc[40 if groups == 2 else 32]()
        var table = page_table.unsafe_offset(b * Int(table_width))
        var values_after = kv_heads << shift
        var source = kv.unsafe_offset(
            Int((thread_row & 7) * Int32(D) + chunk * 8)
        )

        @always_inline
        def key_rows(n: Int32) {imm} -> Int32:
            """Of tile n: lane i has the row of the cache where its key 8 i is; eight keys lie in one page.
            """
            var j = (first_tile + n) * Int32(keys) + lane * 8
            if lane >= Int32(keys // 8) or j > latest:
                return 0
            var page = table[unsafe_offset=Int(j >> shift)]
            return ((page * 2 * kv_heads + kv_head) << shift) + (
                j & ((1 << shift) - 1)
            )

        @always_inline
        def copy_tile(
            target: SharedPtr[dtype], n: Int32, from_rows: Int32
        ) {imm}:
            """Starts the copies of tile n from the rows of the cache that the lanes have; rows after the last key are zeros.
            """
            var known = latest - (first_tile + n) * Int32(keys) - thread_row
            var to = target.unsafe_offset(place)
            comptime for i in range(keys // rows_at_once):
                var row = warp.shuffle_idx(
                    from_rows,
                    UInt32(thread_row >> 3) + UInt32(i * rows_at_once // 8),
                )
                comptime for panel in range(T.panels):
                    if has_chunk[panel]():
                        copy_async_16(
                            to.unsafe_offset(
                                (panel * keys + i * rows_at_once) * TILE_K
                            ),
                            source.unsafe_offset(Int(row) * D + panel * TILE_K),
                            Int32(i * rows_at_once) <= known,
                        )

        @always_inline
        def copy_keys(n: Int32, from_rows: Int32) {imm}:
            var stage, phase = place_of(n)
            if n >= Int32(stages):
                memory.free_k(stage).wait(phase ^ 1)
            copy_tile(memory.key(stage), n, from_rows)
            memory.full_k(stage).arrive_after_copies()

        @always_inline
        def copy_values(n: Int32, from_rows: Int32) {imm}:
            var stage, phase = place_of(n)
            if n >= Int32(stages):
                memory.free_v(stage).wait(phase ^ 1)
            copy_tile(memory.value(stage), n, from_rows + values_after)
            memory.full_v(stage).arrive_after_copies()

        var these = key_rows(0)
        var next = key_rows(1)
        copy_keys(0, these)
        for n in range(count):
            var later = key_rows(n + 2)
            if n + 1 < count:
                copy_keys(n + 1, next)
            copy_values(n, these)
            these = next
            next = later
        wait_copies[0]()
    else:
        warpgroup_reg_alloc[232 if groups == 2 else 160]()
        var t = lane & 3
        var group_row = row0 + me * GROUP_ROWS
        var query = memory.query(Int(me))

        @always_inline
        def row_offset(row: Int32) {imm} -> Int:
            """Where chunk `chunk` of a row's first panel is in q and o."""
            var token = Int32(UInt32(row) // group)
            var head = (kv_head - token) * Int32(group) + row
            return Int((first_token + token) * heads + head) * D + Int(
                chunk * 8
            )

        # Rows beyond the end repeat the last one.
        comptime for i in range(GROUP_ROWS // rows_at_once):
            var row = thread_row + Int32(i * rows_at_once)
            var source = row_offset(min(group_row + row, rows - 1))
            comptime for panel in range(T.panels):
                if has_chunk[panel]():
                    copy_async_16(
                        query.unsafe_offset(
                            place
                            + (panel * GROUP_ROWS + i * rows_at_once) * TILE_K
                        ),
                        q.unsafe_offset(source + panel * TILE_K),
                        True,
                    )
        commit_copies()

        var warp_row = Int32(warp_index() & 3) * 16 + (lane >> 2)
        var position_a = position(group_row + warp_row)
        var position_b = position(group_row + warp_row + 8)
        # Keys that the first and the last row of this warpgroup see.
        var group_earliest = position(group_row)
        var group_latest = position(group_row + GROUP_ROWS - 1)
        var factor = scale * Float32(log2e)

        @always_inline
        def start_scores(stage: Int) {imm} -> SIMD[F32, keys // 2]:
            """Starts Q K^T."""
            var s = stack_allocation[1, SIMD[F32, keys // 2]]()[unsafe_offset=0]
            var tile = memory.key(stage)
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
                    descriptor(
                        query.unsafe_offset(panel * GROUP_ROWS * TILE_K), k % 4
                    ),
                    descriptor(
                        tile.unsafe_offset(panel * keys * TILE_K), k % 4
                    ),
                    s,
                )
            wgmma_commit_group_sync()
            return s

        @always_inline
        def start_values(
            stage: Int, p: SIMD[dtype, keys // 2], acc: SIMD[F32, width // 2]
        ) {imm} -> SIMD[F32, width // 2]:
            """Starts O += P V."""
            var sums = acc
            var tile = memory.value(stage)
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
                    comptime for panel in range(T.panels):
                        var panel_tile = tile.unsafe_offset(
                            panel * keys * TILE_K
                        )
                        sums = sums.insert[offset=32 * panel](
                            wgmma_64_f16(
                                rebind[SIMD[DType.float16, 8]](part),
                                rebind[WGMMADescriptor[DType.float16]](
                                    transposed_descriptor[rows=keys](
                                        panel_tile, k
                                    )
                                ),
                                sums.slice[32, offset=32 * panel](),
                            )
                        )
            wgmma_commit_group_sync()
            return sums

        @always_inline
        def softmax(
            n: Int32,
            scores: SIMD[F32, keys // 2],
            mut greatest: SIMD[F32, 2],
            mut total: SIMD[F32, 4],
            mut rescale: SIMD[F32, 2],
        ) {imm} -> SIMD[F32, keys // 2]:
            """Probabilities relative to the greatest score so far, and what earlier sums are to be multiplied by.
            """
            var s = scores
            var start = (first_tile + n) * Int32(keys)
            if start + Int32(keys - 1) > group_earliest or (
                window > 0 and start <= group_latest - window
            ):
                var last = SIMD[DType.int32, 2](
                    position_a - start - 2 * t, position_b - start - 2 * t
                )
                var before = last - window if window > 0 else SIMD[
                    DType.int32, 2
                ](Int32(-1 - 2 * keys))
                comptime for i in range(keys // 2):
                    comptime column = Int32((i >> 2) * 8 + (i & 1))
                    comptime half = (i >> 1) & 1
                    if column > last[half] or column <= before[half]:
                        s[i] = Float32.MIN
            var best = greatest
            comptime for i in range(0, keys // 2, 4):
                best = max(
                    best,
                    SIMD[F32, 2](max(s[i], s[i + 1]), max(s[i + 2], s[i + 3])),
                )
            best = SIMD[F32, 2](group_max[4](best[0]), group_max[4](best[1]))
            rescale = exp2((greatest - best) * factor)
            greatest = best
            var shifted = -best * factor
            total *= SIMD[F32, 4](
                rescale[0], rescale[0], rescale[1], rescale[1]
            )
            comptime for i in range(keys // 2):
                s[i] = exp2(s[i].fma(factor, shifted[(i >> 1) & 1]))
                total[i & 3] += s[i]
            return s

        @always_inline
        def arrived(n: Int32) {imm}:
            """Waits for the values of tile n and the keys of the next."""
            var stage, phase = place_of(n)
            memory.full_v(stage).wait(phase)
            if n + 1 < count:
                var next_stage, next_phase = place_of(n + 1)
                memory.full_k(next_stage).wait(next_phase)
            fence_async()

        @always_inline
        def turn() {imm}:
            """Waits until the consumer before this one has started its products.
            """
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
        var greatest = SIMD[F32, 2](LOWEST)
        var total = SIMD[F32, 4](0)
        var rescale = SIMD[F32, 2](0)
        memory.full_k(0).wait(0)
        fence_async()
        turn()
        var s = start_scores(0)
        if me != Int32(groups - 1) or count > 1:
            pass_on()
        wgmma_wait_group_sync[0]()
        s = pin(s)
        if lane == 0:
            memory.free_k(0).arrive()
        var p = softmax(0, s, greatest, total, rescale).cast[dtype]()
        arrived(0)
        for n in range(Int32(1), count):
            var stage, _ = place_of(n)
            var before, _ = place_of(n - 1)
            turn()
            s = start_scores(stage)
            acc = start_values(before, p, acc)
            if me != Int32(groups - 1) or n + 1 < count:
                pass_on()
            wgmma_wait_group_sync[1]()
            s = pin(s)
            if lane == 0:
                memory.free_k(stage).arrive()
            s = pin(softmax(n, s, greatest, total, rescale))
            # Between the softmax and the wait for O, so that the assembler does not move that wait up.
            arrived(n)
            wgmma_wait_group_sync[0]()
            acc = pin(acc)
            if lane == 0:
                memory.free_v(before).arrive()
            comptime for i in range(D // 2):
                acc[i] *= rescale[(i >> 1) & 1]
            p = s.cast[dtype]()
        var last_stage, _ = place_of(count - 1)
        acc = start_values(last_stage, p, acc)
        wgmma_wait_group_sync[0]()
        acc = pin(acc)

        # Through the place of the queries, so that a row is written 16 bytes a lane; no warp reads queries any more.
        named_barrier[Int32(GROUP_THREADS)](1 + me)
        var sums = SIMD[F32, 2](
            group_sum[4](total[0] + total[1]), group_sum[4](total[2] + total[3])
        )
        var inverse = 1 / sums
        comptime for i in range(0, D // 2, 2):
            comptime half = (i >> 1) & 1
            comptime column = i >> 2
            var pair = (acc.slice[2, offset=i]() * inverse[half]).cast[dtype]()
            query.unsafe_store[alignment=2 * size_of[dtype]()](
                (column >> 3) * (GROUP_ROWS * TILE_K)
                + swizzled(Int(warp_row) + half * 8, column & 7)
                + Int(2 * t),
                pair,
            )
        named_barrier[Int32(GROUP_THREADS)](1 + me)
        comptime for i in range(GROUP_ROWS // rows_at_once):
            var row = thread_row + Int32(i * rows_at_once)
            if group_row + row < rows:
                var to = row_offset(group_row + row)
                comptime for panel in range(T.panels):
                    if has_chunk[panel]():
                        o.unsafe_store[alignment=16](
                            to + panel * TILE_K,
                            query.unsafe_load[width=8, alignment=16](
                                place
                                + (panel * GROUP_ROWS + i * rows_at_once)
                                * TILE_K
                            ),
                        )


def hopper_serves(shape: AttentionShape) -> Bool:
    """Whether `attention_hopper_gpu` takes the pages, and has rows enough to fill its tiles.
    """
    return shape.page_size >= 8 and shape.tokens * shape.heads >= 2048


def attention_hopper_gpu[
    D: Int,
    dtype: DType,
    groups: Int = 2 if D > 64 else 3,
    keys: Int = 128,
    stages: Int = 2 if D > 64 else 3,
    turns: Bool = D <= 64,
](
    o: Ptr[dtype],
    q: Ptr[dtype],
    kv: Ptr[dtype],
    row_offsets: Ptr[DType.int32],
    context_lengths: Ptr[DType.int32],
    page_table: Ptr[DType.int32],
    scale: Float32,
    shape: AttentionShape,
    ctx: DeviceContext,
    least: Int = 1,
) raises:
    """Writes o [T, H, D] for queries q [T, H, D] over the cache [pages, 2, KH, PS, D]; 16 divides D, PS is at least 8.

    least: requests of fewer new tokens are left out.
    """
    comptime T = Tiling[D, dtype, groups, keys, stages]
    var rows = shape.tokens * (shape.heads // shape.kv_heads)
    ctx.enqueue_function[
        attention_hopper_kernel[D, dtype, groups, keys, stages, turns]
    ](
        o,
        q,
        kv,
        row_offsets,
        context_lengths,
        page_table,
        scale,
        Int32(shape.requests),
        Int32(shape.heads),
        Int32(shape.kv_heads),
        Int32(log2_exact(shape.page_size)),
        Int32(shape.table_width),
        Int32(shape.window),
        Int32(least),
        grid_dim=(
            shape.kv_heads,
            ceildiv(rows, groups * GROUP_ROWS) + shape.requests,
        ),
        block_dim=T.threads,
        shared_mem_bytes=T.bytes,
        func_attribute=FuncAttribute.MAX_DYNAMIC_SHARED_SIZE_BYTES(
            UInt32(T.bytes)
        ),
    )
