"""What decode attention has to do, as the producer warp sees it: items, and the line of their units.

An item is the keys of one token, counted once for each tile of query heads; a unit is 64 of them. How the line is cut
into shares: attention_decode_plan_gpu.mojo.
"""

from max.gpu import WARP_SIZE, lane_id
from max.gpu.primitives import warp
from std.memory import stack_allocation

comptime UNIT = 64
"""Keys of a unit."""
comptime ROUND = 8
"""Requests a lane looks at together, so that their lengths are on the way at the same time."""


@fieldwise_init
struct Item(TrivialRegisterPassable):
    """The keys that one token sees."""

    var token: Int32
    """-1: the request has more tokens than one and is not computed here."""
    var request: Int32
    var begin: Int32
    """First key."""
    var end: Int32
    """One beyond its last key."""

    @always_inline
    def first_unit(self) -> Int32:
        return self.begin // UNIT

    @always_inline
    def units(self) -> Int32:
        return (self.end + (UNIT - 1)) // UNIT - self.begin // UNIT


@fieldwise_init
struct Lengths(TrivialRegisterPassable):
    """What a batch says about the keys of its tokens.

    mixed: requests may have any number of tokens, and those of one are items; else there are as many tokens as requests.
    """

    var row_offsets: Pointer[Int32, MutUntrackedOrigin]
    var context_lengths: Pointer[Int32, MutUntrackedOrigin]
    var requests: Int32
    var window: Int32
    var mixed: Bool

    @always_inline
    def entry(self, b: Int32) -> SIMD[DType.int32, 4]:
        """What is known of request b: its first row, the next one's, its length.
        """
        return SIMD[DType.int32, 4](
            self.row_offsets[unsafe_offset=Int(b)],
            self.row_offsets[unsafe_offset=Int(b) + 1],
            self.context_lengths[unsafe_offset=Int(b)],
            0,
        )

    @always_inline
    def item(self, number: Int32) -> Item:
        """The keys of item `number`: a request's, or, not mixed, a token's, whose request has its number unless some
        request has more tokens than one.
        """
        return self.item_from(number, self.entry(number))

    @always_inline
    def item_from(self, number: Int32, entry: SIMD[DType.int32, 4]) -> Item:
        """Item `number`, whose entry is read."""
        if entry[1] == entry[0] + 1 and (entry[0] == number or self.mixed):
            return self.keys(number, entry[0], entry)
        if self.mixed:
            return Item(-1, number, 0, 0)
        var b = request_of(self, number)
        return self.keys(b, number, self.entry(b))

    @always_inline
    def keys(self, b: Int32, token: Int32, entry: SIMD[DType.int32, 4]) -> Item:
        """What a token of request b sees, from the entry of b."""
        var end = entry[2] - entry[1] + token + 1
        var begin = max(Int32(0), end - self.window) if self.window > 0 else 0
        return Item(token, b, begin, end)


@no_inline
def request_of(lengths: Lengths, token: Int32) -> Int32:
    """The request of a token, where not each has one."""
    var b = Int32(0)
    while (
        b + 1 < lengths.requests
        and lengths.row_offsets[unsafe_offset=Int(b) + 1] <= token
    ):
        b += 1
    return b


struct Line(TrivialRegisterPassable):
    """The line of units as a warp sees it: each lane keeps the units of ROUND requests.
    """

    comptime STEP = Int32(ROUND * WARP_SIZE)
    var lengths: Lengths
    var tiles: Int32
    var own: SIMD[DType.int32, ROUND]
    """Units of the requests from `start` on that are this lane's."""
    var start: Int32
    var upto: Int32
    """Their sum, with that of the lanes before."""

    @always_inline
    def __init__(out self, lengths: Lengths, tiles: Int32):
        self.lengths = lengths
        self.tiles = tiles
        self.own = 0
        self.start = -1
        self.upto = 0

    @always_inline
    def look(mut self, start: Int32):
        """Takes in the units of requests from `start` on."""
        if start == self.start:
            return
        self.start = start
        # All loads first: one after the other, each would wait for the whole latency of memory.
        var entries = stack_allocation[ROUND, SIMD[DType.int32, 4]]()
        var first = start + Int32(lane_id()) * ROUND
        comptime for i in range(ROUND):
            entries[unsafe_offset=i] = self.lengths.entry(
                min(first + Int32(i), self.lengths.requests - 1)
            )
        comptime for i in range(ROUND):
            self.own[i] = 0
            if first + Int32(i) < self.lengths.requests:
                self.own[i] = self.lengths.item_from(
                    first + Int32(i), entries[unsafe_offset=i]
                ).units()
        self.upto = warp.prefix_sum(self.own.reduce_add())

    @always_inline
    def find(mut self, unit: Int32) -> SIMD[DType.int32, 4]:
        """Where a unit is, and how many there are: item, units of all before it, its units, and the units of the whole
        line if that is not so long (else zero for the first three); all lanes of a warp ask together.
        """
        var before = Int32(0)
        for start in range(Int32(0), self.lengths.requests, Self.STEP):
            self.look(start)
            var sum = warp.shuffle_idx(self.upto, UInt32(WARP_SIZE - 1))
            if unit < (before + sum) * self.tiles:
                # One lane has the item that the unit belongs to.
                var found = Int32(0)
                var first = Int32(0)
                var of = Int32(0)
                var at = before + self.upto - self.own.reduce_add()
                comptime for i in range(ROUND):
                    var next = at + self.own[i]
                    if unit >= at * self.tiles and unit < next * self.tiles:
                        found = start + Int32(lane_id()) * ROUND + Int32(i)
                        first = at
                        of = self.own[i]
                    at = next
                return SIMD[DType.int32, 4](
                    warp.sum(found), warp.sum(first), warp.sum(of), 0
                )
            before += sum
        return SIMD[DType.int32, 4](0, 0, 0, before * self.tiles)
