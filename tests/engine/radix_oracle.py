"""Full checks of the radix tree's bookkeeping, for tests: everything recounted from the nodes."""

from collections.abc import Iterable

from mili.radix_cache import RadixAttentionCache, RadixNode


def check_tree(tree: RadixAttentionCache, locked: Iterable[RadixNode] = ()) -> None:
    """Recount pages, locks, evictable pages and the heap; `locked` are the nodes that were locked, once per lock."""
    size = tree.page_size
    locks: dict[int, int] = {}
    for node in locked:
        step = node
        while step is not None:
            locks[step.number] = locks.get(step.number, 0) + 1
            step = step.parent
    nodes = list(tree.walk())
    seen: set[int] = set()
    for node in nodes:
        assert node.parent is not None
        assert len(node.key) == len(node.pages) * size > 0
        assert node.end == node.parent.end + len(node.pages)
        assert node.parent.children[node.key[:size].tobytes()] is node
        assert node.locks == locks.get(node.number, 0)
        assert not seen & set(node.pages.tolist())
        seen |= set(node.pages.tolist())
        if not node.locks and not node.children:
            assert node.queued, "an evictable leaf is not in the heap"
    assert tree.nodes == len(nodes)
    assert tree.pages == len(seen)
    assert tree.evictable == sum(len(node.pages) for node in nodes if not node.locks)
    assert len(tree._heap) == len({id(node) for _, _, node in tree._heap})
    for page in seen:
        assert tree.allocator.count(page) >= 1
    if tree.max_pages is not None:
        held = sum(len(node.pages) for node in nodes if node.locks)
        assert tree.pages <= max(tree.max_pages, held)
