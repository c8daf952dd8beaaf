"""The paged KV cache: a pool of pages with reference counts, and the device buffers the pages stand for.

Paging after vLLM's PagedAttention (Kwon et al. 2023, https://arxiv.org/abs/2309.06180): a page holds the keys and
values of a fixed number of tokens of one request, for all layers at the same page number, so memory is lost only in the
last page of each request, and requests with a common prefix point at the same pages.
"""

import heapq
import math
from collections import deque
from collections.abc import Iterable
from typing import Literal, Protocol, TypeAlias, get_args

import numpy as np
from max.driver import CPU, Buffer, Device
from max.dtype import DType

from mili.errors import ConfigError

Strategy: TypeAlias = Literal["lifo", "fifo", "lowest"]
STRATEGIES: tuple[str, ...] = get_args(Strategy)
ALIGNMENT = 4096  # of CPU buffers: a page of the operating system
UNITS = {"": 1, "B": 1, "K": 2**10, "KIB": 2**10, "M": 2**20, "MIB": 2**20, "G": 2**30, "GIB": 2**30}
UNITS |= {"KB": 10**3, "MB": 10**6, "GB": 10**9}


class OutOfPagesError(RuntimeError):
    """More pages were asked for than are free; the caller evicts or preempts first."""


class _FreeList(Protocol):
    """The pages nobody holds, in the order a strategy hands them out."""

    def __len__(self) -> int: ...
    def take(self, n: int) -> list[int]: ...
    def put(self, pages: Iterable[int]) -> None: ...


class _Lifo:
    """The page freed last goes out first: it is the one most likely still in the CPU's caches."""

    def __init__(self, num_pages: int) -> None:
        self._pages = list(range(num_pages - 1, -1, -1))

    def __len__(self) -> int:
        return len(self._pages)

    def take(self, n: int) -> list[int]:
        cut = len(self._pages) - n
        taken = self._pages[cut:]
        del self._pages[cut:]
        taken.reverse()
        return taken

    def put(self, pages: Iterable[int]) -> None:
        self._pages.extend(pages)


class _Fifo:
    """The page freed longest ago goes out first: a stale read after a free shows up late, so tests can look for it."""

    def __init__(self, num_pages: int) -> None:
        self._pages = deque(range(num_pages))

    def __len__(self) -> int:
        return len(self._pages)

    def take(self, n: int) -> list[int]:
        return [self._pages.popleft() for _ in range(n)]

    def put(self, pages: Iterable[int]) -> None:
        self._pages.extend(pages)


class _Lowest:
    """The lowest number goes out first: the used pages stay together at the start of the buffer. O(log n) a page."""

    def __init__(self, num_pages: int) -> None:
        self._pages = list(range(num_pages))

    def __len__(self) -> int:
        return len(self._pages)

    def take(self, n: int) -> list[int]:
        return [heapq.heappop(self._pages) for _ in range(n)]

    def put(self, pages: Iterable[int]) -> None:
        for page in pages:
            heapq.heappush(self._pages, page)


class KVCacheAllocator:
    """A pool of `num_pages` pages with reference counts.

    A page is free (count 0) or held by one or more owners: running requests and the radix tree. Allocating gives a
    count of 1, `retain` adds an owner, `release` takes one away, and at 0 the page is free again. The cost of each call
    depends on the number of pages it names and not on the size of the pool.
    """

    def __init__(self, num_pages: int, strategy: Strategy = "lifo") -> None:
        if num_pages < 1:
            raise ConfigError(f"num_pages is {num_pages}: a KV cache needs at least 1 page; give it more memory")
        kinds: dict[str, type[_Lifo] | type[_Fifo] | type[_Lowest]] = {"lifo": _Lifo, "fifo": _Fifo, "lowest": _Lowest}
        if strategy not in kinds:
            raise ConfigError(f"strategy is {strategy!r}: choose one of {', '.join(STRATEGIES)}")
        self.num_pages = num_pages
        self.strategy = strategy
        self._free: _FreeList = kinds[strategy](num_pages)
        self._counts = [0] * num_pages

    @property
    def free(self) -> int:
        """Pages nobody holds."""
        return len(self._free)

    @property
    def used(self) -> int:
        """Pages with at least one owner."""
        return self.num_pages - len(self._free)

    def count(self, page: int) -> int:
        """Owners of one page."""
        return self._counts[page]

    def allocate(self, n: int) -> list[int]:
        """`n` free pages, each with a reference count of 1. Raises OutOfPagesError and changes nothing if too few."""
        if n > len(self._free):
            raise OutOfPagesError(f"{n} pages asked for, {len(self._free)} of {self.num_pages} are free")
        pages = self._free.take(n)
        counts = self._counts
        for page in pages:
            counts[page] = 1
        return pages

    def retain(self, pages: Iterable[int]) -> None:
        """One more owner for each page; the pages must be held already."""
        counts = self._counts
        for page in pages:
            if counts[page] < 1:
                raise RuntimeError(f"page {page} is free and cannot be retained")
            counts[page] += 1

    def release(self, pages: Iterable[int]) -> int:
        """One owner less for each page; returns how many became free."""
        counts = self._counts
        freed: list[int] = []
        for page in pages:
            count = counts[page] - 1
            if count < 0:
                raise RuntimeError(f"page {page} is free and cannot be released")
            counts[page] = count
            if count == 0:
                freed.append(page)
        self._free.put(freed)
        return len(freed)

    def check(self, owners: Iterable[Iterable[int]]) -> None:
        """Compare the counts with a full list of owners, page by page; for tests. Raises RuntimeError on a leak."""
        expected = np.zeros(self.num_pages, np.int64)
        for pages in owners:
            np.add.at(expected, np.asarray(list(pages), np.int64), 1)
        wrong = np.flatnonzero(expected != np.asarray(self._counts))
        if wrong.size:
            page = int(wrong[0])
            raise RuntimeError(
                f"{wrong.size} pages miscounted; page {page} has {expected[page]} owners and count {self._counts[page]}"
            )
        if self.free != int((expected == 0).sum()):
            raise RuntimeError(f"{self.free} pages in the free list, {int((expected == 0).sum())} without an owner")


