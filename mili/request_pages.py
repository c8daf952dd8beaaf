"""Pages of running requests: room for them in the pool, entry into the prefix cache, and giving them back."""

from mili.kv_cache import KVCacheAllocator
from mili.radix_cache import RadixAttentionCache
from mili.request import Request
from mili.running import RunningTable


class RequestPages:
    """The pages that `table` holds, of the pool of `allocator`, shared through `tree`, if there is one."""

    def __init__(self, table: RunningTable, allocator: KVCacheAllocator, tree: RadixAttentionCache | None) -> None:
        self.table = table
        self.allocator = allocator
        self.tree = tree

    def make_room(self, pages: int) -> bool:
        """Evict until `pages` are free; False, with nothing evicted, if that cannot be reached."""
        short = pages - self.allocator.free
        if short <= 0:
            return True
        if self.tree is None or self.tree.evictable < short:
            return False
        self.tree.evict(short)
        return True

    def publish(self, request: Request, end: int) -> None:
        """Enter the full pages among the first `end` known tokens into the tree, if there is one, and lock them."""
        if self.tree is None:
            return
        assert request.node is not None
        node, full = request.node, end // self.table.page_size
        if full > node.end:
            tokens = request.known[node.end * self.table.page_size : full * self.table.page_size]
            pages = self.table.page_table[request.slot, node.end : full]
            request.node = self.tree.insert(tokens, pages, node)
            self.tree.lock(request.node, until=node)

    def give_up(self, request: Request, publish: bool) -> None:
        """Take a request out of the table; full pages it has computed stay in the tree, unlocked, the rest is free."""
        slot, node = request.slot, request.node
        if publish and self.tree is not None and node is not None:
            # The keys and values of the last token are not there yet, or just now being computed.
            tokens = request.all_tokens()
            full = min(int(self.table.computed[slot]), len(tokens) - 1) // self.table.page_size
            if full > node.end:
                tokens = tokens[node.end * self.table.page_size : full * self.table.page_size]
                self.tree.insert(tokens, self.table.page_table[slot, node.end : full], node)
        self.allocator.release(self.table.remove(request))
        if self.tree is not None and node is not None:
            self.tree.unlock(node)
        request.node = None
