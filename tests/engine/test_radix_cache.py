"""The radix cache against a dictionary of prefixes, under every policy, and the order each policy evicts in."""

import random

import numpy as np
import pytest

from mili.errors import ConfigError
from mili.kv_cache import KVCacheAllocator
from mili.radix_cache import POLICIES, RadixAttentionCache
from tests.engine.radix_oracle import check_tree

SIZE = 8


def make(num_pages=64, policy="lru"):
    pool = KVCacheAllocator(num_pages)
    return pool, RadixAttentionCache(pool, SIZE, policy, 20 * SIZE if policy == "token_limit" else None)


def sequence(*words):
    """A page of equal tokens for each word: page boundaries are easy to see."""
    return np.repeat(np.array(words, np.int32), SIZE)


def add(pool, tree, *words):
    """Insert as a finished request would: allocate, insert, give up the own pages."""
    pages = pool.allocate(len(words))
    node = tree.insert(sequence(*words), np.array(pages, np.int32))
    pool.release(pages)
    return node, pages


@pytest.mark.parametrize("policy", POLICIES)
@pytest.mark.parametrize("seed", range(4))
def test_random_use_agrees_with_a_dictionary(policy, seed):
    rng = random.Random(seed)
    pool, tree = make(60, policy)
    content: dict[int, tuple[int, ...]] = {}  # page -> the whole prefix up to its end
    requests = []  # (node, pages)
    hits = 0
    for _ in range(1500):
        choice = rng.random()
        if choice < 0.55:
            words = [rng.randrange(3) for _ in range(rng.randrange(1, 9))]
            tail = rng.randrange(SIZE)
            tokens = np.concatenate([sequence(*words), np.full(tail, 9, np.int32)])
            expected = tree.match_length(tokens)
            match = tree.match(tokens)
            assert len(match.pages) == expected == match.node.end
            for i, page in enumerate(match.pages.tolist()):
                assert content[page] == tuple(words[: i + 1]), "a page holds something else"
            hits += len(match.pages)
            tree.lock(match.node)
            need = len(words) - len(match.pages)
            if need > pool.free:
                tree.evict(need - pool.free)
            if need > pool.free:
                tree.unlock(match.node)
                continue
            own = pool.allocate(need)
            pool.retain(match.pages.tolist())
            pages = match.pages.tolist() + own
            for i, page in enumerate(own, len(match.pages)):
                content[page] = tuple(words[: i + 1])
            node = tree.insert(sequence(*words)[match.node.end * SIZE :], np.array(own, np.int32), match.node)
            tree.lock(node, until=match.node)
            assert node.end == len(words)
            requests.append((node, pages))
        elif choice < 0.9 and requests:
            node, pages = requests.pop(rng.randrange(len(requests)))
            pool.release(pages)
            tree.unlock(node)
        else:
            before, evictable = pool.free, tree.evictable
            wanted = rng.randrange(6)
            assert tree.evict(wanted) == min(wanted, evictable)
            assert pool.free == before + min(wanted, evictable)
        check_tree(tree, [node for node, _ in requests])
        pool.check([pages for _, pages in requests] + [node.pages.tolist() for node in tree.walk()])
    assert hits > 100
    for node, pages in requests:
        pool.release(pages)
        tree.unlock(node)
    tree.flush()
    assert pool.free == 60
    assert tree.nodes == tree.pages == 0


def test_match_stops_at_the_first_different_page_and_splits_there():
    pool, tree = make()
    _, pages = add(pool, tree, 1, 2, 3, 4)
    tokens = sequence(1, 2, 3, 4)
    tokens[2 * SIZE + 3] = 7  # inside the third page
    match = tree.match(tokens)
    assert match.pages.tolist() == pages[:2]
    assert tree.nodes == 2
    assert tree.match(sequence(1, 2, 3, 4)[:-1]).pages.tolist() == pages[:3]
    assert tree.match(sequence(5)).pages.size == 0
    check_tree(tree)


def test_a_held_node_still_ends_where_it_did_after_a_split():
    pool, tree = make()
    node, _ = add(pool, tree, 1, 2, 3)
    tree.lock(node)
    tree.match(sequence(1, 5))
    assert node.end == 3
    assert node.parent is not tree.root
    check_tree(tree, [node])
    assert tree.evict(10) == 0
    tree.unlock(node)
    assert tree.evict(10) == 3


def test_locked_prefix_stays_while_its_tail_goes():
    pool, tree = make()
    add(pool, tree, 1, 2, 3, 4)
    match = tree.match(sequence(1, 2))
    tree.lock(match.node)
    assert tree.evict(100) == 2
    assert tree.match_length(sequence(1, 2, 3, 4)) == 2
    check_tree(tree, [match.node])


def test_eviction_takes_the_tail_page_by_page():
    pool, tree = make()
    add(pool, tree, 1, 2, 3, 4)
    assert tree.evict(1) == 1
    assert tree.match_length(sequence(1, 2, 3, 4)) == 3
    assert tree.evicted_pages == 1


@pytest.mark.parametrize(("policy", "gone"), [("lru", 2), ("lfu", 3), ("fifo", 1)])
def test_order_of_eviction(policy, gone):
    pool, tree = make(policy=policy)
    for word in (1, 2, 3):
        add(pool, tree, word)
    for word in (2, 2, 2, 3, 1, 1):  # least recent: 2 after these; least often: 3; oldest: 1
        tree.match(sequence(word))
    tree.match(sequence(3)) if policy == "lru" else None
    assert tree.evict(1) == 1
    assert [word for word in (1, 2, 3) if tree.match_length(sequence(word)) == 0] == [gone]


def test_token_limit_is_kept_and_locks_win_over_it():
    pool = KVCacheAllocator(64)
    tree = RadixAttentionCache(pool, SIZE, "token_limit", max_tokens=3 * SIZE)
    node, _ = add(pool, tree, 1, 2)
    tree.lock(node)
    other, _ = add(pool, tree, 3, 4, 5)
    tree.lock(other)
    assert tree.pages == 5
    tree.unlock(other)
    assert tree.pages == 3
    assert tree.match_length(sequence(3, 4, 5)) == 1
    add(pool, tree, 6)
    assert tree.match_length(sequence(3)) == 0
    check_tree(tree, [node])


def test_the_tree_keeps_its_own_page_when_both_have_one():
    pool, tree = make()
    _, first = add(pool, tree, 1, 2)
    _, second = add(pool, tree, 1, 2)
    assert tree.match(sequence(1, 2)).pages.tolist() == first
    assert pool.used == 2
    assert all(pool.count(page) == 0 for page in second)


def test_bad_arguments():
    pool, tree = make()
    with pytest.raises(ConfigError, match="'random'"):
        RadixAttentionCache(pool, SIZE, "random")  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="max_tokens is None"):
        RadixAttentionCache(pool, SIZE, "token_limit")
    with pytest.raises(ValueError, match="9 tokens"):
        tree.insert(np.zeros(9, np.int32), np.zeros(1, np.int32))
    with pytest.raises(RuntimeError, match="not locked"):
        tree.unlock(add(pool, tree, 1)[0])
