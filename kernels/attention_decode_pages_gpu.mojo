"""How a warp of decode attention brings in its keys: sixteens of a context, from pages to tiles in shared memory.

    pages of the cache   [pages, 2, KH, PS, D]; number n of a warp begins at key `first` + n `step`
    lane i               has the place of piece i: a sixteen lies in one page, or in several smaller ones
    tile                 16 rows of D elements, padded to 64: asynchronous copies of 16 bytes a lane, rows that do not
                         count are zeros. Chunks of 16 bytes lie so that no two lanes of eight meet in a bank:

        keys    chunk c of row r at c XOR 4 (r mod 2)           read 2 rows x 4 chunks at a time
        values                      c XOR 2 (r / 2 mod 4)            4 rows x 2 chunks: 2t, 2t + 2, ...
"""

from .attention_decode_tile_gpu import key_slices, value_chunks
from .gpu_common import Registers, SharedPtr, lane_anew
from .mma_gpu import copy_async_16
from max.gpu import WARP_SIZE, lane_id
from max.gpu.primitives import warp
from std.math import ceildiv


def row_size[D: Int]() -> Int:
    """Elements of a row of a tile: whole 128 bytes, within which chunks change places.
    """
    return ceildiv(D, 64) * 64


def tile_size[D: Int]() -> Int:
    """Elements of a tile of keys, or of values."""
    return 16 * row_size[D]()


@always_inline
def tile_offset[D: Int, values: Bool](row: Int32, chunk: Int32) -> Int:
    """Where in a tile a chunk of 8 elements of a row lies."""
    var place = chunk ^ ((row & 1) << 2)
    comptime if values:
        place = chunk ^ (row & 6)
    return Int(row * Int32(row_size[D]()) + place * 8)


@fieldwise_init
struct Pages[D: Int, dtype: DType](TrivialRegisterPassable):
    """The sixteens of a warp. Places are rows of D elements of the cache."""

    var kv: Pointer[Scalar[Self.dtype], MutUntrackedOrigin]
    var table: Pointer[Int32, MutUntrackedOrigin]
    var table_width: Int32
    var kv_head: Int32
    var kv_heads: Int32
    var shift: Int32
    var first: Int32
    var step: Int32
    var place: Int32

    @always_inline
    def piece_shift(self) -> Int32:
        return min(self.shift, Int32(4))

    @always_inline
    def batch(self) -> Int32:
        """Sixteens that the lanes have the places of."""
        return Int32(WARP_SIZE // 16) << self.piece_shift()

    @always_inline
    def find(mut self, n: Int32):
        """Looks up the places of the batch from sixteen n."""
        var bits = 4 - self.piece_shift()
        var lane = Int32(lane_id())
        var piece = lane & ((Int32(1) << bits) - 1)
        var key = (
            self.first
            + (n + (lane >> bits)) * self.step
            + (piece << self.piece_shift())
        )
        var entry = min(key >> self.shift, self.table_width - 1)
        var page = self.table[unsafe_offset=Int(entry)]
        self.place = (
            (page * 2 * self.kv_heads + self.kv_head) << self.shift
        ) + (key & ((Int32(1) << self.shift) - 1))

    @always_inline
    def fetch[
        values: Bool
    ](self, n: Int32, begin: Int32, end: Int32, tile: SharedPtr[Self.dtype],):
        """Starts the copies of the keys, or values, of sixteen n, which `find` has looked up; those outside
        [begin, end) become zeros.
        """
        comptime chunks = Self.D // 8
        comptime rounds = ceildiv(16 * chunks, WARP_SIZE)
        var lane = lane_anew()
        var bits = self.piece_shift()
        var first = (n & (self.batch() - 1)) << (4 - bits)
        var low = begin - self.first - n * self.step
        var high = end - self.first - n * self.step
        var source = self.kv
        comptime if values:
            source = source.unsafe_offset(
                Int(self.kv_heads << self.shift) * Self.D
            )
        if bits == 4:  # in one page, rows and chunks follow one another
            var place = warp.shuffle_idx(self.place, UInt32(first))
            source = source.unsafe_offset(Int(place) * Self.D + Int(lane) * 8)
            comptime for i in range(rounds):
                var row = lane // Int32(chunks) + Int32(i * WARP_SIZE // chunks)
                var chunk = lane % Int32(chunks)
                comptime if WARP_SIZE % chunks != 0:
                    row = (lane + Int32(i * WARP_SIZE)) // Int32(chunks)
                    chunk = (lane + Int32(i * WARP_SIZE)) % Int32(chunks)
                if 16 * chunks % WARP_SIZE == 0 or row < 16:
                    copy_async_16[once=True](
                        tile.unsafe_offset(
                            tile_offset[Self.D, values](row, chunk)
                        ),
                        source.unsafe_offset(
                            i * WARP_SIZE * 8
                        ).as_unsafe_any_origin(),
                        row >= low and row < high,
                    )
            return
        for i in range(Int32(rounds)):
            var row = (lane + i * Int32(WARP_SIZE)) // Int32(chunks)
            var chunk = (lane + i * Int32(WARP_SIZE)) % Int32(chunks)
            var place = warp.shuffle_idx(
                self.place, UInt32(first + (row >> bits))
            ) + (row & ((Int32(1) << bits) - 1))
            if row < 16:
                copy_async_16[once=True](
                    tile.unsafe_offset(tile_offset[Self.D, values](row, chunk)),
                    source.unsafe_offset(
                        Int(place) * Self.D + Int(chunk) * 8
                    ).as_unsafe_any_origin(),
                    row >= low and row < high,
                )


@always_inline
def load_keys[
    dtype: DType, //, D: Int
](keys: Registers[dtype, 8], tile: SharedPtr[dtype]):
    """Fills a lane's slices of a tile of keys: of rows g and g + 8, chunks t, t + 4, ...
    """
    comptime slices = key_slices[D]()
    var g = lane_anew() >> 2
    var t = lane_anew() & 3
    comptime for i in range(2 * slices):
        var row = Int32(i // slices * 8) + g
        var chunk = Int32(i % slices * 4) + t
        comptime if D % 32 != 0:
            chunk = min(chunk, Int32(D // 8 - 1))  # the query is zero there
        keys[unsafe_offset=i] = tile.unsafe_load[width=8, alignment=16](
            tile_offset[D, False](row, chunk)
        )


@always_inline
def load_values[
    dtype: DType, //, D: Int
](values: Registers[dtype, 8], tile: SharedPtr[dtype]):
    """Fills a lane's slices of a tile of values: of rows 2t, 2t+1, 2t+8, 2t+9, chunks g, g + 8, ...
    """
    comptime slices = value_chunks[D]()
    var g = lane_anew() >> 2
    var t = lane_anew() & 3
    comptime for i in range(4 * slices):
        comptime r = i // slices
        var row = 2 * t + Int32((r & 1) + (r >> 1) * 8)
        var chunk = Int32(i % slices * 8) + g
        comptime if D % 64 != 0:
            chunk = min(chunk, Int32(D // 8 - 1))  # those sums are not sent
        values[unsafe_offset=i] = tile.unsafe_load[width=8, alignment=16](
            tile_offset[D, True](row, chunk)
        )
