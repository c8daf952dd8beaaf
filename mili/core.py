"""One step of the engine: schedule, compute, sample, deliver, end what has ended. Driven by `Engine`, by one thread."""

import time
from collections import deque
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from mili.events import StepFeed
from mili.handle import Output, RequestHandle, wake
from mili.interfaces import Cache, Model
from mili.metrics import EngineMetrics
from mili.request import FinishReason, Request
from mili.sampler import RowState, Sampler, TokenLogprobs
from mili.scheduler import ContinuousBatchScheduler, Step


class EngineCore:
    """The scheduler, the model and the sampler, and what is known of each slot for ending its request.

    Greedy requests without stop strings and the like are handled by array operations alone, apart from one append a
    token to the request's output and one to its reader's queue.
    """

    def __init__(self, model: Model, cache: Cache, scheduler: ContinuousBatchScheduler) -> None:
        self.model = model
        self.cache = cache
        self.scheduler = scheduler
        slots = len(scheduler.table.length)
        self.sampler = Sampler(slots, model.samples_on_device)
        self.metrics = EngineMetrics(pages=cache.num_pages)
        self.feeds: list[StepFeed] = []
        self.last_error: str | None = None
        self.on_end: Callable[[RequestHandle], None] = lambda handle: None
        self._eos = np.array(model.config.eos_token_ids, np.int32)
        self._limit = np.zeros(slots, np.int32)  # length at which the request ends
        self._heeds_eos = np.zeros(slots, bool)
        self._watched = np.zeros(slots, bool)  # stop strings or tokens, log-probabilities, a grammar
        self._last_time = np.zeros(slots)  # of the last token; 0 before the first
        self._finished: list[list[str]] = []
        self._woken: list[RequestHandle] = []
        self.recent: deque[tuple[float, int]] = deque(maxlen=4096)  # (time, tokens generated) of the last steps
        self._gauge()

    def add(self, handle: RequestHandle, states: list[RowState | None]) -> None:
        """Queue all answers of a request."""
        for output, state in zip(handle.outputs, states, strict=True):
            if state is not None:
                self.sampler.register(output.request, state)
            self.scheduler.add(output.request)
        self._gauge()

    def end(self, handle: RequestHandle, reason: FinishReason) -> None:
        """End all answers of a request that have not ended."""
        for output in handle.outputs:
            if not output.done:
                self._finish(output, reason, time.perf_counter())
                handle.news.append((output.index, -1, "", None, reason))
        wake([handle])
        self._gauge()

    def abandon(self, handle: RequestHandle, message: str) -> None:
        """Tell the reader that the engine itself has failed; nothing is freed any more."""
        handle.error = message
        for output in handle.outputs:
            if not output.done:
                output.done = True
                handle.open -= 1
                handle.news.append((output.index, -1, "", None, "error"))
        wake([handle])

    def step(self) -> bool:
        """Run one step; False if there was nothing to do."""
        start = time.perf_counter()
        step = self.scheduler.schedule()
        if step is None:
            return False
        if step.admitted:
            self._book_admitted(step.admitted, start)
        try:
            slots = step.sampled_slots
            fields = self.sampler.fields(slots, self.scheduler.table.length[slots], len(step.batch.logit_rows))
            # A model that leaves sampling to the host is not asked to.
            output = self.model.forward(step.batch, self.cache, *(() if fields is None else (fields,)))
            sampled = self.sampler.sample(step.sampled, slots, output)
        except BaseException as error:
            self._fail(error)
            if isinstance(error, Exception):
                return True
            raise
        self.scheduler.complete(step, sampled.tokens)
        now = time.perf_counter()
        self._deliver(step, sampled.tokens, sampled.logprobs, now)
        self._measure(step, now - start)
        if self.feeds:
            for feed in self.feeds:
                feed.offer(step, self.metrics.steps, now - start, self._finished, self.scheduler)
        self._finished = []
        return True

    def _book_admitted(self, requests: list[Request], now: float) -> None:
        for request in requests:
            output: Output = request.owner  # type: ignore[assignment]
            slot, params = request.slot, request.params
            self.sampler.admit(request)
            self._limit[slot] = len(request.prompt) + request.max_tokens
            self._heeds_eos[slot] = not params.ignore_eos or params.grammar is not None
            self._watched[slot] = bool(
                params.stop or params.stop_token_ids or params.logprobs is not None or params.grammar
            )
            self._last_time[slot] = output.last_token_at
            if output.started_at is None:
                output.started_at = now
                self.metrics.queue_seconds.observe(now - output.handle.submitted_at)
                self.metrics.prompt_tokens += len(request.prompt)
                self.metrics.cached_tokens += request.cached_tokens

    def _deliver(
        self,
        step: Step,
        tokens: NDArray[np.int32],
        logprobs: dict[int, TokenLogprobs],
        now: float,
    ) -> None:
        """Hand the new tokens to their readers and end what has ended."""
        slots = step.sampled_slots
        at_limit = self.scheduler.table.length[slots] >= self._limit[slots]
        at_eos = self._heeds_eos[slots] & (tokens[:, None] == self._eos).any(axis=1)
        special = at_limit | at_eos | self._watched[slots] | (tokens < 0)
        woken = self._woken
        last = self._last_time[slots]
        self._last_time[slots] = now
        first = last == 0
        for i in np.flatnonzero(first).tolist():
            output: Output = step.sampled[i].owner  # type: ignore[assignment]
            output.first_token_at = now
            self.metrics.first_token_seconds.observe(now - output.handle.submitted_at)
        self.metrics.inter_token_seconds.observe_many(now - last[~first])
        for request, token, is_special in zip(step.sampled, tokens.tolist(), special.tolist(), strict=True):
            output = request.owner  # type: ignore[assignment]
            output.last_token_at = now
            handle = output.handle
            if not is_special:
                handle.news.append((output.index, token, None, None, None))
                if handle.waiter is not None:
                    woken.append(handle)
        for i in np.flatnonzero(special).tolist():
            self._end_or_go_on(
                step.sampled[i], int(tokens[i]), logprobs.get(i), bool(at_eos[i]), bool(at_limit[i]), now
            )
        if woken:
            wake(woken)
            woken.clear()

    def _end_or_go_on(
        self, request: Request, token: int, logprobs: TokenLogprobs | None, at_eos: bool, at_limit: bool, now: float
    ) -> None:
        output: Output = request.owner  # type: ignore[assignment]
        params, handle = request.params, output.handle
        reason: FinishReason | None = None
        text: str | None = None
        if token < 0:
            request.output.pop()
            handle.error = "the model's logits are not numbers"
            reason = "error"
        elif at_eos or (token in params.stop_token_ids and len(request.output) > params.min_tokens):
            reason = "stop"
            if not params.include_stop:
                text = ""  # the end token is no part of the text
        if output.stops and reason is None:
            text = output.text.push(token)
            if output.text.stopped:
                reason = "stop"
        if reason is None and params.grammar is not None:
            state = self.sampler.state(request)
            if state is not None and state.grammar is not None and state.grammar.complete:
                reason = "stop"
        if reason is None and at_limit:
            reason = "length"
        if reason is not None:
            self._finish(output, reason, now)  # before the reader can see it
        handle.news.append((output.index, token, "" if token < 0 else text, logprobs, reason))
        if handle.waiter is not None:
            self._woken.append(handle)

    def _finish(self, output: Output, reason: FinishReason, now: float) -> None:
        request, handle = output.request, output.handle
        self.scheduler.finish(request, reason)
        self.sampler.forget(request)
        output.done = True
        handle.open -= 1
        self.metrics.finished[reason] += 1
        self._finished.append([request.id, reason])
        if handle.open == 0:
            handle.finished_at = now
            self.metrics.request_seconds.observe(now - handle.submitted_at)
            self.on_end(handle)

    def _fail(self, error: BaseException) -> None:
        """A step that raised: its requests end with an error, and no page of it stays in the cache."""
        self.metrics.failed_steps += 1
        self.last_error = f"{type(error).__name__}: {error}"
        reason: FinishReason = "error" if isinstance(error, Exception) else "cancel"
        for request in list(self.scheduler.running):
            output: Output = request.owner  # type: ignore[assignment]
            output.handle.error = self.last_error
            self.scheduler.finish(request, "error")  # publishes nothing
            self._finish(output, reason, time.perf_counter())
            output.handle.news.append((output.index, -1, "", None, reason))
            wake([output.handle])
        if self.scheduler.tree is not None:
            self.scheduler.tree.flush()
        self._gauge()

    def _measure(self, step: Step, seconds: float) -> None:
        metrics = self.metrics
        metrics.steps += 1
        metrics.generated_tokens += len(step.sampled)
        metrics.step_seconds.observe(seconds)
        metrics.step_tokens.observe(int(step.batch.row_offsets[len(step.requests)]))
        self.recent.append((time.perf_counter(), len(step.sampled)))
        self._gauge()

    def _gauge(self) -> None:
        metrics, scheduler = self.metrics, self.scheduler
        metrics.running, metrics.waiting = len(scheduler.running), len(scheduler.waiting)
        metrics.free_pages = scheduler.allocator.free
        metrics.preemptions = scheduler.preemptions
        if scheduler.tree is not None:
            metrics.cached_pages, metrics.evictable_pages = scheduler.tree.pages, scheduler.tree.evictable
            metrics.evicted_pages = scheduler.tree.evicted_pages
