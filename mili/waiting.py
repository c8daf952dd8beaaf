"""The waiting queue: who is admitted next, under `fcfs` or `prefix_aware`, without ever starving anybody."""

from bisect import bisect_left, insort
from collections.abc import Iterator
from typing import Literal, TypeAlias, get_args

from mili.errors import ConfigError
from mili.radix_cache import RadixAttentionCache
from mili.request import Request

QueuePolicy: TypeAlias = Literal["fcfs", "prefix_aware"]
QUEUE_POLICIES: tuple[str, ...] = get_args(QueuePolicy)


class WaitingQueue:
    """Requests in order of rank.

    A rank is `arrival number + priority * head_start`, and lower goes first: one level of priority is worth a head
    start of so many arrivals. A rank never changes and later arrivals' ranks grow without bound, so every request
    becomes the first at some point, whatever its priority; a preempted request comes back to its old place.

    `prefix_aware` takes, among the first `window` requests of the first one's priority, the one with the longest cached
    prefix; the first one is passed over at most `window` times.
    """

    def __init__(self, policy: QueuePolicy = "fcfs", head_start: int = 1000, window: int = 16) -> None:
        if policy not in QUEUE_POLICIES:
            raise ConfigError(f"scheduling policy is {policy!r}: choose one of {', '.join(QUEUE_POLICIES)}")
        self.policy = policy
        self.head_start = head_start
        self.window = window
        # Sorted by negated rank, so that the first in order stands at the end, where taking it costs nothing.
        self._queue: list[tuple[int, int, Request]] = []
        self._arrivals = 0
        self._lengths: dict[str, tuple[int, int]] = {}

    def __len__(self) -> int:
        return len(self._queue)

    def __iter__(self) -> Iterator[Request]:
        return (entry[2] for entry in reversed(self._queue))

    def arrive(self, request: Request) -> None:
        """A new request: gives it its rank."""
        self._arrivals += 1
        request.rank = (self._arrivals + request.priority * self.head_start, self._arrivals)
        self.put(request)

    def put(self, request: Request) -> None:
        """Put a request in its place by rank."""
        insort(self._queue, (-request.rank[0], -request.rank[1], request))

    def remove(self, request: Request) -> None:
        """Take a request out, wherever it stands."""
        index = bisect_left(self._queue, (-request.rank[0], -request.rank[1]))
        if index >= len(self._queue) or self._queue[index][2] is not request:
            raise RuntimeError(f"{request!r} is not waiting")
        del self._queue[index]
        self._lengths.pop(request.id, None)

    def candidate(self, tree: RadixAttentionCache | None) -> Request:
        """The request to admit next; it stays in the queue until `take`."""
        first = self._queue[-1][2]
        if self.policy == "fcfs" or tree is None or first.overtaken >= self.window:
            return first
        best, longest = first, self._cached(first, tree)
        for entry in self._queue[-2 : -self.window - 1 : -1]:
            request = entry[2]
            if request.priority == first.priority and (length := self._cached(request, tree)) > longest:
                best, longest = request, length
        return best

    def take(self, request: Request) -> None:
        """Take the admitted candidate out."""
        first = self._queue[-1][2]
        if request is first:
            self._queue.pop()
            self._lengths.pop(request.id, None)
        else:
            first.overtaken += 1
            self.remove(request)

    def _cached(self, request: Request, tree: RadixAttentionCache) -> int:
        """Cached pages of a request's tokens, asked again only after the tree has changed."""
        known = self._lengths.get(request.id)
        if known is None or known[0] != tree.version:
            known = (tree.version, tree.match_length(request.all_tokens()[:-1]))
            self._lengths[request.id] = known
        return known[1]
