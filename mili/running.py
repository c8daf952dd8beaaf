"""The running table: a row of NumPy arrays for each running request, from which a step's batch is gathered.

The rows are updated in place and never rebuilt from Python objects: a decode step is about twenty array operations,
however many requests run.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from mili.batch import Batch
from mili.errors import ConfigError
from mili.request import Request

Int32Array = NDArray[np.int32]
IntArray = NDArray[np.int64]


class RunningTable:
    """Rows ("slots") for up to `max_running` requests of up to `max_pages` pages each.

    length[s]      tokens of the request in slot s, prompt and output, the one that a step in flight draws included
    computed[s]    of them, tokens whose keys and values are in the cache, or will be when the step in flight is done
    limit[s]       length at which the request ends
    last_token[s]  the last token: what decoding feeds next; -1 - j: the one that row j of the step in flight draws
    num_pages[s]   pages held; page_table[s, :num_pages[s]] are their numbers, the rest of the row is 0
    """

    def __init__(self, max_running: int, max_pages: int, page_size: int) -> None:
        self.page_size = page_size
        self.shift = page_size.bit_length() - 1
        self.length = np.zeros(max_running, np.int32)
        self.computed = np.zeros(max_running, np.int32)
        self.limit = np.zeros(max_running, np.int32)
        self.last_token = np.zeros(max_running, np.int32)
        self.num_pages = np.zeros(max_running, np.int32)
        self.page_table = np.zeros((max_running, max_pages), np.int32)
        self.requests: list[Request] = []  # in order of admission
        self.slots: IntArray = np.zeros(0, np.int64)  # their slots, in the same order
        self._free = list(range(max_running - 1, -1, -1))

    @property
    def full(self) -> bool:
        return not self._free

    def add(self, request: Request, tokens: Int32Array, pages: Sequence[int], computed: int) -> int:
        """Give the request a slot: it knows `tokens`, of which the first `computed` lie in `pages`."""
        slot = self._free.pop()
        request.slot, request.known = slot, tokens
        self.length[slot] = len(tokens)
        self.computed[slot] = computed
        self.limit[slot] = len(request.prompt) + request.max_tokens
        self.last_token[slot] = tokens[-1]
        self.num_pages[slot] = len(pages)
        self.page_table[slot, : len(pages)] = pages
        self.requests.append(request)
        self.slots = np.append(self.slots, slot)
        return slot

    def remove(self, request: Request) -> list[int]:
        """Free the request's slot; returns its pages, which are now the caller's to release."""
        slot, index = request.slot, self.requests.index(request)
        count = int(self.num_pages[slot])
        pages: list[int] = self.page_table[slot, :count].tolist()
        self.page_table[slot, :count] = 0
        self.num_pages[slot] = 0
        del self.requests[index]
        self.slots = np.delete(self.slots, index)
        self._free.append(slot)
        request.slot = -1
        return pages

    def add_pages(self, slots: IntArray, pages: Sequence[int]) -> None:
        """One more page for each of the slots."""
        self.page_table[slots, self.num_pages[slots]] = pages
        self.num_pages[slots] += 1

    def decode_batch(self, slots: IntArray, rows: int = 0, width: int = 0) -> Batch:
        """The batch in which every slot feeds its last token.

        Padded to `rows` rows and a page table of `width` columns if they are larger. A padding row is token 0 at
        position 0 with slot -1 and no context: it writes nothing, reads no page, and what it gives is discarded.
        """
        count = len(slots)
        rows, width = max(rows, count), max(width, int(self.num_pages[slots].max()))
        if rows == count:
            tokens, positions = self.last_token[slots], self.computed[slots]
            table = self.page_table[:, :width][slots]
        else:
            tokens, positions = np.zeros(rows, np.int32), np.zeros(rows, np.int32)
            tokens[:count], positions[:count] = self.last_token[slots], self.computed[slots]
            table = np.zeros((rows, width), np.int32)
            table[:count] = self.page_table[:, :width][slots]
        write, context = np.full(rows, -1, np.int32), np.zeros(rows, np.int32)
        at = positions[:count]
        context[:count] = at + 1
        write[:count] = (self.page_table[slots, at >> self.shift] << self.shift) | (at & (self.page_size - 1))
        offsets = np.arange(rows + 1, dtype=np.int32)
        return Batch(tokens, positions, write, offsets, context, table, offsets[:-1])

    def mixed_batch(self, slots: IntArray, take: Int32Array, requests: Sequence[Request]) -> Batch:
        """The batch in which slot i feeds its next `take[i]` tokens; rows that reach their last token want logits."""
        count = len(slots)
        offsets = np.zeros(count + 1, np.int32)
        np.cumsum(take, out=offsets[1:])
        computed = self.computed[slots]
        row = np.repeat(np.arange(count), take)
        positions = np.arange(offsets[-1], dtype=np.int32) + (computed - offsets[:-1])[row]
        tokens = self.last_token[slots][row]
        context = computed + take
        for i in np.flatnonzero((take > 1) | (context < self.length[slots])).tolist():
            start, first, n = int(offsets[i]), int(computed[i]), int(take[i])
            tokens[start : start + n] = requests[i].known[first : first + n]
        pages = self.page_table[slots[row], positions >> self.shift]
        write = (pages << self.shift) | (positions & (self.page_size - 1))
        table = self.page_table[:, : int(self.num_pages[slots].max())][slots]
        wanted = offsets[1:][context == self.length[slots]] - 1
        if not len(wanted):  # only chunks that end before their prompt does: one row, so that no axis is empty
            wanted = offsets[-1:] - 1
        return Batch(tokens, positions, write, offsets, context, table, wanted)


def bucket(count: int, buckets: Sequence[int]) -> int:
    """The smallest bucket that holds `count` rows; 0 (no padding) if there is none."""
    return next((size for size in buckets if size >= count), 0)


def table_widths(most: int, page_size: int) -> tuple[int, ...]:
    """Page-table widths that decode steps are padded to: 2,048 tokens, four times that and so on, and `most` pages."""
    widths = []
    width = max(1, 2048 // page_size)
    while 2 * width <= most:
        widths.append(width)
        width *= 4
    return (*widths, most)


def check_buckets(buckets: Sequence[int]) -> None:
    """Raise ConfigError unless the sizes are positive and rising."""
    if any(size < 1 for size in buckets) or list(buckets) != sorted(set(buckets)):
        raise ConfigError(f"decode buckets are {list(buckets)}: they must be positive and rising")
