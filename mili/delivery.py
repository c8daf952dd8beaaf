"""From drawn tokens to readers: hands out tokens, finds what has ended, and ends it."""

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from mili.handle import Output, RequestHandle, wake
from mili.metrics import EngineMetrics
from mili.request import FinishReason, Request
from mili.sampler import Sampler, TokenLogprobs
from mili.scheduler import ContinuousBatchScheduler
from mili.step import Step


class Delivery:
    """What is known of each slot for ending its request.

    Greedy requests without stop strings and the like are handled by array operations alone, apart from one append a
    token to the request's output and one to its reader's queue.
    """

    def __init__(
        self,
        scheduler: ContinuousBatchScheduler,
        sampler: Sampler,
        metrics: EngineMetrics,
        eos_token_ids: Sequence[int],
    ) -> None:
        self.scheduler = scheduler
        self.sampler = sampler
        self.metrics = metrics
        self.on_end: Callable[[RequestHandle], None] = lambda handle: None
        slots = len(scheduler.table.length)
        self._eos = np.array(eos_token_ids, np.int32)
        self._heeds_eos = np.zeros(slots, bool)
        self._watched = np.zeros(slots, bool)  # stop strings or tokens, log-probabilities, a grammar
        self._last_time = np.zeros(slots)  # of the last token; 0 before the first
        self._finished: list[list[str]] = []
        self._woken: list[RequestHandle] = []

    def take_finished(self) -> list[list[str]]:
        """[request id, reason] of what has ended since the last call."""
        finished, self._finished = self._finished, []
        return finished

    def book_preempted(self, step: Step) -> None:
        """Requests have lost their slots."""
        for request, slot in step.preempted.items():
            output: Output = request.owner  # type: ignore[assignment]
            output.last_token_at = float(self._last_time[slot])

    def book_admitted(self, requests: list[Request], now: float) -> None:
        """Requests have got slots."""
        for request in requests:
            output: Output = request.owner  # type: ignore[assignment]
            slot, params = request.slot, request.params
            self.sampler.admit(request)
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

    def deliver(
        self,
        step: Step,
        tokens: NDArray[np.int32],
        logprobs: dict[int, TokenLogprobs],
        now: float,
    ) -> None:
        """Hand the new tokens to their readers and end what has ended."""
        slots = step.sampled_slots
        at_limit = step.lengths >= self.scheduler.table.limit[slots]
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
        some = bool(special.any())
        for i, (request, token) in enumerate(zip(step.sampled, tokens.tolist(), strict=True)):
            if some and special[i]:
                continue
            output = request.owner  # type: ignore[assignment]
            handle = output.handle
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
            self.finish(output, reason, now)  # before the reader can see it
        handle.news.append((output.index, token, "" if token < 0 else text, logprobs, reason))
        if handle.waiter is not None:
            self._woken.append(handle)

    def finish(self, output: Output, reason: FinishReason, now: float) -> None:
        """End one answer and free what it holds."""
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
