"""The continuous-batching scheduler: at every step it decides which tokens of which requests the model computes.

Iteration-level scheduling after Orca (Yu et al. 2022, OSDI) with chunked prefill after Sarathi (Agrawal et al. 2023,
https://arxiv.org/abs/2308.16369). A step has a budget of tokens. Every request that decodes gets its one token first,
then prompts that are under way get chunks in order of admission, then waiting requests are admitted, as long as budget,
slots and pages last. When decoding needs a page and none is free or evictable, the newest request gives up its pages
and waits; it recomputes later what the prefix cache has lost by then.

Pages of a prompt are published in the radix tree in the step that computes them, so requests that come together share
them at once. This is right because a layer writes the keys and values of all tokens of a step before it attends.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from mili.batch import Batch
from mili.errors import ConfigError, RequestError
from mili.kv_cache import KVCacheAllocator
from mili.radix_cache import RadixAttentionCache
from mili.request import FinishReason, Request, RequestState
from mili.running import IntArray, RunningTable, bucket, check_buckets, table_widths
from mili.waiting import QueuePolicy, WaitingQueue


@dataclass(slots=True)
class Step:
    """What one step computes: row i of the batch is `requests[i]` in slot `slots[i]` with `take[i]` new tokens.

    The first `len(sampled)` logit rows belong to `sampled`, in slots `sampled_slots`; any more are padding.
    """

    batch: Batch
    requests: list[Request]
    slots: IntArray
    take: NDArray[np.int32]
    sampled: list[Request]
    sampled_slots: IntArray
    admitted: list[Request] = field(default_factory=list)
    preempted: list[Request] = field(default_factory=list)

    @property
    def contexts(self) -> NDArray[np.int32]:
        """Tokens in the context of each row after the step, [B] int32."""
        return self.batch.context_lengths[: len(self.requests)]

    @property
    def decode_tokens(self) -> int:
        """Rows that feed one token and get one."""
        return int((self.take == 1).sum())

    @property
    def prefill_tokens(self) -> int:
        """Tokens of rows that feed more than one."""
        return int(self.take[self.take > 1].sum())


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
        self.decode_widths = table_widths(self.table.page_table.shape[1], page_size)
        self.preemptions = 0
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
            self._give_up_pages(request, publish=reason != "error")
        else:
            self.waiting.remove(request)
        request.state, request.finish_reason = RequestState.FINISHED, reason
        self._try_admission = True
        return True

    def schedule(self) -> Step | None:
        """Decide the next step; None if nobody is running or waiting. `complete` must follow once it is computed."""
        preempted = self._grow()
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
                if self.tree is not None:
                    self._publish(request, int(table.computed[slot]) + extra[-1])
            if not len(self.waiting):
                self._try_admission = False
            if extra:
                take = np.concatenate([take, np.array(extra, np.int32)])
        if not len(take):
            return None
        return self._step(take, admitted, preempted)

    def complete(self, step: Step, tokens: NDArray[np.int32]) -> None:
        """Book a computed step: `tokens` [len(step.sampled)] are the new tokens of `step.sampled`."""
        table = self.table
        table.computed[step.slots] += step.take
        table.last_token[step.sampled_slots] = tokens
        table.length[step.sampled_slots] += 1
        for request, token in zip(step.sampled, tokens.tolist(), strict=True):
            request.output.append(token)

    def _take_running(self) -> NDArray[np.int32]:
        """Tokens of each running request in this step, in the order of the table."""
        table = self.table
        pending = table.length[table.slots] - table.computed[table.slots]
        take: NDArray[np.int32] = np.minimum(pending, 1)
        longer = np.flatnonzero(pending > 1)
        if len(longer):
            budget = self.max_batch_tokens - (len(pending) - len(longer))
            for i in longer.tolist():
                take[i] = min(budget, int(pending[i]))
                budget -= int(take[i])
                request = table.requests[i]
                if take[i] and self.tree is not None:
                    self._publish(request, int(table.computed[request.slot] + take[i]))
        return take

    def _step(self, take: NDArray[np.int32], admitted: list[Request], preempted: list[Request]) -> Step:
        table = self.table
        slots, requests = table.slots, table.requests
        if not take.all():  # the budget ended before some prompts
            kept = np.flatnonzero(take)
            slots, take, requests = slots[kept], take[kept], [requests[i] for i in kept.tolist()]
        else:
            requests = list(requests)
        done = table.computed[slots] + take == table.length[slots]
        if done.all() and len(take) == int(take.sum()):
            width = 0
            if rows := bucket(len(slots), self.decode_buckets):
                width = bucket(int(table.num_pages[slots].max()), self.decode_widths)
            batch = table.decode_batch(slots, rows, width)
        else:
            batch = table.mixed_batch(slots, take, requests)
        if done.all():
            return Step(batch, requests, slots, take, requests, slots, admitted, preempted)
        index = np.flatnonzero(done)
        sampled = [requests[i] for i in index.tolist()]
        return Step(batch, requests, slots, take, sampled, slots[index], admitted, preempted)

    def _grow(self) -> list[Request]:
        """A page for each decoding request that has filled its last one; preempts if there are none to be had."""
        table, preempted = self.table, list[Request]()
        while len(table.slots):
            slots = table.slots
            growing = slots[table.computed[slots] >= table.num_pages[slots] << table.shift]
            if not self._make_room(len(growing)):
                victim = max(table.requests, key=lambda request: request.rank)
                self._preempt(victim)
                preempted.append(victim)
                continue
            if len(growing):
                table.add_pages(growing, self.allocator.allocate(len(growing)))
            break
        return preempted

    def _make_room(self, pages: int) -> bool:
        """Evict until `pages` are free; False, with nothing evicted, if that cannot be reached."""
        short = pages - self.allocator.free
        if short <= 0:
            return True
        if self.tree is None or self.tree.evictable < short:
            return False
        self.tree.evict(short)
        return True

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
        self._make_room(need)
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

    def _publish(self, request: Request, end: int) -> None:
        """Enter the full pages among the first `end` known tokens into the tree and lock them."""
        assert self.tree is not None
        assert request.node is not None
        node, full = request.node, end // self.page_size
        if full > node.end:
            tokens = request.known[node.end * self.page_size : full * self.page_size]
            pages = self.table.page_table[request.slot, node.end : full]
            request.node = self.tree.insert(tokens, pages, node)
            self.tree.lock(request.node, until=node)

    def _preempt(self, request: Request) -> None:
        self._give_up_pages(request, publish=True)
        request.state = RequestState.WAITING
        request.preemptions += 1
        self.preemptions += 1
        self.waiting.put(request)

    def _give_up_pages(self, request: Request, publish: bool) -> None:
        """Take a request out of the table; full pages it has computed stay in the tree, unlocked, the rest is free."""
        slot, node = request.slot, request.node
        if publish and self.tree is not None and node is not None:
            full = int(self.table.computed[slot]) // self.page_size
            if full > node.end:
                tokens = request.all_tokens()[node.end * self.page_size : full * self.page_size]
                self.tree.insert(tokens, self.table.page_table[slot, node.end : full], node)
        self.allocator.release(self.table.remove(request))
        if self.tree is not None and node is not None:
            self.tree.unlock(node)
        request.node = None
