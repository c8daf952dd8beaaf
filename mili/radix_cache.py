"""The radix cache: a tree from token sequences to pages, so that requests share the keys and values of a common prefix.

After SGLang's RadixAttention (Zheng et al. 2023, https://arxiv.org/abs/2312.07104). Every edge is a whole number of
pages and carries their tokens; tokens are compared with tokens, never hash with hash, so two prefixes cannot be taken
for one another. What running requests use is locked from its node up to the root; what is not locked can be evicted,
from the leaves inwards, in the order of a policy.

Cost: match, insert, lock and unlock touch the tokens they are given and the nodes on their path. Eviction takes leaves
from a heap, O(log nodes) each; an entry whose rank has grown since it was queued is queued again when it comes up, so a
hit costs nothing at the heap. Nothing scans the tree.
"""

import heapq
from collections.abc import Callable, Iterator
from typing import Literal, NamedTuple, TypeAlias, get_args

import numpy as np
from numpy.typing import NDArray

from mili.errors import ConfigError
from mili.kv_cache import KVCacheAllocator

Int32Array: TypeAlias = NDArray[np.int32]
Policy: TypeAlias = Literal["lru", "lfu", "fifo", "token_limit"]
POLICIES: tuple[str, ...] = get_args(Policy)
NOTHING: Int32Array = np.empty(0, np.int32)


class RadixNode:
    """One edge of the tree and the node it leads to: `key` are the edge's tokens, `pages` hold their keys and values.

    `end` counts the pages from the root to the end of this edge. When an edge is split, the node keeps the lower part,
    so a request that holds a node still holds the end of the same token sequence.
    """

    __slots__ = ("children", "created", "end", "hits", "key", "locks", "number", "pages", "parent", "queued", "used")

    def __init__(
        self, number: int, key: Int32Array, pages: Int32Array, parent: "RadixNode | None", end: int, now: int
    ) -> None:
        self.number = number
        self.key = key
        self.pages = pages
        self.parent = parent
        self.end = end
        self.children: dict[bytes, RadixNode] = {}
        self.locks = 0
        self.hits = 0
        self.created = now
        self.used = now
        self.queued = False


class Match(NamedTuple):
    """The longest cached prefix: its deepest node and its pages in order."""

    node: RadixNode
    pages: Int32Array


RANKS: dict[str, Callable[[RadixNode], tuple[int, int]]] = {
    "lru": lambda node: (node.used, 0),
    "lfu": lambda node: (node.hits, node.used),
    "fifo": lambda node: (node.created, 0),
    "token_limit": lambda node: (node.used, 0),
}


