"""The filters of sampling: which weights top-k and top-p keep, found without sorting.

    kept = the top_k greatest w, of them the fewest that reach top_p of their sum

Weights lie in [0, 1], where the order of floats is the order of their bits. So "the greatest t such that k weights, or
enough of their sum, are at least t" is a search over whole numbers by bisection: at most 31 passes over the weights,
sixteen at a time. Of equal weights at the boundary those with the lowest index are kept.

A pass adds up in sixteen lanes, in the order of the weights. Weights below the boundary add zero, so whole registers of
them may be left out: what is left gives the same sums to the bit (`compact`, `sample.mojo`).
"""

from .common import LANES, Ptr
from std.math import ceildiv
from std.memory import bitcast

comptime ABOVE_ONE = 0x3F800001
"""The bits of the first float above 1: no weight reaches it."""
comptime Lanes = SIMD[DType.float32, LANES]


@always_inline
def as_float(bits: Int) -> Float32:
    return bitcast[DType.float32, 1](Int32(bits))


def count_from(w: Ptr[DType.float32], padded: Int, least: Float32) -> Int:
    """Returns how many weights are at least `least`."""
    var total = SIMD[DType.int32, LANES](0)
    for i in range(0, padded, LANES):
        var inside = w.unsafe_load[width=LANES](i).ge(Lanes(least))
        total += inside.cast[DType.int32]()
    return Int(total.reduce_add())


def mass_from(w: Ptr[DType.float32], padded: Int, least: Float32) -> Float32:
    """Returns the sum of the weights that are at least `least`."""
    var total = Lanes(0)
    for i in range(0, padded, LANES):
        var v = w.unsafe_load[width=LANES](i)
        total += v.ge(Lanes(least)).select(v, Lanes(0))
    return total.reduce_add()


@fieldwise_init
struct Boundary(ImplicitlyCopyable, Movable):
    """Kept are the weights above the float with these bits, and the first `equals` of those that equal it.
    """

    var bits: Int
    var equals: Int


def kth_weight(
    w: Ptr[DType.float32], padded: Int, k: Int, least: Int = 0
) -> Int:
    """Returns the bits of the k-th greatest weight, which are `least` or more.
    """
    var low = least
    var high = ABOVE_ONE
    while high - low > 1:
        var middle = (low + high) // 2
        if count_from(w, padded, as_float(middle)) >= k:
            low = middle
        else:
            high = middle
    return low


def find_boundary(
    w: Ptr[DType.float32],
    padded: Int,
    width: Int,
    whole: Float32,
    top_k: Int,
    top_p: Float32,
    least: Int = 0,
) -> Boundary:
    """Returns what top_k (0: all of `width`) and top_p leave of weights whose sum is `whole`.

    With bits `least` above 0 w need not hold what is smaller than that float; the caller has seen that the boundary is
    not there: top_k weights, without top_k top_p of `whole`, are at least that float.
    """
    var found = Boundary(0, width)
    var sum = whole
    if 0 < top_k < width:
        var low = kth_weight(w, padded, top_k, least)
        found = Boundary(low, top_k - count_from(w, padded, as_float(low + 1)))
        sum = mass_from(w, padded, as_float(low + 1)) + Float32(
            found.equals
        ) * as_float(low)
    if top_p < 1:
        var goal = top_p * sum
        var low = max(found.bits, least)
        var high = ABOVE_ONE
        while high - low > 1:
            var middle = (low + high) // 2
            if mass_from(w, padded, as_float(middle)) >= goal:
                low = middle
            else:
                high = middle
        var missing = goal - mass_from(w, padded, as_float(low + 1))
        var needed = (
            max(1, Int(ceildiv(missing, as_float(low)))) if low > 0 else width
        )
        if low == found.bits:
            needed = min(found.equals, needed)
        found = Boundary(low, needed)
    return found


def compact(
    w: Ptr[DType.float32],
    padded: Int,
    least: Float32,
    to: Ptr[DType.float32],
) -> Int:
    """Copies the registers of w in which a weight is at least `least`, in their order; returns how many weights.
    """
    var size = 0
    for i in range(0, padded, LANES):
        var v = w.unsafe_load[width=LANES](i)
        if v.ge(Lanes(least)).reduce_or():
            to.unsafe_store(size, v)
            size += LANES
    return size


def keep(w: Ptr[DType.float32], padded: Int, boundary: Float32, equals: Int):
    """Sets to 0 what lies below `boundary`, and of what equals it all but the first `equals`.
    """
    var left = equals
    for i in range(0, padded, LANES):
        var v = w.unsafe_load[width=LANES](i)
        var kept = v.gt(Lanes(boundary)).select(v, Lanes(0))
        if left > 0 and v.eq(Lanes(boundary)).reduce_or():
            for lane in range(LANES):
                if v[lane] == boundary and left > 0:
                    kept[lane] = boundary
                    left -= 1
        w.unsafe_store(i, kept)


def keep_boundary(
    w: Ptr[DType.float32], padded: Int, found: Boundary, min_p: Float32
):
    """Sets to 0 what a boundary and min_p take away."""
    if min_p > as_float(found.bits):
        keep(w, padded, min_p, padded)
    elif found.bits > 0:
        keep(w, padded, as_float(found.bits), found.equals)
