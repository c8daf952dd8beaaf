"""Which request a block of prefill attention works for, found on the device.

Requests bring different numbers of tokens, so how many tiles of queries each has is known only there: tiles are counted
through all requests, and a block finds its own by a prefix sum. The host starts as many blocks as there can be.
"""

from .common import Ptr
from max.gpu import WARP_SIZE, lane_id
from max.gpu.primitives import warp
from std.math import ceildiv


@always_inline
def find_tile(
    row_offsets: Ptr[DType.int32],
    requests: Int,
    group: Int,
    rows: Int,
    tile: Int,
    least: Int = 1,
) -> Tuple[Int, Int]:
    """The request that global tile number `tile` belongs to, and its number within it; (-1, 0) beyond the last.
    Requests of fewer than `least` tokens have no tiles.

    A warp looks at 32 requests at a time: lane i sums the tiles of requests up to i with five shuffles.
    """
    var before = 0
    for start in range(0, requests, WARP_SIZE):
        var b = start + Int(lane_id())
        var own = Int32(0)
        if b < requests:
            var tokens = Int(row_offsets[unsafe_offset=b + 1]) - Int(
                row_offsets[unsafe_offset=b]
            )
            own = Int32(ceildiv(tokens * group, rows) if tokens >= least else 0)
        var upto = own
        comptime for step in range(5):
            var other = warp.shuffle_up(upto, UInt32(1 << step))
            if Int(lane_id()) >= (1 << step):
                upto += other
        var all = warp.shuffle_idx(upto, UInt32(31))
        if tile < before + Int(all):
            var mine = tile >= before + Int(upto - own) and tile < before + Int(
                upto
            )
            var request = warp.sum(Int32(b) if mine else Int32(0))
            var local = warp.sum(
                Int32(tile - before) - (upto - own) if mine else Int32(0)
            )
            # The last tile of a request has the most keys: start it first.
            var count = warp.sum(own if mine else Int32(0))
            return (Int(request), Int(count - 1 - local))
        before += Int(all)
    return (-1, 0)