class RadixAttentionCache:
    """Prefix cache over the pages of `allocator`; it is one owner of each page it holds.

    `policy` says what is evicted first: `lru` the least recently used, `lfu` the least often used, `fifo` the oldest.
    `token_limit` is `lru` that also keeps the whole tree at `max_tokens` or less, as far as locks allow.
    """

    def __init__(
        self, allocator: KVCacheAllocator, page_size: int, policy: Policy = "lru", max_tokens: int | None = None
    ) -> None:
        if policy not in POLICIES:
            raise ConfigError(f"eviction policy is {policy!r}: choose one of {', '.join(POLICIES)}")
        if (policy == "token_limit") != (max_tokens is not None):
            raise ConfigError(f"max_tokens is {max_tokens} with policy {policy!r}: it belongs to token_limit alone")
        self.allocator = allocator
        self.page_size = page_size
        self.policy = policy
        self.max_pages = None if max_tokens is None else max_tokens // page_size
        self.root = RadixNode(0, NOTHING, NOTHING, None, 0, 0)
        self.pages = 0  # held by the tree
        self.evictable = 0  # of them, in nodes that nobody locks
        self.nodes = 0
        self.evicted_pages = 0
        self.version = 0  # grows with every page that comes or goes
        self._rank = RANKS[policy]
        self._heap: list[tuple[tuple[int, int], int, RadixNode]] = []
        self._clock = 0
        self._numbers = 0

    def match(self, tokens: Int32Array) -> Match:
        """The longest prefix of `tokens` [n] in the tree, in whole pages. Counts as a use; may split an edge.

        A caller that must compute the last token itself passes the prompt without it. The pages stay valid as long as
        the node is locked, which is the caller's next step.
        """
        self._clock += 1
        node, pages = self.root, []
        for child, length in self._walk(self.root, tokens):
            node = child if length == len(child.pages) else self._split(child, length)
            node.used = self._clock
            node.hits += 1
            pages.append(node.pages)
        return Match(node, np.concatenate(pages) if pages else NOTHING)

    def match_length(self, tokens: Int32Array) -> int:
        """Pages of `tokens` that `match` would find; changes nothing."""
        return sum(length for _, length in self._walk(self.root, tokens))

    def insert(self, tokens: Int32Array, pages: Int32Array, after: RadixNode | None = None) -> RadixNode:
        """Add `tokens` [n * page_size] with their `pages` [n] below `after` (a locked node; the root if None).

        Where the tree has a page for the same tokens already, it keeps its own and the caller's stays the caller's.
        The tree becomes an owner of each page it takes. Returns the node at the end of `tokens`.
        """
        if len(tokens) != len(pages) * self.page_size:
            raise ValueError(f"{len(tokens)} tokens for {len(pages)} pages of {self.page_size}")
        self._clock += 1
        node, done = after or self.root, 0
        for child, length in self._walk(node, tokens):
            node = child if length == len(child.pages) else self._split(child, length)
            node.used = self._clock
            done += length
        if done == len(pages):
            return node
        # Copies: the caller's arrays may be views of a table it goes on writing.
        key, rest = tokens[done * self.page_size :].copy(), pages[done:].copy()
        if self.max_pages is not None and self.pages + len(rest) > self.max_pages:
            self.lock(node)  # make room, but not from the path that is being extended
            self.evict(self.pages + len(rest) - self.max_pages)
            self._unlock(node)
        self.allocator.retain(rest.tolist())
        child = self._new_node(key, rest, node)
        node.children[key[: self.page_size].tobytes()] = child
        self.pages += len(rest)
        self.version += 1
        self.evictable += len(rest)
        self._queue(child)
        return child

    def lock(self, node: RadixNode, until: RadixNode | None = None) -> None:
        """Keep `node` and all above it; with `until`, an ancestor the caller has locked, only what is below that."""
        step: RadixNode | None = node
        while step is not None and step is not until:
            if step.locks == 0:
                self.evictable -= len(step.pages)
            step.locks += 1
            step = step.parent

    def unlock(self, node: RadixNode) -> None:
        """Undo one `lock` of `node` up to the root. The caller has released its own hold on the pages before."""
        self._unlock(node)
        if self.max_pages is not None and self.pages > self.max_pages:
            self.evict(self.pages - self.max_pages)

    def _unlock(self, node: RadixNode) -> None:
        step: RadixNode | None = node
        while step is not None:
            if step.locks < 1:
                raise RuntimeError(f"radix node {step.number} is not locked")
            step.locks -= 1
            if step.locks == 0:
                self.evictable += len(step.pages)
                self._queue(step)
            step = step.parent

    def evict(self, pages: int) -> int:
        """Free up to `pages` pages of unlocked leaves, from the ends of their edges; returns how many became free."""
        freed = 0
        while freed < pages and self._heap:
            rank, _, node = heapq.heappop(self._heap)
            node.queued = False
            current = self._rank(node)
            if rank != current:
                self._queue(node)
                continue
            if node.locks or node.children:
                continue  # queued again by unlock, or when its last child goes
            count = min(pages - freed, len(node.pages))
            kept = len(node.pages) - count
            freed += self.allocator.release(node.pages[kept:].tolist())
            self.pages -= count
            self.evictable -= count
            self.evicted_pages += count
            self.version += 1
            if kept:
                node.key, node.pages, node.end = node.key[: kept * self.page_size], node.pages[:kept], node.end - count
            else:
                self._remove(node)
                node = node.parent if node.parent is not None else node
            self._queue(node)
        return freed

    def flush(self) -> int:
        """Evict everything that is not locked; returns the pages that became free."""
        return self.evict(self.pages)

    def walk(self) -> Iterator[RadixNode]:
        """All nodes but the root, parents first."""
        stack = list(self.root.children.values())
        while stack:
            node = stack.pop()
            yield node
            stack.extend(node.children.values())

    def _walk(self, node: RadixNode, tokens: Int32Array) -> Iterator[tuple[RadixNode, int]]:
        """The nodes that `tokens` lead through below `node`, each with how many of its pages agree (at least 1)."""
        size, position, end = self.page_size, 0, len(tokens) - len(tokens) % self.page_size
        while position < end:
            child = node.children.get(tokens[position : position + size].tobytes())
            if child is None:
                return
            count = min(len(child.key), end - position)
            differs = child.key[:count] != tokens[position : position + count]
            first = int(differs.argmax())
            length = (first if differs[first] else count) // size
            whole = length == len(child.pages)  # before the caller splits the child
            yield child, length
            if not whole:
                return
            node, position = child, position + length * size

    def _new_node(self, key: Int32Array, pages: Int32Array, parent: RadixNode) -> RadixNode:
        self._numbers += 1
        self.nodes += 1
        return RadixNode(self._numbers, key, pages, parent, parent.end + len(pages), self._clock)

    def _split(self, node: RadixNode, length: int) -> RadixNode:
        """Cut the edge of `node` after `length` pages; the new upper node takes its place, the node stays the lower."""
        assert node.parent is not None
        cut = length * self.page_size
        upper = self._new_node(node.key[:cut].copy(), node.pages[:length].copy(), node.parent)
        upper.locks, upper.hits, upper.created, upper.used = node.locks, node.hits, node.created, node.used
        node.parent.children[node.key[: self.page_size].tobytes()] = upper
        node.key, node.pages, node.parent = node.key[cut:], node.pages[length:], upper
        upper.children[node.key[: self.page_size].tobytes()] = node
        return upper

    def _remove(self, node: RadixNode) -> None:
        assert node.parent is not None
        del node.parent.children[node.key[: self.page_size].tobytes()]
        self.nodes -= 1

    def _queue(self, node: RadixNode) -> None:
        """Put an unlocked leaf into the heap, once."""
        if node.queued or node.locks or node.children or node.parent is None:
            return
        node.queued = True
        heapq.heappush(self._heap, (self._rank(node), node.number, node))
