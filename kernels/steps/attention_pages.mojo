"""What the steps of attention on the CPU share: where a key lies, which keys a token sees, and the walk over rows.

    cache [pages, 2, KH, PS, D]     key j of a request: page page_table[j / PS], row j % PS; its value KH * PS rows on
"""

from ..attention import AttentionShape
from ..common import Ptr
from std.bit import count_trailing_zeros

comptime F32 = DType.float32


@fieldwise_init
struct Pages(ImplicitlyCopyable, Movable):
    """The pages of one request for one key/value head; offsets are in elements of the cache.
    """

    var table: Pointer[Int32, MutUntrackedOrigin]
    var shift: Int
    """The page size is two to this: a shift instead of a division for each key."""
    var mask: Int
    var page: Int
    """From one page to the next."""
    var head: Int
    var width: Int
    var value: Int
    """From a key to its value."""

    @always_inline
    def key(self, j: Int) -> Int:
        """Where key j lies."""
        var page = Int(self.table[unsafe_offset=j >> self.shift])
        return page * self.page + self.head + (j & self.mask) * self.width


def pages_of[
    D: Int
](
    page_table: Ptr[DType.int32], shape: AttentionShape, request: Int, head: Int
) -> Pages:
    """The pages of a request for key/value head `head`."""
    var block = shape.page_size * D
    return Pages(
        page_table.unsafe_offset(
            request * shape.table_width
        ).unsafe_origin_cast[MutUntrackedOrigin](),
        Int(count_trailing_zeros(shape.page_size)),
        shape.page_size - 1,
        2 * shape.kv_heads * block,
        head * block,
        D,
        shape.kv_heads * block,
    )


@always_inline
def first_key(last: Int, window: Int) -> Int:
    """The first key that a token at position `last` sees."""
    return max(0, last - window + 1) if window > 0 else 0


@always_inline
def dot[
    D: Int, W: Int, dtype: DType
](q: Ptr[dtype], key: Ptr[dtype]) -> Float32:
    """Returns q . key in float32, W products at once (W divides D)."""
    var sums = SIMD[F32, W](0)
    comptime if W == 1:
        for d in range(D):
            sums += q.unsafe_load[width=W](d).cast[F32]() * (
                key.unsafe_load[width=W](d).cast[F32]()
            )
    else:
        comptime for d in range(0, D, W):
            sums = (
                q.unsafe_load[width=W](d)
                .cast[F32]()
                .fma(key.unsafe_load[width=W](d).cast[F32](), sums)
            )
    return sums.reduce_add()


trait Row:
    """One query row: how a step attends for it."""

    @staticmethod
    def attend[
        D: Int, dtype: DType
    ](
        o: Ptr[dtype],
        q: Ptr[dtype],
        kv: Ptr[dtype],
        pages: Pages,
        first: Int,
        last: Int,
        scale: Float32,
    ):
        """Writes o [D] of one query [D] over keys first to last (included)."""
        ...


def each_row[
    R: Row, D: Int, dtype: DType
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
    """Attends for every head of every token, one after another."""
    for b in range(shape.requests):
        var start = Int(row_offsets[unsafe_offset=b])
        var end = Int(row_offsets[unsafe_offset=b + 1])
        var before = Int(context_lengths[unsafe_offset=b]) - end
        for h in range(shape.heads):
            var kv_head = h * shape.kv_heads // shape.heads
            var pages = pages_of[D](page_table, shape, b, kv_head)
            for t in range(start, end):
                var at = (t * shape.heads + h) * D
                R.attend[D, dtype](
                    o.unsafe_offset(at),
                    q.unsafe_offset(at),
                    kv,
                    pages,
                    first_key(before + t, shape.window),
                    before + t,
                    scale,
                )
