"""How decode attention is shared out evenly among the blocks of one launch (arXiv:2405.10480, "Lean Attention").

Contexts differ from request to request, so blocks of a request each end at different times, and the longest decides.
Here all work is one line of units of 64 keys: item after item, an item being the keys of one token, counted once for each
tile of query heads. Block p of G takes the units from U p / G to U (p + 1) / G, wherever they begin and end:

    item      |   0    | 1 |      2       |  3  |   4    |
    units     |........|...|..............|.....|........|
    block         0      |     1     |     2     |    3        what lies inside one block is finished there;
                         ^           ^           ^             an item cut by a boundary leaves parts to be joined

A part that goes on with an item of the block before is left in place 2p, the beginning of an item that the next block
goes on with in place 2p + 1 (attention_decode_join_gpu.mojo). Everything is computed on the device from the lengths of
the contexts, so that a captured graph stays valid when they grow. In a step that has prompts too, requests of more than
one new token have no units here: another kernel computes those (attention_gpu.mojo).
"""

from .gpu_common import Registers
from max.gpu import WARP_SIZE, lane_id
from max.gpu.primitives import warp
from std.math import ceildiv
from std.memory import stack_allocation

comptime UNIT = 64
"""Keys of a unit."""
comptime ROUND = 8
"""Requests a lane looks at together, so that their lengths are on the way at the same time."""


@fieldwise_init
struct Item(TrivialRegisterPassable):
    """The keys that one token sees."""

    var token: Int
    """-1: the request has more tokens than one and is not computed here."""
    var request: Int
    var begin: Int
    """First key."""
    var end: Int
    """One beyond its last key."""

    @always_inline
    def first_unit(self) -> Int:
        return self.begin // UNIT

    @always_inline
    def units(self) -> Int:
        return ceildiv(self.end, UNIT) - self.begin // UNIT


@fieldwise_init
struct Lengths(TrivialRegisterPassable):
    """What a batch says about the keys of its tokens.

    mixed: requests may have any number of tokens, and those of one are items; else there are as many tokens as requests.
    """

    var row_offsets: Pointer[Int32, MutUntrackedOrigin]
    var context_lengths: Pointer[Int32, MutUntrackedOrigin]
    var requests: Int
    var window: Int
    var mixed: Bool

    @always_inline
    def item(self, number: Int) -> Item:
        """The keys of item `number`: a request's, or, not mixed, a token's, whose request has its number unless some
        request has more tokens than one.
        """
        var b = number
        var token = Int(self.row_offsets[unsafe_offset=b])
        var one = Int(self.row_offsets[unsafe_offset=b + 1]) == token + 1
        if self.mixed and not one:
            return Item(-1, b, 0, 0)
        if not self.mixed and (token != number or not one):
            token = number
            b = 0
            while (
                b + 1 < self.requests
                and Int(self.row_offsets[unsafe_offset=b + 1]) <= token
            ):
                b += 1
        var end = (
            Int(self.context_lengths[unsafe_offset=b])
            - Int(self.row_offsets[unsafe_offset=b + 1])
            + token
            + 1
        )
        var begin = max(0, end - self.window) if self.window > 0 else 0
        return Item(token, b, begin, end)


@fieldwise_init
struct Share(TrivialRegisterPassable):
    """What is left of a block's units: it begins `offset` units into a tile of an item.
    """

    var item: Int
    var tile: Int
    var offset: Int
    var units: Int
    var before: Int
    """Units of all items before this one."""
    var all: Int
    """Units of the whole batch."""
    var blocks: Int
    """Blocks that have work."""

    @always_inline
    def advance(mut self, done: Int, of: Int, tiles: Int):
        """Goes on by `done` units, within an item that has `of`."""
        self.units -= done
        self.offset += done
        if self.offset == of:
            self.before += of
            self.offset = 0
            self.tile += 1
            if self.tile == tiles:
                self.tile = 0
                self.item += 1

    @always_inline
    def block_of(self, unit: Int) -> Int:
        """The block that has this unit of the batch."""
        var p = unit * self.blocks // self.all
        while self.all * (p + 1) // self.blocks <= unit:
            p += 1
        return p


@always_inline
def units_of_lane(
    lengths: Lengths, start: Int, own: Registers[DType.int32, 1]
) -> Int32:
    """Puts the units of a lane's ROUND items from `start` on into `own`; their sum.
    """
    var sum = Int32(0)
    comptime for i in range(ROUND):
        var number = start + Int(lane_id()) * ROUND + i
        var units = Int32(0)
        if number < lengths.requests:
            units = Int32(lengths.item(number).units())
        own[unsafe_offset=i] = units
        sum += units
    return sum


@always_inline
def share_of(block: Int, blocks: Int, lengths: Lengths, tiles: Int) -> Share:
    """The units of one block; all lanes of a warp ask together.

    Lengths of the last round stay in registers: up to ROUND requests a lane, they are read once.
    """
    comptime STEP = ROUND * WARP_SIZE
    var own = stack_allocation[ROUND, Int32]()
    var all = 0
    var sum = Int32(0)
    for start in range(0, lengths.requests, STEP):
        sum = units_of_lane(lengths, start, own)
        all += Int(warp.sum(sum))
    all *= tiles
    var used = min(blocks, all)
    if block >= used:
        return Share(0, 0, 0, 0, 0, all, used)
    var begin = all * block // used
    var units = all * (block + 1) // used - begin
    var before = 0
    for start in range(0, lengths.requests, STEP):
        if lengths.requests > STEP:
            sum = units_of_lane(lengths, start, own)
        var upto = warp.prefix_sum(sum)
        var last = Int(warp.shuffle_idx(upto, UInt32(WARP_SIZE - 1)))
        if begin < (before + last) * tiles:
            # One lane has the item that the first unit belongs to.
            var found = Int32(0)
            var first = Int32(0)
            var of = Int32(0)
            var at = before + Int(upto - sum)
            comptime for i in range(ROUND):
                var next = at + Int(own[unsafe_offset=i])
                if begin >= at * tiles and begin < next * tiles:
                    found = Int32(start + Int(lane_id()) * ROUND + i)
                    first = Int32(at)
                    of = own[unsafe_offset=i]
                at = next
            var units_each = Int(warp.sum(of))
            var inside = begin - Int(warp.sum(first)) * tiles
            var tile = inside // units_each
            var offset = inside - tile * units_each
            return Share(
                Int(warp.sum(found)),
                tile,
                offset,
                units,
                begin - offset,
                all,
                used,
            )
        before += last
    return Share(0, 0, 0, 0, 0, all, used)
