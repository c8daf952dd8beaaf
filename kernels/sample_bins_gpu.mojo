"""A pass over a row that divides a range of its weights into bins, and finds the bin in which the filters end.

    bits of the weights   | bin 1023 | ... | x | ... | bin 0 |    1024 equal parts of the bits; where all weights are
    falling order           0                i         1023       equal, of the indices, the lowest in bin 1023
    number or sum         ++++++++++++++++++++^                   reaches the goal

All weights of a bin have one exponent, so their sum is

    count * (smallest) + unit * (sum of the bits above the smallest)

with a sum of whole numbers, the same in whatever order threads add. Of 20 such bits 12 are added, so that 2^20 weights fit
into 32 bits; they are rounded up in as many of 256 cases as the rest says, by the index, so that errors do not add up.
"""

from std.atomic import Atomic, Ordering
from std.bit import bit_width, count_trailing_zeros
from std.memory import bitcast, stack_allocation

from max.gpu import barrier
from max.gpu.memory import AddressSpace

from .gpu_common import thread_anew
from .sample_chunks_gpu import STEPS, STRIDE, Four
from .sample_filter import as_float
from .sample_find_gpu import THREADS, Block, Weights
from .sample_row_gpu import TURNS, Row

comptime BIN_BITS = UInt32(10)
comptime BINS = 1 << Int(BIN_BITS)
comptime SUM_BITS = UInt32(12)
comptime Counts = Pointer[
    UInt32, MutUntrackedOrigin, address_space=AddressSpace.SHARED
]
"""Of each bin the number of its weights, and behind these the sums of their lower bits."""


@fieldwise_init
struct Span(TrivialRegisterPassable):
    """Weights of a range: their bits, from `bits` on `size` numbers, and indices, from `id` on `ids`; and the number
    and the sum of those before them in the order.
    """

    var bits: UInt32
    var size: UInt32
    var id: UInt32
    var ids: UInt32
    var count: Int32
    var sum: Float32

    @always_inline
    def holds(self, bits: UInt32, id: UInt32) -> Bool:
        return bits - self.bits < self.size and id - self.id < self.ids


@fieldwise_init
struct Bins(Weights):
    """Bins in falling order; as `Weights`, their sums, or how many weights they hold.
    """

    var counts: Counts
    var bits: UInt32
    """Of the smallest weight of all."""
    var width: UInt32
    """Numbers from one bin to the next; 0 if all weights are equal."""
    var dropped: UInt32
    """Lower bits that the sums leave out."""
    var counting: Bool

    @always_inline
    def count(self, i: Int32) -> UInt32:
        return self.counts[unsafe_offset=BINS - 1 - Int(i)]

    @always_inline
    def sum(self, i: Int32) -> Float32:
        var first = self.bits + (UInt32(BINS - 1) - UInt32(i)) * self.width
        var unit = as_float(Int(first & 0x7F800000)) * Float32(1.0 / (1 << 23))
        var rest = Float32(self.counts[unsafe_offset=2 * BINS - 1 - Int(i)])
        return (
            Float32(self.count(i)) * as_float(Int(first))
            + rest * Float32(UInt32(1) << self.dropped) * unit
        )

    @always_inline
    def at(self, i: Int32) -> Float32:
        return Float32(self.count(i)) if self.counting else self.sum(i)


@always_inline
def add(counts: Counts, i: UInt32, value: UInt32):
    """Adds to a count that other threads add to."""
    _ = Atomic.fetch_add[ordering=Ordering.RELAXED](
        counts.unsafe_offset(Int(i)), value
    )


def divide[
    aligned: Bool
](
    row: Row[aligned],
    block: Block,
    counts: Counts,
    span: Span,
    goal: Float32,
    counting: Bool,
) -> Span:
    """The bin of `span` in which number (`counting`) or sum of the weights of the row, in order, reach `goal`.

    A block of threads computes it; `counts` [2 * BINS] is scratch. span.bits is a multiple of the width of its bins.
    """
    var equal = span.size == 1
    var most = span.ids if equal else span.size
    var bits = UInt32(bit_width(most - 1))
    var shift = bits - min(bits, BIN_BITS)
    var below = UInt32(0) if equal else shift
    var dropped = below - min(below, SUM_BITS)
    for i in range(Int(thread_anew()), 2 * BINS, THREADS):
        counts[unsafe_offset=i] = 0
    barrier()
    for start in range(Int32(0), row.chunks, TURNS):
        var mask = row.reaching(start, as_float(Int(span.bits)))
        while mask != 0:
            var chunk = row.chunk(start, Int32(count_trailing_zeros(mask)))
            mask &= mask - 1
            var weights = stack_allocation[STEPS, Four]()
            row.load(chunk, weights)
            var first = UInt32(row.first(chunk))
            comptime for i in range(4 * STEPS):
                var w = bitcast[DType.uint32, 1](
                    weights[unsafe_offset=i // 4][i % 4]
                )
                var id = first + UInt32(i // 4 * STRIDE + i % 4)
                if span.holds(w, id):
                    var bin = (w - span.bits) >> shift
                    if equal:
                        bin = UInt32(BINS - 1) - ((id - span.id) >> shift)
                    add(counts, bin, 1)
                    if below > 0:
                        var rest = w & ((UInt32(1) << below) - 1)
                        var up = id & ((UInt32(1) << dropped) - 1)
                        add(counts, UInt32(BINS) + bin, (rest + up) >> dropped)
    barrier()
    var width = UInt32(0) if equal else UInt32(1) << shift
    var bins = Bins(counts, span.bits, width, dropped, counting)
    var before = Float32(span.count) if counting else span.sum
    var found = block.find[True](bins, Int32(BINS), 0, goal - before)
    var result = span
    if counting:
        var own = Float32(0)
        for i in range(thread_anew(), found.place, Int32(THREADS)):
            own += bins.sum(i)
        result.count += Int32(found.before)
        result.sum += block.total(own)
    else:
        result.sum += found.before
    var size = UInt32(1) << shift
    if equal:
        result.id += UInt32(found.place) << shift
        result.ids = size
    else:
        result.bits += (UInt32(BINS - 1) - UInt32(found.place)) << shift
        result.size = size
    return result
