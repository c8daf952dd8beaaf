"""What a caller of `Engine.submit` holds: a stream of new text, and the whole output in the end.

The engine's thread only appends tokens. Text is decoded where it is read, unless stop strings have to be looked for.
"""

import asyncio
import time
from collections import deque
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field
from threading import Event
from typing import Any, Protocol

from mili.request import FinishReason, Request
from mili.sampler import TokenLogprobs
from mili.text import TextStream


@dataclass(slots=True)
class Delta:
    """What has been added to output `index` since the last delta; the last one has a finish reason."""

    index: int
    token_ids: list[int] = field(default_factory=list)
    text: str = ""
    logprobs: list[TokenLogprobs] = field(default_factory=list)
    finish_reason: FinishReason | None = None


@dataclass(slots=True)
class CompletionOutput:
    """One finished (or so far generated) answer. `token_ids` include the end token, `text` does not."""

    index: int
    token_ids: list[int] = field(default_factory=list)
    text: str = ""
    logprobs: list[TokenLogprobs] = field(default_factory=list)
    finish_reason: FinishReason | None = None


@dataclass(frozen=True, slots=True)
class Usage:
    """Tokens of a request; `cached_tokens` of its prompt were found in the prefix cache."""

    prompt_tokens: int
    completion_tokens: int
    cached_tokens: int


@dataclass(slots=True)
class RequestOutput:
    """All answers to one prompt. Times are seconds since `submit`; None if it did not get that far."""

    id: str
    prompt_ids: list[int]
    outputs: list[CompletionOutput]
    usage: Usage
    error: str | None
    queue_time: float | None
    first_token_time: float | None
    total_time: float | None

    @property
    def text(self) -> str:
        """Text of the first answer."""
        return self.outputs[0].text


class Host(Protocol):
    """What a handle and its making ask of the engine."""

    def cancel(self, handle: "RequestHandle", /) -> None: ...
    def check(self, request: Request, /) -> None: ...
    def pump(self) -> bool: ...


class Output:
    """One of the n answers to a prompt, on the engine's side: its request, its text and its times."""

    __slots__ = ("done", "first_token_at", "handle", "index", "last_token_at", "request", "started_at", "stops", "text")

    def __init__(self, handle: "RequestHandle", index: int, request: Request, text: TextStream) -> None:
        self.handle = handle
        self.index = index
        self.request = request
        self.text = text
        self.stops = bool(request.params.stop)
        self.done = False
        self.started_at: float | None = None
        self.first_token_at: float | None = None
        self.last_token_at = 0.0


class RequestHandle:
    """A submitted request. Read it with `stream()`, `async for`, `result()` or `await wait()`, from one place only.

    `cancel()` may be called from anywhere; the request then ends with finish reason "cancel" within a step.
    """

    def __init__(self, id: str, prompt_ids: list[int], engine: Host) -> None:
        self.id = id
        self.prompt_ids = prompt_ids
        self.submitted_at = time.perf_counter()
        self.finished_at: float | None = None
        self.error: str | None = None
        self.outputs: list[Output] = []
        self.answers: list[CompletionOutput] = []
        self.open = 0  # answers that the engine has not ended
        # (index, token, text or None if the reader decodes, logprobs, finish reason)
        self.news: deque[tuple[int, int, str | None, TokenLogprobs | None, FinishReason | None]] = deque()
        self.waiter: Event | asyncio.Future[None] | None = None
        self._engine = engine
        self._unread = 0

    def attach(self, outputs: list[Output]) -> None:
        """Set the answers, before the engine sees them."""
        self.outputs = outputs
        self.answers = [CompletionOutput(output.index) for output in outputs]
        self.open = self._unread = len(outputs)

    def cancel(self) -> None:
        """Ask the engine to end this request; does nothing if it has ended."""
        self._engine.cancel(self)

    @property
    def done(self) -> bool:
        """Whether the engine has ended all answers; there may be text to read still."""
        return self.open == 0

    @property
    def usage(self) -> Usage:
        """Tokens so far."""
        generated = sum(len(output.request.output) for output in self.outputs)
        return Usage(len(self.prompt_ids), generated, self.outputs[0].request.cached_tokens)

    def stream(self, timeout: float | None = None) -> Iterator[Delta]:
        """Deltas as they come; ends after the last. Raises TimeoutError if nothing comes for `timeout` seconds."""
        while self._unread:
            if not self.news and not self._engine.pump():
                event = Event()
                self.waiter = event
                if not self.news and not event.wait(timeout):
                    raise TimeoutError(f"request {self.id}: nothing new for {timeout} s")
                self.waiter = None
            yield from self.read()

    async def __aiter__(self) -> AsyncIterator[Delta]:
        while self._unread:
            if not self.news:
                future = asyncio.get_running_loop().create_future()
                self.waiter = future
                # The engine appends first and looks for a waiter then, so one of the two is seen.
                if not self.news:
                    await future
                self.waiter = None
            for delta in self.read():
                yield delta

    def result(self, timeout: float | None = None) -> RequestOutput:
        """Wait for the end and return everything."""
        for _ in self.stream(timeout):
            pass
        return self.snapshot()

    async def wait(self) -> RequestOutput:
        """Wait for the end and return everything, from a coroutine."""
        async for _ in self:
            pass
        return self.snapshot()

    def snapshot(self) -> RequestOutput:
        """What has been read so far."""
        started = [output.started_at for output in self.outputs if output.started_at is not None]
        first = [output.first_token_at for output in self.outputs if output.first_token_at is not None]
        since = self.submitted_at
        return RequestOutput(
            self.id,
            self.prompt_ids,
            self.answers,
            self.usage,
            self.error,
            min(started) - since if started else None,
            min(first) - since if first else None,
            None if self.finished_at is None else self.finished_at - since,
        )

    def read(self) -> list[Delta]:
        """The news since the last call, one delta for each answer that has any; does not wait."""
        deltas: dict[int, Delta] = {}
        while self.news:
            index, token, text, logprobs, reason = self.news.popleft()
            delta = deltas.get(index)
            if delta is None:
                delta = deltas[index] = Delta(index)
            if token >= 0:
                delta.token_ids.append(token)
            delta.text += self.outputs[index].text.push(token) if text is None else text
            if logprobs is not None:
                delta.logprobs.append(logprobs)
            if reason is not None:
                delta.finish_reason = reason
                delta.text += self.outputs[index].text.finish()
                self._unread -= 1
        for delta in deltas.values():
            answer = self.answers[delta.index]
            answer.token_ids += delta.token_ids
            answer.text += delta.text
            answer.logprobs += delta.logprobs
            answer.finish_reason = delta.finish_reason
        return list(deltas.values())


def wake(handles: list[RequestHandle]) -> None:
    """Wake whoever waits for these handles, with one call for each event loop."""
    loops: dict[asyncio.AbstractEventLoop, list[asyncio.Future[None]]] = {}
    for handle in handles:
        waiter = handle.waiter
        if waiter is None:
            continue
        handle.waiter = None
        if isinstance(waiter, Event):
            waiter.set()
        else:
            loops.setdefault(waiter.get_loop(), []).append(waiter)
    for loop, futures in loops.items():
        try:
            loop.call_soon_threadsafe(_resolve, futures)
        except RuntimeError:  # the loop has closed, and with it whoever waited
            continue


def _resolve(futures: list[Any]) -> None:
    for future in futures:
        if not future.done():
            future.set_result(None)
