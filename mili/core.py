"""One step of the engine: schedule, compute, sample, deliver, end what has ended. Driven by `Engine`, by one thread.

A model that only queues a step (`runs_ahead`) is given the next one before the tokens of this one are read:

    host     launch 2 | deliver 1 | launch 3 | deliver 2 | ...       Python runs while the device does
    device     step 1 |        step 2 |         step 3 | ...          the next step is always queued

The device feeds itself its own tokens, and the scheduler knows everything else that a decode step needs. A request
that turns out to have ended is in one more step; that token is dropped. When a row of the step is sampled on the host,
or a request has to be preempted, the tokens are read first. Either way they are the same.
"""

import time
from collections import deque
from contextlib import suppress
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mili.delivery import Delivery
from mili.events import StepFeed
from mili.handle import Output, RequestHandle, wake
from mili.interfaces import Cache, ForwardOutput, Model
from mili.metrics import EngineMetrics
from mili.request import FinishReason
from mili.running import IntArray
from mili.sampler import RowState, Sampler
from mili.scheduler import ContinuousBatchScheduler
from mili.step import Step


@dataclass(slots=True)
class _Flight:
    """A step that the model has been given: what it gives, or why the model did not take it."""

    step: Step
    started: float
    output: ForwardOutput | None = None
    error: BaseException | None = None


@dataclass(slots=True)
class _SomeRows:
    """Some rows of a model's output."""

    output: ForwardOutput
    rows: IntArray

    @property
    def tokens(self) -> NDArray[np.int32]:
        return self.output.tokens[self.rows]

    @property
    def logits(self) -> NDArray[np.float32]:
        return self.output.logits[self.rows]


class EngineCore:
    """The scheduler, the model and the sampler.

    overlap: queue the next step before the tokens of this one are read, if the model can.
    """

    def __init__(self, model: Model, cache: Cache, scheduler: ContinuousBatchScheduler, overlap: bool = True) -> None:
        self.model = model
        self.cache = cache
        self.scheduler = scheduler
        self.overlap = overlap and model.runs_ahead
        self.sampler = Sampler(len(scheduler.table.length), model.samples_on_device)
        self.metrics = EngineMetrics(pages=cache.num_pages)
        self.delivery = Delivery(scheduler, self.sampler, self.metrics, model.config.eos_token_ids)
        self.feeds: list[StepFeed] = []
        self.last_error: str | None = None
        self.recent: deque[tuple[float, int]] = deque(maxlen=4096)  # (time, tokens generated) of the last steps
        self._flight: _Flight | None = None
        self._done_at = 0.0  # when the last step was
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
                self.delivery.finish(output, reason, time.perf_counter())
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
        """Run one step, and launch the next if that can be; False if there was nothing to do."""
        flight = self._flight or self._launch()
        if flight is None:
            return False
        self._flight = self._launch(ahead=True) if self._may_go_ahead(flight) else None
        self._collect(flight)
        if self._flight is not None and not self.scheduler.running:  # all of it has ended
            flight, self._flight = self._flight, None
            self._collect(flight)
        return True

    def _may_go_ahead(self, flight: _Flight) -> bool:
        """Whether the step after this one can be launched before the tokens of this one are read."""
        return self.overlap and flight.error is None and not self.sampler.on_host(flight.step.sampled_slots).any()

    def _launch(self, ahead: bool = False) -> _Flight | None:
        """Give the model the next step; None if there is none."""
        started = time.perf_counter()
        step = self.scheduler.schedule(ahead)
        if step is None:
            return None
        if step.preempted:
            self.delivery.book_preempted(step)
        if step.admitted:
            self.delivery.book_admitted(step.admitted, started)
        try:
            fields = self.sampler.fields(step.sampled_slots, step.lengths - 1, len(step.batch.logit_rows))
            # A model that leaves sampling to the host is not asked to.
            output = self.model.forward(step.batch, self.cache, *(() if fields is None else (fields,)))
        except BaseException as error:  # told when its tokens are asked for: the step before has still to be delivered
            return _Flight(step, started, error=error)
        return _Flight(step, started, output)

    def _collect(self, flight: _Flight) -> None:
        """Wait for the tokens of a step and deliver them."""
        step, output = flight.step, flight.output
        if step.ended != self.scheduler.ended and output is not None:
            step, rows = step.without_ended()
            output = _SomeRows(output, rows)
        try:
            if flight.error is not None:
                raise flight.error
            assert output is not None
            sampled = self.sampler.sample(step.sampled, step.sampled_slots, output)
        except BaseException as error:
            self._fail(error)
            if isinstance(error, Exception):
                return
            raise
        self.scheduler.complete(step, sampled.tokens)
        now = time.perf_counter()
        self.delivery.deliver(step, sampled.tokens, sampled.logprobs, now)
        seconds = now - max(flight.started, self._done_at)
        self._done_at = now
        self._measure(step, seconds)
        finished = self.delivery.take_finished()
        for feed in self.feeds:
            feed.offer(step, self.metrics.steps, seconds, finished, self.scheduler)

    def _fail(self, error: BaseException) -> None:
        """A step that raised: its requests end with an error, and no page of it stays in the cache."""
        behind, self._flight = self._flight, None
        if behind is not None and behind.output is not None:
            with suppress(Exception):
                _ = behind.output.tokens  # waits: what it reads from must not be written by the step after the next
        self.metrics.failed_steps += 1
        self.last_error = f"{type(error).__name__}: {error}"
        reason: FinishReason = "error" if isinstance(error, Exception) else "cancel"
        for request in list(self.scheduler.running):
            output: Output = request.owner  # type: ignore[assignment]
            output.handle.error = self.last_error
            self.scheduler.finish(request, "error")  # publishes nothing
            self.delivery.finish(output, reason, time.perf_counter())
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
