"""The continuous-batching scheduler: at every step it decides which tokens of which requests the model computes.

Iteration-level scheduling after Orca (Yu et al. 2022, OSDI) with chunked prefill after Sarathi (Agrawal et al. 2023,
https://arxiv.org/abs/2308.16369). A step has a budget of tokens. Every request that decodes gets its one token first,
then prompts that are under way get chunks in order of admission, then waiting requests are admitted, as long as budget,
slots and pages last. When decoding needs a page and none is free or evictable, the newest request gives up its pages
and waits; it recomputes later what the prefix cache has lost by then.

A step may be scheduled while the one before is computed: what has been scheduled counts as computed, since the device
takes steps in order, and the token that is on its way is known by its place alone (`RunningTable.last_token`). Then a
request may turn out to have ended when the next step computes one token more for it; that token is thrown away.

Pages of a prompt are published in the radix tree in the step that computes them, so requests that come together share
them at once. This is right because a layer writes the keys and values of all tokens of a step before it attends.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from mili.errors import ConfigError, RequestError
from mili.kv_cache import KVCacheAllocator
from mili.radix_cache import RadixAttentionCache
from mili.request import FinishReason, Request, RequestState
from mili.request_pages import RequestPages
from mili.running import RunningTable, bucket, check_buckets, table_widths
from mili.step import Step
from mili.waiting import QueuePolicy, WaitingQueue


class ContinuousBatchScheduler:
    """Schedules requests over the pages of `allocator`.

    max_running       requests that run at the same time
    max_batch_tokens  token budget of a step; at least max_running, so that nobody who decodes is left out
    max_context       tokens a request may have, prompt and output
    tree              prefix cache over the same pages; None turns prefix caching off
    policy            `fcfs` or `prefix_aware` (mili/waiting.py)
    decode_buckets    row counts that decode-only batches are padded to, for graph capture on a GPU; () for none. With
                      buckets the page table's width is one of `decode_widths`.
    """

    def __init__(
        self,
        allocator: KVCacheAllocator,
        page_size: int,
        *,
        max_running: int = 256,
        max_batch_tokens: int = 2048,
        max_context: int = 4096,
        tree: RadixAttentionCache | None = None,
        policy: QueuePolicy = "fcfs",
        decode_buckets: Sequence[int] = (),
    ) -> None:
        if max_running < 1:
            raise ConfigError(f"max_running is {max_running}: it must be at least 1")
        if max_batch_tokens < max_running:
            raise ConfigError(f"max_batch_tokens is {max_batch_tokens}: it must be at least max_running, {max_running}")
        check_buckets(decode_buckets)
        self.allocator = allocator
        self.page_size = page_size
        self.max_batch_tokens = max_batch_tokens
        self.max_context = min(max_context, allocator.num_pages * page_size)
        self.tree = tree
        self.decode_buckets = tuple(decode_buckets)
        self.waiting = WaitingQueue(policy)
        self.table = RunningTable(max_running, -(-self.max_context // page_size), page_size)
        self._pages = RequestPages(self.table, allocator, tree)
        self.decode_widths = table_widths(self.table.page_table.shape[1], page_size)
        self.preemptions = 0
        self.ended = 0  # requests that ended while they were running
        self._references = -1 - np.arange(max_running, dtype=np.int32)
        self._last: Step | None = None
        self._try_admission = False  # set when something has changed that may let a waiting request in

    @property
    def running(self) -> list[Request]:
        """Running requests in order of admission."""
        return self.table.requests

    def add(self, request: Request) -> None:
        """Queue a request. Raises RequestError if it could not run even alone."""
        self.check(request)
        self.waiting.arrive(request)
        self._try_admission = True

    def check(self, request: Request) -> None:
        """Raise RequestError if the request could not run even alone."""
        total = len(request.prompt) + request.max_tokens
        if len(request.prompt) < 1:
            raise RequestError("the prompt is empty: give at least one token")
        if total > self.max_context:
            raise RequestError(
                f"prompt and max_tokens are {len(request.prompt)} + {request.max_tokens} = {total} tokens: "
                f"at most {self.max_context} fit in the context; shorten the prompt or lower max_tokens"
            )

    def cancel(self, request: Request) -> bool:
        """End a request now, waiting or running; its pages are free when this returns. False if it had ended."""
        return self.finish(request, "cancel")

    def finish(self, request: Request, reason: FinishReason) -> bool:
        """End a request; what it computed stays in the prefix cache (unless it ended by an error)."""
        if request.state is RequestState.FINISHED:
            return False
        if request.state is RequestState.RUNNING:
            self.ended += 1
            self._pages.give_up(request, publish=reason != "error")
        else:
            self.waiting.remove(request)
        request.state, request.finish_reason = RequestState.FINISHED, reason
        self._try_admission = True
        return True

    def schedule(self, ahead: bool = False) -> Step | None:
        """Decide the next step, and book it as computed; None if there is nothing to compute.

        Its tokens are brought by `complete`. With `ahead`, those of the step before need not have been: then a request
        that reaches its length with that step is left out, and None is also the answer when a request would have to be
        preempted.
        """
        preempted = self._grow(ahead)
        if preempted is None:
            return None
        table = self.table
        take = self._take_running()
        admitted: list[Request] = []
        if self._try_admission and not preempted:
            budget = self.max_batch_tokens - int(take.sum())
            extra: list[int] = []
            while budget > 0 and len(self.waiting) and not table.full:
                request = self._admit()
                if request is None:
                    self._try_admission = False
                    break
                slot = request.slot
                extra.append(min(budget, int(table.length[slot] - table.computed[slot])))
                budget -= extra[-1]
                admitted.append(request)
                self._pages.publish(request, int(table.computed[slot]) + extra[-1])
            if not len(self.waiting):
                self._try_admission = False
            if extra:
                take = np.concatenate([take, np.array(extra, np.int32)])
        if not take.any():
            return None
        step = self._step(take)
        step.admitted, step.preempted = admitted, preempted
        self._last = step
        return step

    def complete(self, step: Step, tokens: NDArray[np.int32]) -> None:
        """The tokens [len(step.sampled)] that a step has drawn; nobody of `step.sampled` may have ended."""
        if self._last is not None and step.batch is self._last.batch:
            self.table.last_token[step.sampled_slots] = tokens
        for request, token in zip(step.sampled, tokens.tolist(), strict=True):
            request.output.append(token)

    def _take_running(self) -> NDArray[np.int32]:
        """Tokens of each running request in this step, in the order of the table."""
        table = self.table
        pending = table.length[table.slots] - table.computed[table.slots]
        # Who reaches the limit with the step in flight has nothing more to compute.
        take: NDArray[np.int32] = np.minimum(pending, table.length[table.slots] < table.limit[table.slots])
        longer = np.flatnonzero(pending > 1)
        if len(longer):
            budget = self.max_batch_tokens - (len(pending) - len(longer))
            for i in longer.tolist():
                take[i] = min(budget, int(pending[i]))
                budget -= int(take[i])
                request = table.requests[i]
                if take[i]:
                    self._pages.publish(request, int(table.computed[request.slot] + take[i]))
        return take

    def _step(self, take: NDArray[np.int32]) -> Step:
        """Build the batch and book it."""
        table = self.table
        slots, requests = table.slots, table.requests
        if not take.all():  # the budget ended before some prompts, or some are at their limit
            kept = np.flatnonzero(take)
            slots, take, requests = slots[kept], take[kept], [requests[i] for i in kept.tolist()]
        else:
            requests = list(requests)
        after = table.computed[slots] + take
        done = after == table.length[slots]
        all_done = bool(done.all())
        if all_done and len(take) == int(take.sum()):
            width = 0
            if rows := bucket(len(slots), self.decode_buckets):
                width = bucket(int(table.num_pages[slots].max()), self.decode_widths)
            batch = table.decode_batch(slots, rows, width)
        else:
            batch = table.mixed_batch(slots, take, requests)
        sampled, sampled_slots, lengths = requests, slots, after
        if not all_done:
            index = np.flatnonzero(done)
            sampled, sampled_slots, lengths = [requests[i] for i in index.tolist()], slots[index], after[index]
        lengths = lengths + 1
        table.computed[slots] = after
        table.length[sampled_slots] = lengths
        table.last_token[sampled_slots] = self._references[: len(sampled)]
        return Step(batch, requests, slots, take, sampled, sampled_slots, lengths, self.ended)

    def _grow(self, ahead: bool) -> dict[Request, int] | None:
        """A page for each decoding request that has filled its last one; preempts if there are none to be had.

        Returns the preempted requests with the slots they had. `ahead` preempts nobody: then None says that no step
        can be scheduled yet.
        """
        table, preempted = self.table, dict[Request, int]()
        while True:
            slots = table.slots
            full = table.computed[slots] >= table.num_pages[slots] << table.shift
            growing = slots[full & (table.length[slots] < table.limit[slots])]
            if self._pages.make_room(len(growing)):
                break
            if ahead:
                return None
            victim = max(table.requests, key=lambda request: request.rank)
            preempted[victim] = victim.slot
            self._preempt(victim)
        if len(growing):
            table.add_pages(growing, self.allocator.allocate(len(growing)))
        return preempted

    def _admit(self) -> Request | None:
        """Let the next waiting request in if its pages can be had; None if not.

        It gets pages for all its known tokens at once. One page for each running request is left over, so that an
        admission does not cause a preemption at the next page boundary.
        """
        request = self.waiting.candidate(self.tree)
        tokens = request.all_tokens()
        node, shared = None, np.empty(0, np.int32)
        if self.tree is not None:
            # Without the last token: its logits are wanted, so it has to be computed.
            node, shared = self.tree.match(tokens[:-1])
            self.tree.lock(node)
        need = -(-len(tokens) // self.page_size) - len(shared)
        evictable = self.tree.evictable if self.tree is not None else 0
        if need + len(self.table.slots) > self.allocator.free + evictable:
            if self.tree is not None and node is not None:
                self.tree.unlock(node)
            return None
        self._pages.make_room(need)
        pages: list[int] = shared.tolist()
        self.allocator.retain(pages)
        pages += self.allocator.allocate(need)
        self.waiting.take(request)
        self.table.add(request, tokens, pages, len(shared) * self.page_size)
        if not request.preemptions:
            request.cached_tokens = len(shared) * self.page_size
        request.node = node
        request.state = RequestState.RUNNING
        return request

    def _preempt(self, request: Request) -> None:
        self._pages.give_up(request, publish=True)
        request.state = RequestState.WAITING
        request.preemptions += 1
        self.preemptions += 1
        self.waiting.put(request)
