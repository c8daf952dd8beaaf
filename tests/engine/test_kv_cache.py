"""The page pool: exact accounting under every strategy, sizes from memory, and the buffers' shape."""

import random
import resource

import numpy as np
import pytest
from max.driver import CPU
from max.dtype import DType

from mili.errors import ConfigError
from mili.kv_cache import (
    STRATEGIES,
    KVCacheAllocator,
    OutOfPagesError,
    PagedKVCache,
    pages_for_memory,
    parse_memory,
)


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_random_use_is_accounted_page_by_page(strategy):
    rng = random.Random(1)
    pool = KVCacheAllocator(50, strategy)
    owners: list[list[int]] = []
    for _ in range(3000):
        choice = rng.random()
        if choice < 0.4:
            n = rng.randrange(0, 9)
            if n > pool.free:
                with pytest.raises(OutOfPagesError):
                    pool.allocate(n)
            else:
                pages = pool.allocate(n)
                held = {p for owner in owners for p in owner}
                assert len(set(pages)) == n
                assert not held & set(pages)
                owners.append(pages)
        elif choice < 0.6 and owners:
            shared = list(rng.choice(owners))
            pool.retain(shared)
            owners.append(shared)
        elif owners:
            pool.release(owners.pop(rng.randrange(len(owners))))
        pool.check(owners)
        assert pool.free + pool.used == 50
    for owner in owners:
        pool.release(owner)
    assert pool.free == 50


def test_strategies_hand_out_in_their_order():
    order = {}
    for strategy in STRATEGIES:
        pool = KVCacheAllocator(6, strategy)
        first = pool.allocate(4)
        assert first == [0, 1, 2, 3]
        pool.release([0, 2])
        order[strategy] = pool.allocate(2)
    assert order["lifo"] == [2, 0]
    assert order["fifo"] == [4, 5]
    assert order["lowest"] == [0, 2]


def test_a_page_is_freed_only_by_its_last_owner():
    pool = KVCacheAllocator(3)
    pages = pool.allocate(2)
    pool.retain(pages)
    assert pool.release(pages) == 0
    assert pool.free == 1
    assert pool.release(pages) == 2
    assert pool.free == 3
    with pytest.raises(RuntimeError, match="is free"):
        pool.release([pages[0]])
    with pytest.raises(RuntimeError, match="is free"):
        pool.retain([pages[0]])


def test_check_finds_a_leak():
    pool = KVCacheAllocator(3)
    pages = pool.allocate(2)
    with pytest.raises(RuntimeError, match="miscounted"):
        pool.check([pages[:1]])


def test_unknown_strategy_and_empty_pool_are_refused():
    with pytest.raises(ConfigError, match="'best'"):
        KVCacheAllocator(3, "best")  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="num_pages is 0"):
        KVCacheAllocator(0)


@pytest.mark.parametrize(
    ("text", "size"),
    [("1000", 1000), (1000, 1000), ("2KiB", 2048), ("2 KB", 2000), ("40%", 4000), (0.5, 5000), ("1.0", 10_000)],
)
def test_parse_memory(text, size):
    assert parse_memory(text, 10_000) == size


@pytest.mark.parametrize("text", ["lots", "3 stones", "200%", "1GiB", 0, -5, ""])
def test_parse_memory_refuses(text):
    with pytest.raises(ConfigError, match="kv_memory is"):
        parse_memory(text, 10_000)


def test_sizing_from_free_memory():
    free = int(CPU().stats["free_memory"])
    pages = pages_for_memory(2**20, 16, CPU())
    assert abs(pages - free // 4 // 2**20) < 2000
    assert pages_for_memory(2**20, 16, CPU(), max_tokens=33) == 3
    assert pages_for_memory(2**20, 16, CPU(), kv_memory="8MiB") == 8
    with pytest.raises(ConfigError, match="one page takes"):
        pages_for_memory(2**20, 16, CPU(), kv_memory=1000)


def test_buffers():
    cache = PagedKVCache(num_layers=2, num_kv_heads=3, head_dim=4, dtype=DType.float32, num_pages=5, page_size=8)
    assert len(cache.buffers) == 2
    assert cache.capacity == 40
    assert cache.bytes_per_page == 2 * 2 * 3 * 8 * 4 * 4
    array = cache.buffers[0].to_numpy()
    assert array.shape == (5, 2, 3, 8, 4)
    assert not np.any(array)
    with pytest.raises(ConfigError, match="page_size is 12"):
        PagedKVCache(num_layers=1, num_kv_heads=1, head_dim=2, dtype=DType.float32, num_pages=5, page_size=12)


def test_a_large_pool_takes_memory_only_as_it_is_used():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    cache = PagedKVCache(num_layers=2, num_kv_heads=8, head_dim=128, dtype=DType.bfloat16, num_pages=16384)
    assert cache.bytes_per_page * cache.num_pages == 2**31
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 2**18  # KiB: a quarter of a GiB
    assert cache.buffers[1].shape == (16384, 2, 8, 16, 128)
    bits = cache.buffers[1].view(DType.uint16).to_numpy()
    assert bits.ctypes.data % 4096 == 0
    assert not bits[12345].any()
