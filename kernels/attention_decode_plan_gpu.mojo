"""How decode attention is shared out evenly among the blocks of one launch (arXiv:2405.10480, "Lean Attention").

Contexts differ from request to request, so blocks of a request each end at different times, and the longest decides.
Here all work is one line of units of 64 keys: item after item, an item being a token and a tile of query heads. Block p
of G takes the units from U p / G to U (p + 1) / G, wherever they begin and end:

    item      |   0    | 1 |      2       |  3  |   4    |
    units     |........|...|..............|.....|........|
    block         0      |     1     |     2     |    3        what lies inside one block is finished there;
                         ^           ^           ^             an item cut by a boundary leaves parts to be joined

A part that goes on with an item of the block before is left in place 2p, the beginning of an item that the next block
goes on with in place 2p + 1 (attention_decode_join_gpu.mojo). Everything is computed on the device from the lengths of
the contexts, so that a captured graph stays valid when they grow.
"""

from max.gpu import WARP_SIZE, lane_id
from max.gpu.primitives import warp
from std.math import ceildiv

comptime UNIT = 64
"""Keys of a unit."""
comptime ROUND = 8
"""Tokens a lane looks at together, so that their lengths are on the way at the same time."""


@fieldwise_init
struct Item(TrivialRegisterPassable):
    """The keys that one token sees."""

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
    """What a batch says about the keys of its tokens; there are as many tokens as requests.
    """

    var row_offsets: Pointer[Int32, MutUntrackedOrigin]
    var context_lengths: Pointer[Int32, MutUntrackedOrigin]
    var requests: Int
    var window: Int

    @always_inline
    def item(self, token: Int) -> Item:
        """The keys of a token. Its request has its number, unless some request has more tokens than one.
        """
        var b = token
        if (
            Int(self.row_offsets[unsafe_offset=b]) != token
            or Int(self.row_offsets[unsafe_offset=b + 1]) != token + 1
        ):
            b = 0
            while Int(self.row_offsets[unsafe_offset=b + 1]) <= token:
                b += 1
        var end = (
            Int(self.context_lengths[unsafe_offset=b])
            - Int(self.row_offsets[unsafe_offset=b + 1])
            + token
            + 1
        )
        var begin = max(0, end - self.window) if self.window > 0 else 0
        return Item(b, begin, end)


@fieldwise_init
struct Share(TrivialRegisterPassable):
    """What is left of a block's units: it begins `offset` units into a token's tile.
    """

    var token: Int
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
                self.token += 1

    @always_inline
    def block_of(self, unit: Int) -> Int:
        """The block that has this unit of the batch."""
        var p = unit * self.blocks // self.all
        while self.all * (p + 1) // self.blocks <= unit:
            p += 1
        return p


@always_inline
def share_of(
    block: Int, blocks: Int, lengths: Lengths, tokens: Int, tiles: Int
) -> Share:
    """The units of one block; all lanes of a warp ask together."""
    var lane = Int(lane_id())
    var all = 0
    for start in range(0, tokens, ROUND * WARP_SIZE):
        var sum = Int32(0)
        comptime for i in range(ROUND):
            var token = start + i * WARP_SIZE + lane
            if token < tokens:
                sum += Int32(lengths.item(token).units())
        all += Int(warp.sum(sum))
    all *= tiles
    var used = min(blocks, all)
    if block >= used:
        return Share(0, 0, 0, 0, 0, all, used)
    var begin = all * block // used
    var units = all * (block + 1) // used - begin
    var before = 0
    for start in range(0, tokens, WARP_SIZE):
        var token = start + lane
        var own = Int32(0)
        if token < tokens:
            own = Int32(lengths.item(token).units())
        var upto = warp.prefix_sum(own)
        var sum = Int(warp.shuffle_idx(upto, UInt32(WARP_SIZE - 1)))
        if begin < (before + sum) * tiles:
            # One lane has the token that the first unit belongs to.
            var mine = (
                begin >= (before + Int(upto - own)) * tiles
                and begin < (before + Int(upto)) * tiles
            )
            var found = Int(warp.sum(Int32(token) if mine else Int32(0)))
            var of = Int(warp.sum(own if mine else Int32(0)))
            var first = before + Int(warp.sum(upto - own if mine else Int32(0)))
            var inside = begin - first * tiles
            var tile = inside // of
            return Share(
                found,
                tile,
                inside - tile * of,
                units,
                begin - (inside - tile * of),
                all,
                used,
            )
        before += sum
    return Share(0, 0, 0, 0, 0, all, used)
