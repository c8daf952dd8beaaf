"""Online softmax over the accumulator of one warpgroup product, for `attention_hopper_gpu.mojo`.

Lane 4 g + t of warp w has scores of rows 16 w + g and 16 w + g + 8, of each eight keys two: 8 i + 2 t and the next.

    m' = max(m, scores)        p = 2^(c s - c m'), c = scale log2(e): one multiply-add and one exp2 a score
    l' = l r + sum of p        r = 2^(c m - c m'), by which O is multiplied before P V is added

The sum l is kept in parts, two for each row of the lane, and joined over lanes once at the end.
"""

from .attention_hopper_block_gpu import F32, GROUP_ROWS, Work
from .gpu_common import group_max, group_sum, warp_index
from max.gpu import lane_id
from std.math import exp2
from std.math.constants import log2e

comptime LOWEST = Float32(-1e30)
"""Below every score, and finite when scaled: a row that has seen no key yet."""


@fieldwise_init
struct OnlineSoftmax[keys: Int](TrivialRegisterPassable):
    """The state of a lane's two rows."""

    var greatest: SIMD[F32, 2]
    var total: SIMD[F32, 4]
    var rescale: SIMD[F32, 2]
    """What earlier sums are to be multiplied by since the last tile."""
    var factor: Float32
    # Not one SIMD of two: PTX has no such integers, and the compiler keeps what it makes of them in registers.
    var position_a: Int32
    """Of the first row, less the lane's first column."""
    var position_b: Int32
    """Of the second row, likewise."""
    var earliest: Int32
    """Positions of the first and the last row of the warpgroup."""
    var latest: Int32
    var window: Int32

    @staticmethod
    @always_inline
    def of_lane(work: Work, group_row: Int32, scale: Float32) -> Self:
        """Before the first tile, for the warpgroup whose first row is `group_row`.
        """
        var lane = Int32(lane_id())
        var row = group_row + Int32(warp_index() & 3) * 16 + (lane >> 2)
        return Self(
            SIMD[F32, 2](LOWEST),
            SIMD[F32, 4](0),
            SIMD[F32, 2](0),
            scale * Float32(log2e),
            work.position(row) - 2 * (lane & 3),
            work.position(row + 8) - 2 * (lane & 3),
            work.position(group_row),
            work.position(group_row + GROUP_ROWS - 1),
            work.window,
        )

    @always_inline
    def probabilities(
        mut self, scores: SIMD[F32, Self.keys // 2], start: Int32
    ) -> SIMD[F32, Self.keys // 2]:
        """Of the tile that begins with key `start`, relative to the greatest score so far.
        """
        var s = scores
        if start + Int32(Self.keys - 1) > self.earliest or (
            self.window > 0 and start <= self.latest - self.window
        ):
            var last = SIMD[DType.int32, 2](
                self.position_a - start, self.position_b - start
            )
            var before = last - self.window if self.window > 0 else SIMD[
                DType.int32, 2
            ](Int32(-1 - 2 * Self.keys))
            comptime for i in range(Self.keys // 2):
                comptime column = Int32((i >> 2) * 8 + (i & 1))
                comptime half = (i >> 1) & 1
                if column > last[half] or column <= before[half]:
                    s[i] = Float32.MIN
        var best = self.greatest
        comptime for i in range(0, Self.keys // 2, 4):
            best = max(
                best,
                SIMD[F32, 2](max(s[i], s[i + 1]), max(s[i + 2], s[i + 3])),
            )
        best = SIMD[F32, 2](group_max[4](best[0]), group_max[4](best[1]))
        self.rescale = exp2((self.greatest - best) * self.factor)
        self.greatest = best
        var shifted = -best * self.factor
        self.total *= SIMD[F32, 4](
            self.rescale[0], self.rescale[0], self.rescale[1], self.rescale[1]
        )
        comptime for i in range(Self.keys // 2):
            s[i] = exp2(s[i].fma(self.factor, shifted[(i >> 1) & 1]))
            self.total[i & 3] += s[i]
        return s

    @always_inline
    def sums(self) -> SIMD[F32, 2]:
        """Of the probabilities of each row."""
        return SIMD[F32, 2](
            group_sum[4](self.total[0] + self.total[1]),
            group_sum[4](self.total[2] + self.total[3]),
        )