def parse_memory(text: str | int | float, free: int) -> int:
    """Bytes meant by `text`: a number of bytes, a size ("2GiB", "500MB") or a share of `free` ("40%", 0.4)."""
    value = str(text).strip().upper()
    number = value.rstrip("%KMGIB ")
    unit = value[len(number) :].strip()
    try:
        amount = float(number)
    except ValueError:
        raise ConfigError(f"kv_memory is {text!r}: write bytes, a size such as 2GiB, or a share such as 40%") from None
    if unit == "%":
        size = amount / 100 * free
    elif unit == "" and 0 < amount <= 1 and "." in number:
        size = amount * free
    elif unit in UNITS:
        size = amount * UNITS[unit]
    else:
        raise ConfigError(f"kv_memory is {text!r}: the unit {unit!r} is unknown; use KiB, MiB, GiB, KB, MB, GB or %")
    if not 0 < size <= free:
        raise ConfigError(f"kv_memory is {text!r}, that is {size:,.0f} bytes: {free:,} bytes are free on the device")
    return int(size)


class PagedKVCache:
    """The pages of all layers: `buffers[layer]` is `[pages, 2, KH, PS, D]` in the model's dtype, zeroed, on `device`.

    Index 0 of the second axis holds keys, 1 values (docs/architecture.md). The model writes and reads the buffers in
    place; who holds which page is the `allocator`'s business.
    """

    def __init__(
        self,
        *,
        num_layers: int,
        num_kv_heads: int,
        head_dim: int,
        dtype: DType,
        num_pages: int,
        page_size: int = 16,
        device: Device | None = None,
        strategy: Strategy = "lifo",
    ) -> None:
        check_page_size(page_size)
        self.num_layers, self.num_kv_heads, self.head_dim = num_layers, num_kv_heads, head_dim
        self.dtype = dtype
        self.page_size = page_size
        self.num_pages = num_pages
        self.allocator = KVCacheAllocator(num_pages, strategy)
        shape = (num_pages, 2, num_kv_heads, page_size, head_dim)
        place = device if device is not None else CPU()
        self.buffers: list[Buffer] = [_zeros(shape, dtype, place) for _ in range(num_layers)]
        place.synchronize()  # a GPU's zeroing runs beside us: without this it wipes what the first steps write

    @property
    def bytes_per_page(self) -> int:
        """Bytes of one page, all layers together."""
        return page_bytes(self.num_layers, self.num_kv_heads, self.head_dim, self.dtype, self.page_size)

    @property
    def capacity(self) -> int:
        """Tokens the cache can hold."""
        return self.num_pages * self.page_size


def _zeros(shape: tuple[int, ...], dtype: DType, device: Device) -> Buffer:
    """A zeroed buffer: a kernel may multiply what lies beyond the context by a zero weight, and 0 * NaN is NaN.

    On the CPU the memory comes from the operating system as it is first used, so a large pool costs what is used of it.
    """
    if not device.is_host:
        return Buffer.zeros(shape, dtype, device)
    size = math.prod(shape) * int(dtype.size_in_bytes)
    raw = np.zeros(size + ALIGNMENT, np.uint8)
    start = -raw.ctypes.data % ALIGNMENT
    return Buffer.from_numpy(raw[start : start + size]).view(dtype, shape)


def check_page_size(page_size: int) -> None:
    """Raise ConfigError unless `page_size` is a power of two from 8 to 128."""
    if page_size not in (8, 16, 32, 64, 128):
        raise ConfigError(f"page_size is {page_size}: choose 8, 16, 32, 64 or 128 tokens")


def page_bytes(num_layers: int, num_kv_heads: int, head_dim: int, dtype: DType, page_size: int) -> int:
    """Bytes of one page in all layers: keys and values of `page_size` tokens."""
    return num_layers * 2 * num_kv_heads * page_size * head_dim * int(dtype.size_in_bytes)


def pages_for_memory(
    bytes_per_page: int,
    page_size: int,
    device: Device,
    *,
    kv_memory: str | int | float | None = None,
    max_tokens: int | None = None,
) -> int:
    """How many pages fit, from what is free on `device`.

    `kv_memory`: bytes, a size or a share (`parse_memory`); None takes 85% of what is free on a GPU (the rest is for
    activations), 25% on a CPU, where other programs live too. `max_tokens`: more tokens than the engine can ever use
    (requests times context) are not taken.
    """
    free = int(device.stats["free_memory"])
    share = 0.25 if device.is_host else 0.85
    size = parse_memory(kv_memory, free) if kv_memory is not None else int(share * free)
    pages = size // bytes_per_page
    if max_tokens is not None and kv_memory is None:
        pages = min(pages, -(-max_tokens // page_size))
    if pages < 1:
        raise ConfigError(
            f"kv_memory is {kv_memory!r}, {size:,} bytes: one page takes {bytes_per_page:,} bytes; "
            "give more memory or a smaller page_size"
        )
    return pages
