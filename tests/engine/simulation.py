"""A scheduler driven through a random life, with every page, lock and token checked after each step.

With `ahead` the next step is scheduled, and given to the model, before the tokens of this one are read.
"""

import random
from dataclasses import dataclass, field

import numpy as np

from mili.kv_cache import KVCacheAllocator
from mili.radix_cache import RadixAttentionCache
from mili.request import Request, RequestState
from mili.sampling import GREEDY
from mili.scheduler import ContinuousBatchScheduler
from mili.step import Step
from tests.engine.fakes import AheadModel, FakeCache, FakeModel, FakeOutput, Pending, expected
from tests.engine.radix_oracle import check_tree


@dataclass
class Simulation:
    """One scheduler with its pool, tree and model; `run` and `step` check everything as they go."""

    num_pages: int = 40
    page_size: int = 8
    max_running: int = 8
    max_batch_tokens: int = 64
    max_context: int = 256
    policy: str = "fcfs"
    eviction: str = "lru"
    strategy: str = "lifo"
    caching: bool = True
    buckets: tuple[int, ...] = ()
    ahead: bool = False
    flights: list[tuple[Step, Pending | FakeOutput]] = field(default_factory=list)  # launched, not yet read
    stops: dict[Request, int] = field(default_factory=dict)  # output tokens after which it ends, for no known reason
    requests: list[Request] = field(default_factory=list)
    finished: list[Request] = field(default_factory=list)
    order: list[Request] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.cache = FakeCache(self.num_pages, self.page_size, self.strategy)
        pool: KVCacheAllocator = self.cache.allocator
        self.pool = pool
        limit = self.num_pages * self.page_size // 2 if self.eviction == "token_limit" else None
        self.tree = RadixAttentionCache(pool, self.page_size, self.eviction, limit) if self.caching else None
        self.scheduler = ContinuousBatchScheduler(
            pool,
            self.page_size,
            max_running=self.max_running,
            max_batch_tokens=self.max_batch_tokens,
            max_context=self.max_context,
            tree=self.tree,
            policy=self.policy,
            decode_buckets=self.buckets,
        )
        self.model = AheadModel(self.cache) if self.ahead else FakeModel(self.cache)
        self.steps = 0

    def add(self, prompt, max_tokens: int, priority: int = 0, stop: int = 0) -> Request:
        request = Request(str(len(self.requests)), np.array(prompt, np.int32), max_tokens, GREEDY, priority)
        self.scheduler.add(request)
        self.requests.append(request)
        self.stops[request] = stop
        return request

    def cancel(self, request: Request) -> None:
        self.scheduler.cancel(request)
        self.check()

    def step(self) -> bool:
        if not self.flights and not self.launch():
            return False
        if self.ahead:
            self.launch(ahead=True)
        step, output = self.flights.pop(0)
        tokens = output.tokens[: len(step.sampled)]
        if step.ended != self.scheduler.ended:
            step, rows = step.without_ended()
            tokens = tokens[rows]
        self.scheduler.complete(step, tokens)
        for request, length in zip(step.sampled, step.lengths.tolist(), strict=True):
            assert length == len(request.prompt) + len(request.output)
            if len(request.output) in (request.max_tokens, self.stops[request]):
                self.scheduler.finish(request, "length" if len(request.output) == request.max_tokens else "stop")
                self.finished.append(request)
        self.check()
        return True

    def launch(self, ahead: bool = False) -> bool:
        step = self.scheduler.schedule(ahead)
        if step is None:
            return False
        self.steps += 1
        assert int(step.take.sum()) <= self.max_batch_tokens
        assert len(step.requests) <= self.max_running
        assert not (ahead and step.preempted)
        self.order += step.admitted
        self.flights.append((step, self.model.forward(step.batch, self.cache)))
        if self.buckets and len(step.batch.tokens) == len(step.batch.context_lengths):
            assert len(step.batch.context_lengths) in self.buckets
        self.check()
        return True

    def run(self, limit: int = 100_000) -> None:
        while self.step():
            limit -= 1
            assert limit > 0, "no end in sight"
        assert not len(self.scheduler.waiting)
        self.check_end()

    def check(self) -> None:
        """Every page has the owners it should, every length counts the tokens that are on their way."""
        table = self.scheduler.table
        owners = [table.page_table[r.slot, : table.num_pages[r.slot]].tolist() for r in self.scheduler.running]
        if self.tree is not None:
            check_tree(self.tree, [r.node for r in self.scheduler.running])
            owners += [node.pages.tolist() for node in self.tree.walk()]
        self.pool.check(owners)
        assert [r.slot for r in table.requests] == table.slots.tolist()
        assert len(set(table.slots.tolist())) == len(table.slots)
        idle = np.ones(len(table.num_pages), bool)
        idle[table.slots] = False
        assert not table.page_table[idle].any()
        for request in self.scheduler.running:
            assert request.state is RequestState.RUNNING
            coming = sum(request in step.sampled for step, _ in self.flights)
            assert table.length[request.slot] == len(request.prompt) + len(request.output) + coming
            assert table.length[request.slot] <= table.limit[request.slot]
            assert table.computed[request.slot] <= table.length[request.slot]

    def check_end(self) -> None:
        """After all requests: free plus cached pages is every page, and every output is what it is alone."""
        cached = self.tree.pages if self.tree is not None else 0
        assert self.pool.free + cached == self.num_pages
        assert self.tree is None or self.tree.evictable == cached
        for node in self.tree.walk() if self.tree is not None else ():
            held = self.model.store.reshape(-1, self.page_size)[node.pages]
            assert (held.ravel() == node.key).all(), "a cached page holds other tokens than its key says"
        for request in self.requests:
            assert request.state is RequestState.FINISHED
            assert request.output == expected(request.prompt, len(request.output)), request
            if request.finish_reason == "length":
                assert len(request.output) == request.max_tokens


def random_prompt(rng: random.Random, page_size: int, longest: int) -> list[int]:
    """A prompt that often shares a prefix, often of an exact number of pages, with others of the same generator."""
    family = random.Random(rng.randrange(4))
    shared = [family.randrange(1, 64) for _ in range(longest)]
    cut = rng.choice([0, page_size, 2 * page_size, rng.randrange(longest)])
    tail = rng.choice([0, page_size, rng.randrange(longest)])
    prompt = (shared[:cut] + [rng.randrange(1, 64) for _ in range(tail)])[:longest]
    return prompt or [1]
