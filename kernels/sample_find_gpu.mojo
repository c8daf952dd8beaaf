"""A search by a block of threads: the first of some weights at which their running sum passes a target.

    weights  | 0 1 | 2 3 | 4 5 | ...       thread t has neighbours; sums over lanes, then over warps
    before   0     ^     ^                 what the threads before have
    target           x                     the one thread whose weights pass it has the place

Sampling asks four times: for the chunk of a row that holds the token, for the id in the chunk, and, of a row with
filters, for the bin and for the weight at which top-k and top-p end. What has no weight is never found, also where
rounding lets the sum end short of the target: then the last with a weight is it. Sums add up in the same order every time.
"""

from std.math import ceildiv

from max.gpu import WARP_SIZE, barrier, lane_id
from max.gpu.memory import AddressSpace
from max.gpu.primitives import warp

from .argmax_gpu import LOWEST
from .gpu_common import thread_anew, warp_index

comptime THREADS = 512
comptime WARPS = THREADS // WARP_SIZE


trait Weights(TrivialRegisterPassable):
    """Some weights, from 0 on, by their place."""

    def at(self, i: Int32) -> Float32:
        ...


@fieldwise_init
struct Found(TrivialRegisterPassable):
    """A place, -1 if the sum of all is not above 0; the sum of the weights before it, and the target.
    """

    var place: Int32
    var before: Float32
    var target: Float32


@fieldwise_init
struct Block(TrivialRegisterPassable):
    """What the warps of a block of THREADS tell each other, in shared memory for FLOATS and PLACES values; all threads
    call its methods, any number of times.
    """

    comptime FLOATS = WARPS + 1
    comptime PLACES = 2 * WARPS
    var floats: Pointer[
        Float32, MutUntrackedOrigin, address_space=AddressSpace.SHARED
    ]
    var places: Pointer[
        Int32, MutUntrackedOrigin, address_space=AddressSpace.SHARED
    ]

    @always_inline
    def greatest(self, value: Float32) -> Float32:
        """The greatest over the block."""
        return warp.max(self.of_warps(warp.max(value), LOWEST))

    @always_inline
    def total(self, value: Float32) -> Float32:
        """The sum over the block."""
        return warp.sum(self.of_warps(warp.sum(value), 0))

    @always_inline
    def of_warps(self, value: Float32, other: Float32) -> Float32:
        """Gives lane i what the last lane of warp i has, lanes beyond the warps `other`.
        """
        if Int(lane_id()) == WARP_SIZE - 1:
            self.floats[unsafe_offset=warp_index()] = value
        barrier()
        var theirs = other
        if Int(lane_id()) < WARPS:
            theirs = self.floats[unsafe_offset=Int(lane_id())]
        barrier()
        return theirs

    @always_inline
    def find[
        W: Weights, //, reaching: Bool
    ](self, weights: W, count: Int32, share: Float32, goal: Float32) -> Found:
        """The first of `count` weights at which the sum passes share * (sum of all) + goal; `reaching`: at which it is
        at least that.
        """
        var per = ceildiv(count, Int32(THREADS))
        var begin = thread_anew() * per
        var end = min(begin + per, count)
        var head = Float32(0)  # most often a thread has one: it is kept
        if begin < end:
            head = weights.at(begin)
        var own = head
        for i in range(begin + 1, end):
            own += weights.at(i)
        var inclusive = warp.prefix_sum(own)
        var sums = self.of_warps(inclusive, 0)
        var upto = warp.prefix_sum(sums)
        var total = warp.shuffle_idx(upto, UInt32(WARPS - 1))
        var running = (inclusive - own) + warp.shuffle_idx(
            upto - sums, UInt32(warp_index())
        )
        var target = share * total + goal
        var first = Int32.MAX
        var last = Int32(-1)
        var before_first = Float32(0)
        var before_last = Float32(0)
        for i in range(begin, end):
            var w = head
            if i > begin:
                w = weights.at(i)
            if w > 0:
                last = i
                before_last = running
                running += w
                if first == Int32.MAX and (
                    running > target or (reaching and running == target)
                ):
                    first = last
                    before_first = before_last
        var warp_first = warp.min(first)
        var warp_last = warp.max(last)
        if lane_id() == 0:
            self.places[unsafe_offset=warp_index()] = warp_first
            self.places[unsafe_offset=WARPS + warp_index()] = warp_last
        barrier()
        var lane = min(Int(lane_id()), WARPS - 1)
        var first_of_all = warp.min(self.places[unsafe_offset=lane])
        var last_of_all = warp.max(self.places[unsafe_offset=WARPS + lane])
        var passed = first_of_all != Int32.MAX
        var place = first_of_all if passed else last_of_all
        if place >= begin and place < end:
            self.floats[
                unsafe_offset=WARPS
            ] = before_first if passed else before_last
        barrier()
        # `not total > 0` also where it is no number
        return Found(
            place if total > 0 else Int32(-1),
            self.floats[unsafe_offset=WARPS],
            target,
        )
