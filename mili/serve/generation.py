"""Submitting to the engine and reading from it, for the life of one HTTP request.

Whatever way the HTTP request ends (answered, client gone, timed out, server ending), its engine requests end too.
"""

import asyncio
import json
import time
from collections.abc import AsyncIterator, Sequence
from typing import Any

from fastapi import Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from mili.engine import Engine, Prompt
from mili.handle import Delta, RequestHandle
from mili.sampling import SamplingParams
from mili.serve.errors import ApiError, error_body
from mili.serve.gate import ClientGoneError

KEEPALIVE_SECONDS = 15.0
DONE = b"data: [DONE]\n\n"


def sse(value: Any) -> bytes:
    """A server-sent event with a JSON value."""
    return b"data: " + json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode("utf-8", "replace") + b"\n\n"


async def submit(
    engine: Engine, prompts: Sequence[Prompt], params: SamplingParams, *, priority: int, request_id: str
) -> list[RequestHandle]:
    """Queue the prompts of one HTTP request; all of them or, when one is refused, none.

    Runs in a thread, since long texts take a while to tokenise and grammars to compile.
    """

    def work() -> list[RequestHandle]:
        handles: list[RequestHandle] = []
        try:
            for index, prompt in enumerate(prompts):
                name = request_id if len(prompts) == 1 else f"{request_id}-{index}"
                handles.append(engine.submit(prompt, params, priority=priority, request_id=name))
        except BaseException:
            cancel(handles)
            raise
        return handles

    task = asyncio.ensure_future(asyncio.to_thread(work))
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        # The thread goes on; what it submits must not outlive this request.
        task.add_done_callback(_cancel_submitted)
        raise


def _cancel_submitted(done: "asyncio.Future[list[RequestHandle]]") -> None:
    if not done.cancelled() and done.exception() is None:
        cancel(done.result())


def cancel(handles: Sequence[RequestHandle]) -> None:
    """End requests that have not ended."""
    for handle in handles:
        if not handle.done:
            handle.cancel()


def check(handle: RequestHandle) -> None:
    """Raise ApiError if the engine ended a request otherwise than by its own rules."""
    if handle.error is not None:
        raise ApiError(500, f"the model failed: {handle.error}", code="engine_error")
    if any(answer.finish_reason == "cancel" for answer in handle.answers):
        raise ApiError(503, "the server is shutting down", code="shutting_down", headers={"Retry-After": "5"})


async def gather(request: Request, handles: Sequence[RequestHandle], timeout: float) -> None:
    """Wait for the end of all. Raises ClientGoneError, or ApiError 504 after `timeout` seconds."""
    waiting = asyncio.ensure_future(_wait_all(handles))
    gone = asyncio.ensure_future(disconnected(request.receive))
    try:
        done, _ = await asyncio.wait({waiting, gone}, timeout=timeout, return_when=asyncio.FIRST_COMPLETED)
        if not done:
            raise ApiError(504, f"the request took longer than {timeout:g} s", code="timeout")
        if waiting not in done:
            raise ClientGoneError
        await waiting
    finally:
        cancel(handles)
        gone.cancel()
        waiting.cancel()
    for handle in handles:
        check(handle)


async def _wait_all(handles: Sequence[RequestHandle]) -> None:
    for handle in handles:
        await handle.wait()


async def disconnected(receive: Receive) -> None:
    """Return when the client has closed the connection."""
    while (await receive())["type"] != "http.disconnect":
        pass


async def merged(handles: Sequence[RequestHandle]) -> AsyncIterator[tuple[int, Delta]]:
    """Deltas of several requests as they come, each with the number of its request."""
    if len(handles) == 1:
        async for delta in handles[0]:
            yield 0, delta
        return
    queue: asyncio.Queue[tuple[int, Delta | None]] = asyncio.Queue()

    async def pump(number: int) -> None:
        async for delta in handles[number]:
            queue.put_nowait((number, delta))
        queue.put_nowait((number, None))

    tasks = [asyncio.ensure_future(pump(number)) for number in range(len(handles))]
    try:
        left = len(handles)
        while left:
            number, news = await queue.get()
            if news is None:
                left -= 1
            else:
                yield number, news
    finally:
        for task in tasks:
            task.cancel()


class EventStream(Response):
    """Server-sent events from an iterator of bytes; ends its engine requests however it ends itself.

    Comments keep the connection alive while nothing else is sent. A failure after the first byte becomes an event
    with an `error`.
    """

    media_type = "text/event-stream"

    def __init__(self, events: AsyncIterator[bytes], handles: Sequence[RequestHandle], timeout: float | None) -> None:
        self.status_code = 200
        self.background = None
        self._events = events
        self._handles = handles
        self._timeout = timeout
        self._sent = time.monotonic()
        self._gone = False
        self.init_headers({"Cache-Control": "no-store", "X-Accel-Buffering": "no"})

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        watcher = asyncio.ensure_future(self._watch(receive, send))
        try:
            await send({"type": "http.response.start", "status": 200, "headers": self.raw_headers})
            try:
                async with asyncio.timeout(self._timeout):
                    async for event in self._events:
                        if self._gone:
                            raise ClientGoneError
                        self._sent = time.monotonic()
                        await send({"type": "http.response.body", "body": event, "more_body": True})
            except TimeoutError:
                await self._fail(send, ApiError(504, f"the request took longer than {self._timeout:g} s"))
            except ApiError as error:
                if self._gone:
                    raise ClientGoneError from None
                await self._fail(send, error)
            await send({"type": "http.response.body", "body": b"", "more_body": False})
        finally:
            cancel(self._handles)
            watcher.cancel()

    async def _fail(self, send: Send, error: ApiError) -> None:
        body = sse(error_body(error.status, error.message, error.param, error.code))
        await send({"type": "http.response.body", "body": body, "more_body": True})

    async def _watch(self, receive: Receive, send: Send) -> None:
        """Cancel the engine requests when the client goes; send a comment when nothing else has been sent."""
        while True:
            try:
                await asyncio.wait_for(disconnected(receive), KEEPALIVE_SECONDS)
            except TimeoutError:
                if time.monotonic() - self._sent >= KEEPALIVE_SECONDS:
                    await send({"type": "http.response.body", "body": b": waiting\n\n", "more_body": True})
                continue
            self._gone = True
            cancel(self._handles)
            return
