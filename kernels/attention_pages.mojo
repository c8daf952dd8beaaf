"""Where in the cache a block of keys and values lies, and fetching it before it is needed.

    cache [pages, 2, KH, PS, D]      a page: keys of head 0 | .. | keys of head KH - 1 | values of head 0 | ..

A page holds PS keys of a head side by side, 2 KB for PS = 16 and D = 64 in bfloat16, and the next page is anywhere: the
hardware's prefetcher stops there. So the block to come is looked up and fetched while the one before it is packed.
"""

from .attention import AttentionShape
from .common import LANES, Ptr
from std.sys.intrinsics import PrefetchOptions, prefetch


@always_inline
def values_after_keys[UNITS: Int](shape: AttentionShape) -> Int:
    """Units of 32 bits from the keys of a page to its values; a key has UNITS.
    """
    return shape.kv_heads * shape.page_size * UNITS


def find_block[
    UNITS: Int, KEYS: Int
](
    pages: Ptr[DType.int32],
    shape: AttentionShape,
    head: Int,
    key: Int,
    last_key: Int,
    rows: Ptr[DType.int64],
):
    """Writes rows [KEYS]: at which unit of the cache the keys from position `key` on begin, by a request's pages.

    The last key stands in for those beyond it.
    """
    var size = shape.page_size
    var count = min(KEYS, last_key + 1 - key)
    var j = 0
    while j < count:
        var page = Int(pages[unsafe_offset=(key + j) // size])
        var offset = (key + j) % size
        var at = page * 2 * values_after_keys[UNITS](shape)
        at += (head * size + offset) * UNITS
        for i in range(min(size - offset, count - j)):
            rows[unsafe_offset=j + i] = Int64(at + i * UNITS)
        j += min(size - offset, count - j)
    for i in range(count, KEYS):
        rows[unsafe_offset=i] = rows[unsafe_offset=max(count - 1, 0)]


@always_inline
def fetch[dtype: DType, //](p: Ptr[dtype]):
    """Fetches a line into the second cache."""
    prefetch[PrefetchOptions().for_read().medium_locality().to_data_cache()](p)


def fetch_block[
    UNITS: Int, KEYS: Int
](kv: Ptr[DType.int32], shape: AttentionShape, rows: Ptr[DType.int64]):
    """Fetches the keys and values of a block, all at once."""
    for half in range(2):
        var base = kv.unsafe_offset(half * values_after_keys[UNITS](shape))
        for j in range(KEYS):
            var at = base.unsafe_offset(Int(rows[unsafe_offset=j]))
            comptime for line in range(0, UNITS, LANES):
                fetch(at.unsafe_offset(line))
