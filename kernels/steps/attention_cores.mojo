"""Attention of many tokens, step 5: the tiles of step 4 on all cores.

    item   one request x one key/value head x one tile of tokens         taken one after another by whichever core is free

Tiles at the end of a prompt see more keys than those at its beginning: many small items, taken in turn, even that out.
"""

from ..attention import AttentionShape
from ..common import Ptr
from ..fork_join import Held, Job, fork_join, hold
from .attention_pages import pages_of
from .attention_tiled import ROWS, attend_tile, scratch_size
from std.math import ceildiv
from std.memory.alloc import unsafe_alloc


@fieldwise_init
struct TileJob[D: Int, W: Int, dtype: DType](Job):
    """The arguments of `attention`; task i is key/value head i % KH of tile i / KH.
    """

    var o: Held[Self.dtype]
    var q: Held[Self.dtype]
    var kv: Held[Self.dtype]
    var row_offsets: Held[DType.int32]
    var context_lengths: Held[DType.int32]
    var page_table: Held[DType.int32]
    var scale: Float32
    var shape: AttentionShape
    var tile: Int

    def run(self, task: Int):
        var group = self.shape.heads // self.shape.kv_heads
        var head = task % self.shape.kv_heads
        var left = task // self.shape.kv_heads
        for b in range(self.shape.requests):
            var start = Int(self.row_offsets[unsafe_offset=b])
            var end = Int(self.row_offsets[unsafe_offset=b + 1])
            var tiles = ceildiv(end - start, self.tile)
            if left >= tiles:
                left -= tiles
                continue
            var t = start + left * self.tile
            var at = (t * self.shape.heads + head * group) * Self.D
            var scratch = unsafe_alloc[Float32](scratch_size(Self.D))
            attend_tile[Self.D, Self.W](
                self.o.as_unsafe_any_origin().unsafe_offset(at),
                self.q.as_unsafe_any_origin().unsafe_offset(at),
                self.kv.as_unsafe_any_origin(),
                pages_of[Self.D](
                    self.page_table.as_unsafe_any_origin(), self.shape, b, head
                ),
                group,
                self.shape.heads * Self.D,
                min(self.tile, end - t),
                Int(self.context_lengths[unsafe_offset=b]) - end + t,
                self.shape.window,
                self.scale,
                scratch.as_unsafe_any_origin(),
            )
            scratch.unsafe_free()
            return


def attention[
    D: Int, W: Int, dtype: DType
](
    o: Ptr[dtype],
    q: Ptr[dtype],
    kv: Ptr[dtype],
    row_offsets: Ptr[DType.int32],
    context_lengths: Ptr[DType.int32],
    page_table: Ptr[DType.int32],
    scale: Float32,
    shape: AttentionShape,
):
    """Writes o [T, H, D] for queries q [T, H, D] over the cache [pages, 2, KH, PS, D]; at most ROWS heads share keys.
    """
    var tile = max(1, ROWS * shape.kv_heads // shape.heads)
    var tiles = 0
    for b in range(shape.requests):
        var tokens = (
            row_offsets[unsafe_offset=b + 1] - row_offsets[unsafe_offset=b]
        )
        tiles += ceildiv(Int(tokens), tile)
    fork_join(
        TileJob[D, W, dtype](
            hold(o),
            hold(q),
            hold(kv),
            hold(row_offsets),
            hold(context_lengths),
            hold(page_table),
            scale,
            shape,
            tile,
        ),
        tiles * shape.kv_heads,
    )
