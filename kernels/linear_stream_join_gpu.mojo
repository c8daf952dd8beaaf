"""How the blocks of `linear_stream_gpu.mojo` that share k add up their sums, and how sums become rows of y.

    unit    what a warp holds of 16 rows of w and 8 of x: four floats a lane, 512 bytes

    unit  | 0 ... | ...   | ...   |      block r adds up the r-th part of the units. It writes all its units to its ring, in
    block |  r=0  |  r=1  |  r=2  |      the order of the registers, and copies to each other block that block's part; what
                                         comes is added to its own sums in the order of the blocks

So the order of additions depends on shapes alone, never on time.
"""

from .cluster_gpu import cluster_arrive, cluster_wait, copy_to_block
from .common import Ptr
from .gpu_common import Stage, warp_index
from .mbarrier_gpu import (
    Barriers,
    arrive_and_expect,
    init_barrier,
    wait_barrier,
)
from .mma_gpu import transposed
from .wgmma_gpu import fence_async
from max.gpu import WARP_SIZE, barrier, lane_id, thread_idx
from max.gpu.sync import syncwarp
from std.math import ceildiv

comptime COLUMN_WARPS = 4
"""Units of 16 rows of w side by side: one a consumer warp."""
comptime UNIT = 4 * WARP_SIZE
"""Floats."""
comptime UNIT_BYTES = UNIT * 4


@always_inline
def units_of(rows: Int) -> Int:
    """Units of a tile with so many rows of x."""
    return ceildiv(rows, 8) * COLUMN_WARPS


struct Join[split: Int]:
    """A block's part in the joining of `split` blocks; all units are its own if it is alone.
    """

    var rows: Int
    var part: Int
    """Its rank in the cluster."""
    var units: Int
    var each: Int
    """Units of a part; the last ones may have fewer or none."""
    var own: Int
    """The first of its own units."""
    var mine: Int
    """How many these are."""
    var sums: Stage[DType.float32]
    var received: Stage[DType.float32]
    """[split - 1][mine] units of the other blocks."""
    var joined: Barriers

    @always_inline
    def __init__(
        out self,
        rows: Int,
        part: Int,
        sums: Int,
        received: Int,
        joined: Barriers,
    ):
        """`sums` and `received` are addresses in shared memory."""
        self.rows = rows
        self.part = part
        self.units = units_of(rows)
        self.each = ceildiv(self.units, Self.split)
        self.own = self.each * part
        self.mine = min(self.each, self.units - self.own)
        self.sums = Stage[DType.float32](unsafe_from_address=sums)
        self.received = Stage[DType.float32](unsafe_from_address=received)
        self.joined = joined

    @always_inline
    def init(self):
        """Makes the barrier; one thread, before the blocks meet."""
        comptime if Self.split > 1:
            init_barrier(self.joined, 1)

    @always_inline
    def expect(self):
        """Announces what will come; the thread of `init`."""
        comptime if Self.split > 1:
            if self.mine > 0:
                arrive_and_expect(
                    self.joined, (Self.split - 1) * self.mine * UNIT_BYTES
                )

    @always_inline
    def exchange[width: SIMDLength](self, acc: SIMD[DType.float32, width]):
        """Sends the other blocks their units and waits for this block's; all threads, when the ring is no longer read.
        """
        comptime jobs = Int(width) // 4
        barrier()
        if warp_index() < COLUMN_WARPS:
            var place = self.sums.unsafe_offset(
                warp_index() * UNIT + Int(lane_id()) * 4
            )
            comptime for j in range(jobs):
                place.unsafe_store[width=4, alignment=16](
                    j * COLUMN_WARPS * UNIT, acc.slice[4, offset=j * 4]()
                )
            fence_async()
        barrier()
        cluster_wait()
        var to = Int(thread_idx.x)
        if to < Self.split and to != self.part:
            var count = min(self.each, self.units - self.each * to)
            if count > 0:
                var place = self.part - (1 if self.part > to else 0)
                copy_to_block(
                    self.received.unsafe_offset(place * count * UNIT),
                    self.sums.unsafe_offset(self.each * to * UNIT),
                    count * UNIT_BYTES,
                    self.joined,
                    to,
                )
        if self.mine > 0:
            wait_barrier(self.joined, 0)
        cluster_arrive()

    @always_inline
    def leave(self):
        """What this block has sent must have come before its shared memory goes.
        """
        comptime if Self.split > 1:
            cluster_wait()


@always_inline
def store_sums[
    out_dtype: DType, width: SIMDLength, split: Int
](
    y: Ptr[out_dtype],
    acc: SIMD[DType.float32, width],
    join: Join[split],
    columns: Int,
    n: Int,
):
    """Writes this block's own units to y, which points at the tile's first output; consumer warps.
    """
    var warp = warp_index()
    var place = join.received.unsafe_offset(
        (warp - join.own) * UNIT + Int(lane_id()) * 4
    )
    comptime for j in range(Int(width) // 4):
        var unit = j * COLUMN_WARPS + warp
        if unit >= join.own and unit < join.own + join.mine:
            var total = acc.slice[4, offset=j * 4]()
            comptime for i in range(split - 1):
                total += place.unsafe_load[width=4, alignment=16](
                    (i * join.mine + j * COLUMN_WARPS) * UNIT
                )
            store_unit(
                y.unsafe_offset(j * 8 * n + warp * 16),
                total,
                join.rows - j * 8,
                columns - warp * 16,
                n,
            )


@always_inline
def store_unit[
    out_dtype: DType
](
    y: Ptr[out_dtype],
    sums: SIMD[DType.float32, 4],
    rows: Int,
    columns: Int,
    n: Int,
):
    """Writes a unit to its 8 rows and 16 columns of y, or to as many as there are; n is the length of a row.

    Lane 4 g + t holds columns g and g + 8 of rows 2 t and 2 t + 1.
    """
    var g = Int(lane_id()) >> 2
    var t = Int(lane_id()) & 3
    comptime if out_dtype == DType.float32:
        comptime for e in range(4):
            var row = 2 * t + (e & 1)
            var column = g + (e >> 1) * 8
            if row < rows and column < columns:
                y[unsafe_offset=row * n + column] = sums[e].cast[out_dtype]()
    else:
        # Two-byte elements would go out one by one: transposed, a lane holds two columns of a row.
        syncwarp()
        var left = transposed(sums.slice[2]().cast[out_dtype]())
        var right = transposed(sums.slice[2, offset=2]().cast[out_dtype]())
        if g < rows:
            if 2 * t < columns:
                y.unsafe_store[width=2, alignment=4](g * n + 2 * t, left)
            if 2 * t + 8 < columns:
                y.unsafe_store[width=2, alignment=4](g * n + 2 * t + 8, right)
