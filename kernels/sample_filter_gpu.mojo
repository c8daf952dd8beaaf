"""The filters of sampling on the GPU: where top-k and top-p end, found without sorting the row.

    order = weights falling, of equal ones indices rising
    kept  = a beginning of that order: top_k of it, of these as many as reach top_p of their sum, of these from min_p on

So what is looked for is the last that is kept. Only a short list of weights is sorted, in shared memory:

    weights   |    .  : . .:.:.|.:|.:|  1. what is far too small is left out (`bound`)
    list                       |sorted|  2. what is left, if it is at most SPACE: the usual case, one pass
    bins           | | | |x| | | | | |   3. otherwise 1024 bins are counted (sample_bins_gpu.mojo); that in which the last
    list                 |sorted|           one lies is the list, or is divided again, and equal weights by index

The bound follows from what the chunk kernel has left, the greatest weight M_c and the sum S_c of each chunk:

    M_c >= t in top_k chunks                             =>  the last of top-k is at least t
    sum_c min(S_c, CHUNK t) <= (1 - top_p) sum_c S_c     =>  weights from t on reach top_p
"""

from std.atomic import Atomic, Ordering
from std.bit import count_trailing_zeros, pop_count
from std.memory import bitcast, stack_allocation

from max.gpu import WARP_SIZE, barrier, lane_id, thread_idx
from max.gpu.memory import AddressSpace
from max.gpu.primitives import warp

from .gpu_common import thread_anew
from .sample_bins_gpu import Span, divide
from .sample_chunks_gpu import CHUNK, STEPS, STRIDE, Four
from .sample_filter import ABOVE_ONE, as_float
from .sample_find_gpu import THREADS, Block
from .sample_list_gpu import SPACE, List
from .sample_row_gpu import TURNS, Kept, Row

comptime COARSE = 22
"""Lower bits that are 0 in a bound: two bounds an octave."""


@always_inline
def is_limited(fields: Pointer[Float32, _], cols: Int32) -> Bool:
    """Whether top-k leaves anything out."""
    var top_k = fields[unsafe_offset=1]
    return top_k >= 1 and top_k < Float32(cols)


@always_inline
def is_filtered(fields: Pointer[Float32, _], cols: Int32) -> Bool:
    """Whether a row has filters."""
    return (
        is_limited(fields, cols)
        or fields[unsafe_offset=2] < 1
        or fields[unsafe_offset=3] > 0
    )


