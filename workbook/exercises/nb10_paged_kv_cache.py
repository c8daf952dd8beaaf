"""Exercises of notebook 10, the paged KV cache."""

from collections.abc import Iterator
from typing import Any

import numpy as np

from mili.kv_cache import KVCacheAllocator, OutOfPagesError
from reference.paged_attention import gather_pages, write_pages
from workbook.compare import CheckFailed
from workbook.exercise import Case, Exercise, Mistake

# (pages, KV heads, page size, head dimension)
SHAPES = ((8, 2, 4, 3), (3, 1, 8, 16), (5, 3, 1, 7), (16, 8, 16, 32))


def random(shape: tuple[int, ...], seed: int) -> Any:
    """Normal values, float32."""
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def some_pages(pages: int, count: int, seed: int) -> Any:
    """`count` different pages in an order that is not sorted."""
    return np.random.default_rng(seed).permutation(pages)[:count].astype(np.int32)


def slot_cases() -> Iterator[Case]:
    for size, pages, positions in (
        (4, [7, 2, 5], [0, 1, 3, 4, 7, 8, 9]),
        (16, [3, 1], [15, 16, 31]),
        (1, [9, 0, 4], [2, 0, 1]),
        (8, [6], [5]),
    ):
        table, places = np.array(pages, np.int32), np.array(positions, np.int32)
        slots = np.array([pages[p // size] * size + p % size for p in positions], np.int32)
        label = f"pages {pages} of {size}, positions {positions}"
        yield Case(label, {"page_table": table, "positions": places, "page_size": size}, {"slots": slots})


def written() -> Iterator[tuple[str, dict[str, Any], Any]]:
    """(label, kv, k, v and slots, the cache afterwards); every third token is padding."""
    for pages, heads, size, width in SHAPES:
        tokens = min(7, pages * size - 1)
        slots = np.random.default_rng(pages).permutation(pages * size - 1)[:tokens].astype(np.int32)
        slots[2::3] = -1
        shape = (pages, 2, heads, size, width)
        kv, k, v = random(shape, 1), random((tokens, heads, width), 2), random((tokens, heads, width), 3)
        expected = kv.copy()
        write_pages(expected, k, v, slots)
        label = f"{tokens} tokens into {pages} pages of {size}, {heads} heads of {width}"
        yield label, {"kv": kv, "k": k, "v": v, "slots": slots}, expected


def write_cases() -> Iterator[Case]:
    for label, inputs, expected in written():
        yield Case(label, inputs, {"kv": expected})


def kernel_write_cases() -> Iterator[Case]:
    for label, inputs, expected in written():
        _, _, heads, size, width = expected.shape
        sizes = {"tokens": len(inputs["k"]), "kv_heads": heads, "page_size": size, "head_dim": width}
        yield Case(label, {**inputs, **sizes}, {"kv": expected})


def contexts() -> Iterator[tuple[str, Any, Any, int]]:
    """(label, kv, page table, length): full and partly filled last pages."""
    for pages, heads, size, width in SHAPES:
        used = min(3, pages)
        kv, table = random((pages, 2, heads, size, width), 4), some_pages(pages, used, pages + size)
        for length in sorted({used * size - (size > 1), used * size, 1}, reverse=True):
            if length != used * size or size > 1:
                yield f"{length} tokens in pages {table.tolist()} of {size}", kv, table, length


def gather_cases() -> Iterator[Case]:
    ordered = sorted(contexts(), key=lambda context: context[3] % context[1].shape[3] == 0)
    for label, kv, table, length in ordered:  # a partly filled last page first: it tells mistakes apart
        k, v = gather_pages(kv, table, length)
        yield Case(label, {"kv": kv, "page_table": table, "length": length}, {"k": k, "v": v})


def score_cases() -> Iterator[Case]:
    for label, kv, table, length in contexts():
        _, _, heads, size, width = kv.shape
        q = random((heads, width), 5)
        inputs = {"q": q, "kv": kv, "page_table": table, "length": length}
        sizes = {"kv_heads": heads, "page_size": size, "head_dim": width}
        k, _ = gather_pages(kv, table, length)
        expected = np.einsum("hd,shd->hs", q, k)
        yield Case(label, inputs | sizes, {"scores": expected}, rtol=1e-4, atol=1e-4)


def scores_with(kv: Any, q: Any, table: Any, length: int, which: int) -> Any:
    """Scores of q with keys (0) or values (1) of the pages in `table`."""
    return np.einsum("hd,shd->hs", q, gather_pages(kv, table, length)[which])


def ignored_table(q: Any, kv: Any, page_table: Any, length: int, **_: int) -> Any:
    return scores_with(kv, q, np.arange(len(page_table)), length, 0)


def scores_of_values(q: Any, kv: Any, page_table: Any, length: int, **_: int) -> Any:
    return scores_with(kv, q, page_table, length, 1)


def swapped(kv: Any, k: Any, v: Any, slots: Any, **_: int) -> Any:
    write_pages(kv, v, k, slots)
    return kv


def tokens_before_heads(kv: Any, k: Any, v: Any, slots: Any, **_: int) -> Any:
    """As if a page were [2, PS, KH, D]."""
    pages, _, heads, size, width = kv.shape
    other = kv.reshape(pages, 2, size, heads, width)
    for slot, key, value in zip(slots, k, v, strict=True):
        if slot >= 0:
            other[slot // size, 0, slot % size], other[slot // size, 1, slot % size] = key, value
    return other.reshape(kv.shape)


def judge_pool(pool_class: Any) -> int:
    """Examine a PagePool: first step by step, then against the engine's allocator in a long random run."""
    pool = pool_class(4)
    held = pool.allocate(3)
    if not isinstance(held, list) or len(set(held)) != 3 or not set(held) <= set(range(4)):
        raise CheckFailed(f"allocate(3) of 4 pages should give a list of three different pages; it gave {held!r}")
    expect("after allocate(3) the owners of its pages", [pool.counts[page] for page in held], [1, 1, 1])
    try:
        more = pool.allocate(2)
    except MemoryError:
        more = None
    if more is not None:
        raise CheckFailed(f"allocate(2) with one page free should raise MemoryError; it gave {more!r}")
    expect("after a refused allocate(2) the number of free pages", len(pool.free), 1)
    pool.retain(held[:1])
    expect("after retain the owners of the page", pool.counts[held[0]], 2)
    pool.release(held)
    expect("after release the owners of the pages", [pool.counts[page] for page in held], [1, 0, 0])
    expect("the free pages, when all but one have been released", len(pool.free), 3)
    if held[0] in pool.free:
        raise CheckFailed(f"page {held[0]} is in the free list, but it still has an owner")
    return 6 + random_run(pool_class)


def expect(what: str, actual: Any, wanted: Any) -> None:
    """Raise CheckFailed unless the two are equal."""
    if actual != wanted:
        raise CheckFailed(f"{what}: {actual} but should be {wanted}")


def random_run(pool_class: Any, steps: int = 300, pages: int = 24) -> int:
    """The same random calls to a PagePool and to the engine's allocator: counts and free pages must agree."""
    generator = np.random.default_rng(6)
    pool, engine = pool_class(pages), KVCacheAllocator(pages)
    owners: list[tuple[list[int], list[int]]] = []  # pages held, in the learner's pool and in the engine's
    for step in range(steps):
        kind = generator.integers(3)
        if kind == 0:
            wanted = int(generator.integers(1, 7))
            try:
                theirs = engine.allocate(wanted)
            except OutOfPagesError:
                continue
            owners.append((list(pool.allocate(wanted)), theirs))
        elif owners and kind == 1:
            mine, theirs = owners[generator.integers(len(owners))]
            pool.retain(mine)
            engine.retain(theirs)
            owners.append((list(mine), theirs))
        elif owners:
            mine, theirs = owners.pop(generator.integers(len(owners)))
            pool.release(mine)
            engine.release(theirs)
        expect(f"free pages after {step + 1} random calls", len(pool.free), engine.free)
        counts = sorted(engine.count(page) for page in range(pages))
        expect(f"sorted counts after {step + 1} random calls", sorted(pool.counts), counts)
    return steps


EXERCISES = [
    Exercise(
        id="10.1",
        title="from positions to slots",
        kind="python",
        function="slots_of",
        lines=2,
        cases=slot_cases,
        mistakes=[
            Mistake(
                "ignores the page table",
                "that is the request's own page number; the page table says which page of the pool it is.",
                [("page_table[positions // page_size]", "(positions // page_size)")],
            ),
            Mistake(
                "counts pages, not tokens",
                "a slot counts tokens: the page's number has to be multiplied by page_size.",
                [(" * page_size + ", " + ")],
            ),
            Mistake(
                "ignores the place in the page",
                "every token got the first place of its page: add the position's remainder.",
                [("positions % page_size", "0 * positions")],
            ),
        ],
    ),
    Exercise(
        id="10.2",
        title="writing through slots",
        kind="python",
        function="write_pages",
        lines=5,
        cases=write_cases,
        mistakes=[
            Mistake(
                "writes padding",
                "slot -1 means: write nothing. In NumPy, index -1 is the last page.",
                [("slots >= 0", "slots >= -1")],
            ),
            Mistake(
                "swaps keys and values",
                "keys are at index 0 of the second axis, values at index 1.",
                [("kv[pages, 0", "kv[pages, 2"), ("kv[pages, 1", "kv[pages, 0"), ("kv[pages, 2", "kv[pages, 1")],
            ),
            Mistake(
                "forgets the values",
                "the keys are right, but the values were not written.",
                [("    kv[pages, 1, :, offsets] = v[kept]\n", "")],
            ),
        ],
    ),
    Exercise(
        id="10.3",
        title="gathering a context",
        kind="python",
        function="gather_pages",
        lines=4,
        cases=gather_cases,
        mistakes=[
            Mistake(
                "ignores the page table",
                "those are the first pages of the pool; the page table names the request's own.",
                [("kv[page_table[:count]]", "kv[:count]")],
            ),
            Mistake(
                "reads heads as tokens",
                "in a page the heads come before the tokens: move the axis of tokens next to that of pages.",
                [("transpose(1, 0, 3, 2, 4)", "transpose(1, 0, 2, 3, 4)")],
            ),
            Mistake(
                "returns whole pages",
                "the last page is not full: cut the result to `length` tokens.",
                [("dense[0, :length], dense[1, :length]", "dense[0], dense[1]")],
            ),
            Mistake(
                "forgets the last page",
                "round the number of pages up: the tokens of the last, partly filled page are missing.",
                [("-(-length // page_size)", "length // page_size")],
            ),
        ],
    ),
    Exercise(
        id="10.4",
        title="a pool with reference counts",
        kind="python",
        function="PagePool",
        lines=12,
        judge=judge_pool,
        mistakes=[
            Mistake(
                "frees a page that has owners",
                "a page goes back to the free list only when its count reaches 0.",
                [("if self.counts[page] == 0:", "if self.counts[page] >= 0:")],
            ),
            Mistake(
                "does not count the first owner",
                "a page that is handed out has one owner already.",
                [("self.counts[page] = 1", "self.counts[page] = 0")],
            ),
            Mistake(
                "never takes a page back",
                "released pages have to become free again.",
                [("self.free.append(page)", "pass")],
            ),
            Mistake(
                "hands out what there is",
                "when too few pages are free, allocate raises MemoryError and keeps none of them.",
                [('raise MemoryError(f"{n} pages asked for, {len(self.free)} are free")', "n = len(self.free)")],
            ),
        ],
    ),
    Exercise(
        id="10.5",
        title="a kernel that writes into pages",
        kind="mojo",
        function="write_kv",
        lines=13,
        cases=kernel_write_cases,
        mistakes=[
            Mistake("writes padding", "slot -1 means: write nothing.", [("if slot < 0:", "if slot < -1:")]),
            Mistake(
                "tokens before heads",
                "in a page the heads come first: row `offset` of head h is row h * page_size + offset.",
                [
                    (
                        "((page * 2 * kv_heads + h) * page_size + offset) * head_dim",
                        "((page * 2 * page_size + offset) * kv_heads + h) * head_dim",
                    )
                ],
                tokens_before_heads,
            ),
            Mistake(
                "swaps keys and values",
                "keys come first in a page, then values.",
                [
                    ("kv[unsafe_offset=key + i]", "kv[unsafe_offset=other + i]"),
                    ("kv[unsafe_offset=value + i]", "kv[unsafe_offset=key + i]"),
                    ("kv[unsafe_offset=other + i]", "kv[unsafe_offset=value + i]"),
                ],
                swapped,
            ),
            Mistake(
                "forgets that a page holds keys and values",
                "a page has 2 * kv_heads blocks of page_size rows.",
                [("page * 2 * kv_heads", "page * kv_heads")],
            ),
        ],
    ),
    Exercise(
        id="10.6",
        title="reading keys page by page",
        kind="mojo",
        function="scores_paged",
        lines=10,
        cases=score_cases,
        mistakes=[
            Mistake(
                "ignores the page table",
                "those are the first pages of the pool: look the page up in `page_table`.",
                [("Int(page_table[unsafe_offset=p])", "p")],
                ignored_table,
            ),
            Mistake(
                "reads the values",
                "the keys are the first kv_heads blocks of a page.",
                [("* 2 * kv_heads + h", "* 2 * kv_heads + kv_heads + h")],
                scores_of_values,
            ),
            Mistake(
                "takes whole pages",
                "the last page may hold fewer than page_size tokens of the context.",
                [("min(page_size, length - start)", "page_size")],
            ),
        ],
    ),
]
