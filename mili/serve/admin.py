"""GET /health, /status, /metrics and /v1/models."""

import time
from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse, Response
from prometheus_client import CONTENT_TYPE_LATEST

from mili.serve.answers import ERRORS, Health, ModelCard, ModelList, Status
from mili.serve.metrics import exposition
from mili.serve.state import ServerState

router = APIRouter()


def phase(state: ServerState) -> str:
    """loading, ready, draining or failed."""
    if state.failure is not None or (state.engine is not None and state.engine.failure is not None):
        return "failed"
    return "draining" if state.draining else "loading" if state.engine is None else "ready"


def _health(state: ServerState) -> dict[str, Any]:
    return {"live": phase(state) != "failed", "ready": state.ready, "status": phase(state)}


@router.get("/health", response_model=Health, responses=ERRORS)
async def health(request: Request) -> Response:
    """Whether the process lives and whether it serves requests; status 200 as long as it lives."""
    body = _health(request.app.state.server)
    return JSONResponse(body, 200 if body["live"] else 503)


@router.get("/health/live", response_model=Health, responses={503: {"model": Health}})
async def live(request: Request) -> Response:
    """For a liveness probe: 503 if the process should be restarted."""
    body = _health(request.app.state.server)
    return JSONResponse(body, 200 if body["live"] else 503)


@router.get("/health/ready", response_model=Health, responses={503: {"model": Health}})
async def ready(request: Request) -> Response:
    """For a readiness probe: 503 while the model loads and while the server ends."""
    body = _health(request.app.state.server)
    return JSONResponse(body, 200 if body["ready"] else 503)


@router.get("/status", response_model=Status, responses=ERRORS)
async def status(request: Request) -> Response:
    """The model, its settings, and what the engine is doing."""
    state: ServerState = request.app.state.server
    uptime = round(time.time() - state.started, 3)
    body = {"status": phase(state), "model": state.name, "uptime_seconds": uptime, "launch": state.detail}
    return JSONResponse({**body, "engine": _engine(state)})


def _engine(state: ServerState) -> dict[str, Any] | None:
    if state.engine is None:
        return None
    engine, m = state.engine, state.engine.metrics
    o = engine.options
    return {
        "running": m.running,
        "waiting": m.waiting,
        "pages": {"total": m.pages, "free": m.free_pages, "cached": m.cached_pages, "evictable": m.evictable_pages},
        "steps": m.steps,
        "failed_steps": m.failed_steps,
        "prompt_tokens": m.prompt_tokens,
        "cached_tokens": m.cached_tokens,
        "generated_tokens": m.generated_tokens,
        "preemptions": m.preemptions,
        "evicted_pages": m.evicted_pages,
        "finished": dict(m.finished),
        "max_context": engine.max_context,
        "max_running": o.max_running,
        "max_batch_tokens": o.max_batch_tokens,
        "max_queue": o.max_queue,
        "eviction": o.eviction,
        "policy": o.policy,
        "prefix_caching": o.prefix_caching,
        "default_sampling": engine.recommended,
    }


@router.get("/metrics", responses={200: {"content": {"text/plain": {"schema": {"type": "string"}}}}, **ERRORS})
async def metrics(request: Request) -> Response:
    """The same for Prometheus."""
    return Response(exposition(request.app.state.server), media_type=CONTENT_TYPE_LATEST)


def _card(state: ServerState) -> dict[str, Any]:
    longest = None if state.engine is None else state.engine.max_context
    card = {"id": state.name, "object": "model", "created": int(state.started), "owned_by": "mili"}
    return {**card, "max_model_len": longest}


@router.get("/v1/models", response_model=ModelList, responses=ERRORS)
async def models(request: Request) -> Response:
    """The one model that is served."""
    return JSONResponse({"object": "list", "data": [_card(request.app.state.server)]})


@router.get("/v1/models/{model:path}", response_model=ModelCard, responses=ERRORS)
async def model(model: str, request: Request) -> Response:
    """A model by name."""
    state: ServerState = request.app.state.server
    state.check_model(model)
    return JSONResponse(_card(state))
