"""The feed of the page: what the engine does, as server-sent events, at a limited rate and only while somebody looks.

event: step       one step's batch and the sums since the last event (mili.events.StepFeed)
event: picture    pages and radix tree (mili.events.snapshot)
event: waiting    the engine is not ready, or nothing has happened for a while
"""

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import Response, StreamingResponse

from mili.engine import Engine
from mili.serve.admin import phase
from mili.serve.answers import ERRORS, EVENT_STREAM
from mili.serve.errors import ApiError
from mili.serve.state import ServerState

STEP_SECONDS = 0.2  # on two cores every event wakes two threads that the kernels must wait for
PICTURE_SECONDS = 0.5
IDLE_SECONDS = 5.0
MAX_NODES = 300
MAX_WATCHERS = 8
ROWS = 64  # of a step's batch that are sent

router = APIRouter()
_events: dict[int | str, dict[str, Any]] = {
    200: {"content": EVENT_STREAM},
    **ERRORS,
}


@router.get("/events", responses=_events)
async def events(request: Request) -> Response:
    """The engine at work, for the page at /."""
    state: ServerState = request.app.state.server
    if state.watchers >= MAX_WATCHERS:
        raise ApiError(429, f"{MAX_WATCHERS} pages are watching already", headers={"Retry-After": "10"})
    return StreamingResponse(_feed(state), media_type="text/event-stream", headers={"Cache-Control": "no-store"})


def _event(name: str, value: dict[str, Any]) -> bytes:
    return f"event: {name}\ndata: {json.dumps(value, separators=(',', ':'))}\n\n".encode()


async def _feed(state: ServerState) -> AsyncIterator[bytes]:
    state.watchers += 1
    try:
        while state.engine is None:
            yield _event("waiting", {"status": phase(state)})
            await asyncio.sleep(1.0)
            if state.draining:
                return
        async for event in _engine_events(state, state.engine):
            yield event
    finally:
        state.watchers -= 1


async def _engine_events(state: ServerState, engine: Engine) -> AsyncIterator[bytes]:
    feed = engine.subscribe(STEP_SECONDS)
    loop = asyncio.get_running_loop()
    next_picture, idle_since, shown = 0.0, loop.time(), -1
    try:
        while not state.draining:
            parts = []
            while feed.events:
                event = feed.events.popleft()
                event["rows"] = event["rows"][:ROWS]
                parts.append(_event("step", event))
            now = loop.time()
            if now >= next_picture and engine.metrics.steps + sum(engine.metrics.finished.values()) != shown:
                shown = engine.metrics.steps + sum(engine.metrics.finished.values())
                parts.append(_event("picture", await picture(engine)))
                # Large pools cost more to look at, so they are looked at less often.
                next_picture = loop.time() + max(PICTURE_SECONDS, engine.metrics.pages / 40_000)
            if parts:
                idle_since = now
                yield b"".join(parts)  # one wake-up of the reader
            elif now - idle_since > IDLE_SECONDS:
                idle_since = now
                yield _event("waiting", {"status": phase(state)})
            await asyncio.sleep(STEP_SECONDS)
    finally:
        engine.unsubscribe(feed)


async def picture(engine: Engine) -> dict[str, Any]:
    """A snapshot, with the tree's tokens as text."""
    snapshot = await asyncio.to_thread(engine.snapshot, MAX_NODES)
    decode = getattr(engine.tokenizer, "decode", None)
    if decode is not None:
        for node in snapshot["tree"]["shown"]:
            node[6] = decode(node[6])
    return snapshot
