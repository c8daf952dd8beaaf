"""The ring between the producer warp of decode attention on Hopper and its consumers: units of keys in shared memory.

    stage    | K 64 x D | V 64 x D |     filled by the producer: its barrier `full` counts the bytes that arrive
             | header              |     which keys these are, and what to do with them
                                         emptied by the consumer warps: each arrives once at its barrier `empty`
"""

from .attention_decode_line_gpu import UNIT
from .bulk_copy_gpu import Stage
from .mbarrier_gpu import Barriers, wait_barrier
from max.gpu.memory import AddressSpace

comptime Headers = Pointer[
    Int32, MutUntrackedOrigin, address_space=AddressSpace.SHARED
]
comptime HEADER = 8
"""Integers of a header."""
comptime FIRST = 32
comptime LAST = 64
comptime END = -1


def stages[D: Int]() -> Int:
    """Units under way in a block; D up to 128 leaves room for two blocks on an SM.
    """
    return 3 if D <= 128 else 2


@fieldwise_init
struct Header(TrivialRegisterPassable):
    """What consumers must know about the unit in a stage."""

    var base: Int32
    """The first of its keys."""
    var begin: Int32
    """Keys that the token sees are [begin, end)."""
    var end: Int32
    var row: Int32
    """Row of the tile's first head in q and o, [T H, D]."""
    var flags: Int32
    """Heads of the tile, FIRST or LAST unit of a part; END: no more units."""
    var place: Int32
    """Where a part goes at its end; -1: it is all of the item."""


@always_inline
def store_header(at: Headers, h: Header):
    at.unsafe_store[width=4, alignment=16](
        0, SIMD[DType.int32, 4](h.base, h.begin, h.end, h.row)
    )
    at.unsafe_store[width=4, alignment=16](
        4, SIMD[DType.int32, 4](h.flags, h.place, 0, 0)
    )


@always_inline
def load_header(at: Headers) -> Header:
    var a = at.unsafe_load[width=4, alignment=16](0)
    var b = at.unsafe_load[width=4, alignment=16](4)
    return Header(a[0], a[1], a[2], a[3], b[0], b[1])


@fieldwise_init
struct Ring[D: Int, dtype: DType](TrivialRegisterPassable):
    """Stages in shared memory with their headers and barriers, and how many uses there have been.
    """

    comptime STAGE = 2 * UNIT * Self.D
    var memory: Stage[Self.dtype]
    var headers: Headers
    var barriers: Barriers
    var uses: Int32

    @always_inline
    def slot(self) -> Int:
        return Int(UInt32(self.uses) % UInt32(stages[Self.D]()))

    @always_inline
    def stage(self) -> Stage[Self.dtype]:
        return self.memory.unsafe_offset(self.slot() * Self.STAGE)

    @always_inline
    def header(self) -> Headers:
        return self.headers.unsafe_offset(self.slot() * HEADER)

    @always_inline
    def full(self) -> Barriers:
        return self.barriers.unsafe_offset(self.slot())

    @always_inline
    def empty(self) -> Barriers:
        return self.full().unsafe_offset(stages[Self.D]())

    @always_inline
    def phase(self) -> Int:
        return Int(UInt32(self.uses) // UInt32(stages[Self.D]())) & 1

    @always_inline
    def wait_empty(self):
        """Waits until the consumers have emptied the stage."""
        if Int(self.uses) >= stages[Self.D]():
            wait_barrier(self.empty(), self.phase() ^ 1)
