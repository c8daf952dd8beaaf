"""A block of `attention_hopper_gpu.mojo`: its shared memory, its rows and keys, and what a thread of it copies.

    shared memory    | Q of consumer 0, 1, .. | K, STAGES tiles | V, STAGES tiles | barriers |
    a tile           panels of 64 columns; in a panel a row is 128 bytes, swizzled as in `mma_gpu.mojo`

    barriers   full_k, full_v [STAGES]   the copies of a tile have arrived    128 arrivals, one a producer thread
               free_k, free_v [STAGES]   a tile was read by all               4 arrivals of each consumer, one a warp

A head of 80 fills two panels in shared memory, and only the first 16 columns of the second are copied: products over
them end at column 80, and columns of O after it are computed from what lies there and not written.
"""

from .attention_find_tile_gpu import find_tile
from .common import Ptr
from .gpu_common import SharedPtr
from .mbarrier_gpu import Barriers, init_barrier
from .mma_gpu import TILE_K, swizzled
from max.gpu import thread_idx
from max.gpu.primitives import warp
from std.math import ceildiv
from std.sys import size_of

comptime F32 = DType.float32
comptime GROUP_ROWS = 64
"""Rows of a consumer warpgroup, as `wgmma` has them."""
comptime GROUP_THREADS = 128


@fieldwise_init
struct BlockMemory[D: Int, dtype: DType, groups: Int, keys: Int, stages: Int](
    ImplicitlyCopyable, TrivialRegisterPassable
):
    """Shared memory of a block of `groups` consumers, at address `base`."""

    comptime panels = ceildiv(Self.D, TILE_K)
    comptime queries = Self.panels * GROUP_ROWS * TILE_K
    """Elements of the queries of a consumer."""
    comptime tile = Self.panels * Self.keys * TILE_K
    """Elements of a tile of keys or values."""
    comptime elements = (
        Self.groups * Self.queries + 2 * Self.stages * Self.tile
    )
    comptime bytes = Self.elements * size_of[Self.dtype]() + 4 * Self.stages * 8
    comptime rows = Self.groups * GROUP_ROWS
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
    def barrier(self, kind: Int, stage: Int) -> Barriers:
        var first = self.base + Self.elements * size_of[Self.dtype]()
        return Barriers(
            unsafe_from_address=first + (kind * Self.stages + stage) * 8
        )

    @always_inline
    def full_k(self, stage: Int) -> Barriers:
        return self.barrier(0, stage)

    @always_inline
    def full_v(self, stage: Int) -> Barriers:
        return self.barrier(1, stage)

    @always_inline
    def free_k(self, stage: Int) -> Barriers:
        return self.barrier(2, stage)

    @always_inline
    def free_v(self, stage: Int) -> Barriers:
        return self.barrier(3, stage)

    @always_inline
    def init_barriers(self):
        """One thread does it, before a block barrier."""
        comptime for i in range(Self.stages):
            init_barrier(self.full_k(i), GROUP_THREADS)
            init_barrier(self.full_v(i), GROUP_THREADS)
            init_barrier(self.free_k(i), 4 * Self.groups)
            init_barrier(self.free_v(i), 4 * Self.groups)

    @staticmethod
    @always_inline
    def place_of(n: Int32) -> Tuple[Int, Int]:
        """The stage of tile n of the block, and the parity of the phase in which it is filled.
        """
        var round = Int(UInt32(n) // UInt32(Self.stages))
        return (Int(n) - round * Self.stages, round & 1)


@fieldwise_init
struct Work(ImplicitlyCopyable, TrivialRegisterPassable):
    """The rows of a block, which are of one request and one key/value head, and the keys that they see.
    """

    var request: Int
    """-1: the block has nothing to do."""
    var group: UInt32
    """Query heads of a key/value head."""
    var heads: Int32
    var kv_head: Int32
    var first_token: Int32
    """Of the request, in q."""
    var position0: Int32
    """Of that token, in the request's context."""
    var rows: Int32
    """Of the request."""
    var row0: Int32
    """First row of the block."""
    var window: Int32
    var latest: Int32
    """The last key that a row of the block sees."""
    var first_tile: Int32
    """Tile of keys with which the block begins; `count` are visited."""
    var count: Int32

    @staticmethod
    @always_inline
    def of_block[
        block_rows: Int, keys: Int
    ](
        row_offsets: Ptr[DType.int32],
        context_lengths: Ptr[DType.int32],
        requests: Int32,
        heads: Int32,
        kv_heads: Int32,
        kv_head: Int32,
        number: Int,
        window: Int32,
        least: Int32,
    ) -> Self:
        """Tile `number` of `block_rows` rows, counted over all requests of at least `least` tokens.
        """
        var group = UInt32(heads) // UInt32(kv_heads)
        var found, found_tile = find_tile(
            row_offsets,
            Int(requests),
            Int(group),
            block_rows,
            number,
            Int(least),
        )
        # The same in all lanes, and the compiler knows it of a value that lane 0 gives.
        var b = Int(warp.shuffle_idx(Int32(found), UInt32(0)))
        var tile = warp.shuffle_idx(Int32(found_tile), UInt32(0))
        var work = Self(b, group, heads, kv_head, 0, 0, 0, 0, window, 0, 0, 0)
        if b < 0:
            return work
        work.first_token = row_offsets[unsafe_offset=b]
        var tokens = row_offsets[unsafe_offset=b + 1] - work.first_token
        work.position0 = context_lengths[unsafe_offset=b] - tokens
        work.rows = tokens * Int32(group)
        work.row0 = tile * Int32(block_rows)
        # Keys that the first and the last row of the block see.
        work.latest = work.position(work.row0 + Int32(block_rows - 1))
        if work.latest < 0:  # no key: as captured steps are padded with
            work.request = -1
            return work
        var first_key = max(
            Int32(0), work.position(work.row0) - window + 1
        ) if window > 0 else Int32(0)
        work.first_tile = Int32(UInt32(first_key) // UInt32(keys))
        work.count = (
            Int32(UInt32(work.latest) // UInt32(keys)) + 1 - work.first_tile
        )
        return work

    @always_inline
    def position(self, row: Int32) -> Int32:
        """Of a row of the request; rows beyond the end repeat the last one."""
        return self.position0 + Int32(
            UInt32(min(row, self.rows - 1)) // self.group
        )

    @always_inline
    def row_offset[D: Int](self, row: Int32) -> Int:
        """Where a row is in q and o."""
        var token = Int32(UInt32(row) // self.group)
        var head = (self.kv_head - token) * Int32(self.group) + row
        return Int((self.first_token + token) * self.heads + head) * D


@fieldwise_init
struct Copier[D: Int](ImplicitlyCopyable, TrivialRegisterPassable):
    """What a thread copies of a tile: 16 bytes, chunk `chunk` of each panel, of rows row, row + ROWS, ...: one place mod 8.
    """

    comptime ROWS = GROUP_THREADS // 8
    var chunk: Int32
    var row: Int32
    var place: Int
    """Of the first of them in a tile."""

    @staticmethod
    @always_inline
    def of_thread() -> Self:
        var thread = Int32(thread_idx.x) & (GROUP_THREADS - 1)
        var chunk = thread & 7
        var row = thread >> 3
        return Self(chunk, row, swizzled(Int(row), Int(chunk)))

    @always_inline
    def has_chunk[panel: Int](self) -> Bool:
        """Whether the panel is so wide; a row of 80 elements ends after two chunks of its second panel.
        """
        comptime chunks = Self.D // 8 - panel * 8
        comptime if chunks >= 8:
            return True
        else:
            return self.chunk < Int32(chunks)
