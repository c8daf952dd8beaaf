"""A look inside the running engine: a feed of its steps, and snapshots of pages and radix tree, for the web page.

Nobody listening costs one test of an empty list a step. A feed has an interval; steps in between are only counted.
"""

import asyncio
import time
from collections import deque
from threading import Event
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mili.scheduler import ContinuousBatchScheduler
from mili.step import Step

MAX_EVENTS = 256
FREE, CACHED = 0, -1


class StepFeed:
    """Events of the engine's steps, at most one each `interval` seconds; the oldest are dropped if nobody reads.

    An event is a dictionary that JSON can carry:

    step, time, seconds          number of the last step, Unix time of its end, its duration
    steps                        steps since the event before
    prefill_tokens, decode_tokens, generated_tokens    in these steps
    rows                         the last step's batch: [request id, slot, new tokens, context length] each
    admitted                     [request id, prompt tokens, of them cached] for each request let in since
    preempted, finished          request ids; [request id, reason]
    running, waiting             requests
    pages                        {"total", "free", "cached", "evictable"}
    evicted_pages, preemptions   since the engine was made
    """

    def __init__(self, interval: float = 0.0) -> None:
        self.interval = interval
        self.events: deque[dict[str, Any]] = deque(maxlen=MAX_EVENTS)
        self._next = 0.0
        self._waiter: Event | asyncio.Future[None] | None = None
        self._sums = {"steps": 0, "prefill_tokens": 0, "decode_tokens": 0, "generated_tokens": 0}
        self._lists: dict[str, list[Any]] = {"admitted": [], "preempted": [], "finished": []}

    def offer(
        self, step: Step, number: int, seconds: float, finished: list[Any], scheduler: ContinuousBatchScheduler
    ) -> None:
        """Called by the engine after each step."""
        sums, lists = self._sums, self._lists
        sums["steps"] += 1
        sums["prefill_tokens"] += step.prefill_tokens
        sums["decode_tokens"] += step.decode_tokens
        sums["generated_tokens"] += len(step.sampled)
        lists["admitted"] += [[r.id, len(r.prompt), r.cached_tokens] for r in step.admitted]
        lists["preempted"] += [r.id for r in step.preempted]
        lists["finished"] += finished
        now = time.perf_counter()
        if now < self._next:
            return
        self._next = now + self.interval
        rows = zip(step.requests, step.slots.tolist(), step.take.tolist(), step.contexts.tolist(), strict=True)
        event: dict[str, Any] = {
            "step": number,
            "time": time.time(),
            "seconds": seconds,
            "rows": [[request.id, slot, take, context] for request, slot, take, context in rows],
            **gauges(scheduler),
            **sums,
            **lists,
        }
        self._sums = dict.fromkeys(sums, 0)
        self._lists = {name: [] for name in lists}
        self.events.append(event)
        self._wake()

    def get(self, timeout: float | None = None) -> dict[str, Any] | None:
        """The next event; None if there is none for `timeout` seconds."""
        if not self.events:
            event = Event()
            self._waiter = event
            if not self.events:
                event.wait(timeout)
        return self.events.popleft() if self.events else None

    async def next(self) -> dict[str, Any]:
        """The next event, in a coroutine."""
        while not self.events:
            future = asyncio.get_running_loop().create_future()
            self._waiter = future
            if not self.events:
                await future
        return self.events.popleft()

    def _wake(self) -> None:
        waiter, self._waiter = self._waiter, None
        if isinstance(waiter, Event):
            waiter.set()
        elif waiter is not None:
            try:
                waiter.get_loop().call_soon_threadsafe(_resolve, waiter)
            except RuntimeError:  # the loop has closed
                return


def _resolve(future: "asyncio.Future[None]") -> None:
    if not future.done():
        future.set_result(None)


def gauges(scheduler: ContinuousBatchScheduler) -> dict[str, Any]:
    """How many requests and pages are where."""
    tree = scheduler.tree
    return {
        "running": len(scheduler.running),
        "waiting": len(scheduler.waiting),
        "pages": {
            "total": scheduler.allocator.num_pages,
            "free": scheduler.allocator.free,
            "cached": tree.pages if tree is not None else 0,
            "evictable": tree.evictable if tree is not None else 0,
        },
        "evicted_pages": tree.evicted_pages if tree is not None else 0,
        "preemptions": scheduler.preemptions,
    }


def snapshot(scheduler: ContinuousBatchScheduler, max_nodes: int = 500) -> dict[str, Any]:
    """The whole state for a picture; runs between two steps (`Engine.snapshot`).

    page_runs    owners of the pages in order, as runs [owner, pages, owner, pages, ...]: 0 free, -1 only in the prefix
                 cache, slot + 1 held by that running request (by the last admitted one if several share it)
    running      [request id, slot, prompt tokens, output tokens, computed tokens, cached tokens] each
    waiting      the first ids of the queue
    tree         {"nodes": all nodes, "shown": up to `max_nodes` of them, parents first, as
                 [number, parent number (0: root), pages, locks, hits, last use, first token ids]}
    """
    table, tree = scheduler.table, scheduler.tree
    owner = np.zeros(scheduler.allocator.num_pages, np.int32)
    shown: list[list[Any]] = []
    if tree is not None:
        for node in tree.walk():
            owner[node.pages] = CACHED
            if len(shown) < max_nodes and node.parent is not None:
                head = node.key[:8].tolist()
                shown.append([node.number, node.parent.number, len(node.pages), node.locks, node.hits, node.used, head])
    running = []
    for request in scheduler.running:
        slot = request.slot
        owner[table.page_table[slot, : table.num_pages[slot]]] = slot + 1
        sizes = [len(request.prompt), len(request.output), int(table.computed[slot]), request.cached_tokens]
        running.append([request.id, slot, *sizes])
    waiting = [request.id for request, _ in zip(scheduler.waiting, range(100), strict=False)]
    return {
        **gauges(scheduler),
        "page_size": scheduler.page_size,
        "page_runs": _runs(owner),
        "running": running,
        "waiting": waiting,
        "tree": {"nodes": tree.nodes if tree is not None else 0, "shown": shown},
    }


def _runs(values: NDArray[np.int32]) -> list[int]:
    """Run-length encoding of [n]: [value, length, value, length, ...]."""
    starts = np.concatenate([[0], np.flatnonzero(np.diff(values)) + 1])
    lengths = np.diff(starts, append=len(values))
    runs: list[int] = np.stack([values[starts], lengths], axis=1).ravel().tolist()
    return runs
