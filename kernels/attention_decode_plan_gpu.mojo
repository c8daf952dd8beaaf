"""How decode attention is shared out among the blocks of one launch, so that all of them end together.

Contexts differ from request to request, so blocks of a request each end at different times, and the longest decides.
Here all work is one line of units of 64 keys: item after item, an item being the keys of one token, counted once for each
tile of query heads (arXiv:2405.10480, "Lean Attention"). The line is cut into shares, wherever items begin and end:

    item      |   0    | 1 |      2       |  3  |   4    |
    units     |........|...|..............|.....|........|
    share           0        |    1    |  2  | 3 | 4 |5|6|    what lies inside one share is finished there;
                             ^         ^     ^   ^   ^ ^      an item cut by a boundary leaves parts to be joined

Memory does not serve all SMs alike: with equal shares for 264 blocks some were done after 158 us and others after 195. So
where there is enough to do, the first G shares, one for each block, make up five eighths of all units, and the others
are small: a block that is done takes the next one from a counter. Their boundaries move to where an item begins, if that
is near. Who computes a share decides nothing about its result: boundaries follow from the lengths alone, and parts
are joined in their order.

A part that goes on with an item of the share before is left in place 2p, the beginning of an item that the next share
goes on with in place 2p + 1 (attention_decode_join_gpu.mojo). Everything is computed on the device from the lengths of
the contexts, so that a captured graph stays valid when they grow. In a step that has prompts too, requests of more than
one new token have no units here: another kernel computes those (attention_gpu.mojo).

Instructions are read from memory like data, which waits in line behind the keys: so numbers have 32 bits here and in
attention_decode_line_gpu.mojo, and each piece of code is there once.
"""

comptime DYNAMIC = 32
"""Units a block from which on it has more shares than one."""
comptime STATIC = 5
"""Eighths of them that are in its first share then."""
comptime LEAST = 4
"""Units of the other shares at least."""
comptime OTHERS = 6
"""Of those for each block, about."""
comptime MOST = OTHERS + 2
"""Shares for each block at most."""
comptime SLACK = 4
"""Units by which a boundary moves to where an item begins: a part of an item costs as much as some of them. No more than
LEAST, so that two boundaries within an item do not move to the same place."""


@fieldwise_init
struct Position(TrivialRegisterPassable):
    """A place in the line of units: `offset` units into a tile of an item."""

    var item: Int32
    var tile: Int32
    var offset: Int32
    var before: Int32
    """Units of all tiles of items before this one."""

    @always_inline
    def unit(self) -> Int32:
        return self.before + self.offset

    @always_inline
    def advance(mut self, done: Int32, of: Int32, tiles: Int32):
        """Goes on by `done` units, within an item that has `of`."""
        self.offset += done
        if self.offset == of:
            self.before += of
            self.offset = 0
            self.tile += 1
            if self.tile == tiles:
                self.tile = 0
                self.item += 1


@fieldwise_init
struct Shares[blocks: Int](TrivialRegisterPassable):
    """Where shares begin in a line of `all` units."""

    var all: Int32
    var size: Int32
    """Units of a block's first share; one more for the first `extra` of them."""
    var extra: Int32
    var small: Int32
    """Units of the others; 0: there are no others."""
    var count: Int32
    """Shares."""

    @always_inline
    def __init__(out self, all: Int32):
        comptime G = Int32(Self.blocks)
        self.all = all
        self.size = Int32(UInt32(all) // UInt32(G))
        self.extra = all - self.size * G
        self.small = 0
        self.count = min(G, all)
        if self.size >= DYNAMIC:
            var rest = self.size - self.size * STATIC // 8
            self.small = max(Int32(LEAST), (rest + (OTHERS - 1)) // OTHERS)
            self.size -= rest
            self.extra = 0
            self.count = G + Int32(
                UInt32(all - self.size * G + self.small - 1)
                // UInt32(self.small)
            )

    @always_inline
    def begin(self, share: Int32) -> Int32:
        """Where a share begins, were the line cut anywhere; `all` if there is no such share.
        """
        var others = max(Int32(0), share - Int32(Self.blocks))
        return min(
            self.all,
            (share - others) * self.size
            + min(share, self.extra)
            + others * self.small,
        )

    @always_inline
    def share_of(self, unit: Int32) -> Int32:
        """The share that has this unit, were the line cut anywhere."""
        var first = Int32(0)
        var begin = Int32(0)
        var size = self.size + 1
        if unit >= self.extra * size:
            begin = self.extra * size
            first = self.extra
            size = max(self.size, 1)
        var others = Int32(Self.blocks) * self.size
        if self.small > 0 and unit >= others:
            begin = others
            first = Int32(Self.blocks)
            size = self.small
        return first + Int32(UInt32(unit - begin) // UInt32(size))

    @always_inline
    def moved(self, unit: Int32, before: Int32, units: Int32) -> Int32:
        """Where a share begins whose boundary is in an item of so many units after so many.
        """
        if self.small == 0:
            return unit
        if unit - before <= SLACK:
            return before
        return before + units if before + units - unit <= SLACK else unit

    @always_inline
    def last_of(self, before: Int32, units: Int32) -> Int32:
        """The last of the shares of an item of so many units after so many."""
        var share = self.share_of(before + units - 1)
        var begin = self.begin(share)
        if begin > before and self.moved(begin, before, units) > begin:
            share -= 1
        return share