@fieldwise_init
struct Filters[aligned: Bool](TrivialRegisterPassable):
    """The filters of a row; a block of threads calls the methods."""

    var row: Row[Self.aligned]
    var block: Block
    var list: List
    var length: Pointer[
        Int32, MutUntrackedOrigin, address_space=AddressSpace.SHARED
    ]
    """Of the list, while it is gathered."""
    var fields: Pointer[Float32, MutUntrackedOrigin]
    """Of the row; read where they are used, so that registers need not hold them."""

    @always_inline
    def kept(self, whole: Float32) -> Kept:
        """What the filters leave of a row whose weights have the sum `whole`.
        """
        var kept = Kept(0, self.row.cols)
        # First the end of top-k, if there is one; that of top-p often lies in the same list.
        var counting = is_limited(self.fields, self.row.cols)
        var searching = counting or self.fields[unsafe_offset=2] < 1
        var goal = self.fields[unsafe_offset=2] * whole
        var spare = whole - goal
        if counting:
            goal = self.fields[unsafe_offset=1]
            spare = goal
        while searching:
            searching = False
            var bits = self.bound(spare, counting) << COARSE
            var span = Span(
                bits, UInt32(ABOVE_ONE) - bits, 0, UInt32(self.row.cols), 0, 0
            )
            var count: Int32
            while True:
                count = self.gather(span)
                if count <= Int32(SPACE):
                    break
                span = divide(
                    self.row,
                    self.block,
                    self.list.entries.unsafe_bitcast[UInt32](),
                    span,
                    goal,
                    counting,
                )
            self.list.sort(count)
            var top_p = self.fields[unsafe_offset=2]
            if counting:
                var top_k = Int32(self.fields[unsafe_offset=1])
                count = min(count, top_k - span.count)
                goal = top_p * (span.sum + self.block.total(self.sum(count)))
            var last = count - 1
            if top_p < 1:
                last = self.block.find[True](
                    self.list, count, 0, goal - span.sum
                ).place
                searching = counting and span.sum >= goal
            kept = self.list.up_to(max(last, Int32(0)))
            counting = False  # top-p ends before the list
            spare = 0
        var min_p = self.fields[unsafe_offset=3]
        if min_p > kept.least:
            kept = Kept(min_p, self.row.cols)
        return kept

    @always_inline
    def sum(self, count: Int32) -> Float32:
        """This thread's part of the sum of the first `count` of the list."""
        var own = Float32(0)
        for i in range(thread_anew(), count, Int32(THREADS)):
            own += self.list.at(i)
        return own

    @always_inline
    def bound(self, spare: Float32, counting: Bool) -> UInt32:
        """The upper bits of a float such that `spare` weights are as great as it (`counting`), or the smaller ones have a
        sum of at most `spare`; at least 1.
        """
        var begin = thread_anew()
        var head = Float32(0)  # most often a thread has one chunk: it is kept
        if begin < self.row.chunks:
            head = self.row.greatest(begin) if counting else self.row.at(begin)
        var low = UInt32(1)
        var high = UInt32(ABOVE_ONE >> COARSE) + 1
        while high - low > 1:
            var middle = (low + high) // 2
            var t = as_float(Int(middle << COARSE))
            var own = Float32(0)
            for chunk in range(begin, self.row.chunks, Int32(THREADS)):
                var v = head
                if chunk > begin:
                    v = self.row.greatest(chunk) if counting else self.row.at(
                        chunk
                    )
                if counting:
                    own += Float32(1) if v >= t else Float32(0)
                else:
                    own += min(v, Float32(CHUNK) * t)
            var total = self.block.total(own)
            if total >= spare if counting else total <= spare:
                low = middle
            else:
                high = middle
        return low

    @always_inline
    def gather(self, span: Span) -> Int32:
        """Puts the weights of a span into the list, in no order; returns how many there are, or a number above SPACE.
        """
        if thread_idx.x == 0:
            self.length[] = 0
        barrier()
        for start in range(Int32(0), self.row.chunks, TURNS):
            var mask = self.row.reaching(start, as_float(Int(span.bits)))
            while mask != 0:
                var chunk = self.row.chunk(
                    start, Int32(count_trailing_zeros(mask))
                )
                mask &= mask - 1
                var weights = stack_allocation[STEPS, Four]()
                self.row.load(chunk, weights)
                var first = UInt32(self.row.first(chunk))
                var held = UInt32(0)  # a bit each
                comptime for i in range(4 * STEPS):
                    var w = bits_of(weights[unsafe_offset=i // 4][i % 4])
                    if span.holds(w, first + UInt32(i // 4 * STRIDE + i % 4)):
                        held |= UInt32(1 << i)
                var own = Int32(pop_count(held))
                var upto = warp.prefix_sum(own)
                var all = warp.shuffle_idx(upto, UInt32(WARP_SIZE - 1))
                if all == 0:
                    continue
                var place = Int32(0)
                if lane_id() == 0:
                    place = Atomic.fetch_add[ordering=Ordering.RELAXED](
                        self.length, all
                    )
                place = warp.shuffle_idx(place, UInt32(0))
                if place + all > Int32(SPACE):
                    mask = 0
                    continue
                place += upto - own
                comptime for i in range(4 * STEPS):
                    if held & UInt32(1 << i) != 0:
                        self.list.put(
                            place,
                            bits_of(weights[unsafe_offset=i // 4][i % 4]),
                            first + UInt32(i // 4 * STRIDE + i % 4),
                        )
                        place += 1
        barrier()
        return self.length[]


@always_inline
def bits_of(w: Float32) -> UInt32:
    return bitcast[DType.uint32, 1](w)
