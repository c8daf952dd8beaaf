"""The FastAPI application: routes, errors, limits and the page's files."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from fastapi import FastAPI
from fastapi.responses import FileResponse, Response
from fastapi.staticfiles import StaticFiles
from starlette.middleware.cors import CORSMiddleware

from mili.serve import admin, chat, completions, errors, watch
from mili.serve.gate import Gate
from mili.serve.state import ServerState

PAGE = Path(__file__).parent / "page"
# The page needs nothing but its own files; nobody may frame it or run other scripts in it.
_POLICY = (
    "default-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; "
    "frame-ancestors 'none'; base-uri 'none'"
)


def create_app(state: ServerState) -> FastAPI:
    """The application around `state`; the engine may come later. Ends the engine with itself."""

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        yield
        state.draining = True
        if state.engine is not None:
            state.engine.stop()

    app = FastAPI(
        title="MILI",
        description="The Mojo Inference Language Engine. Errors have one form: see `ErrorBody`.",
        version="0.1.0",
        lifespan=lifespan,
        docs_url=None,  # its page would load scripts from elsewhere
        redoc_url=None,
    )
    app.state.server = state
    errors.install(app)
    for module in (admin, completions, chat, watch):
        app.include_router(module.router)

    @app.get("/", include_in_schema=False)
    async def page() -> Response:
        headers = {"Content-Security-Policy": _POLICY, "Cache-Control": "no-cache"}
        return FileResponse(PAGE / "index.html", headers=headers)

    app.mount("/page", StaticFiles(directory=PAGE), name="page")
    app.add_middleware(Gate, state=state)
    if state.settings.cors_origins:
        app.add_middleware(
            CORSMiddleware,
            allow_origins=list(state.settings.cors_origins),
            allow_methods=["GET", "POST"],
            allow_headers=["Authorization", "Content-Type", "X-Request-Id"],
            expose_headers=["X-Request-Id", "Retry-After"],
        )
    return app
