"""The first thing a request meets: its id, the key, the Host header, the size and pace of its body, and its log line.

A plain ASGI middleware: Starlette's own base class would sit between a stream and its reader.
"""

import asyncio
import hashlib
import hmac
import re
import time
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any
from urllib.parse import urlsplit

from mili.serve.errors import ApiError, response_of
from mili.serve.logs import LOG
from mili.serve.state import ServerState, new_id

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]

OPEN_PATHS = ("/", "/health", "/health/live", "/health/ready")  # and /page/: no key needed
_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")


class Gate:
    """ASGI middleware around the whole application."""

    def __init__(self, app: Callable[[Scope, Receive, Send], Awaitable[None]], state: ServerState) -> None:
        self.app = app
        self.state = state
        key = state.settings.api_key
        self._key = None if key is None else hashlib.sha256(key.encode()).digest()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        headers = {name.lower(): value for name, value in scope["headers"]}
        given = headers.get(b"x-request-id", b"").decode("latin-1")
        request_id = given if _ID.fullmatch(given) else new_id("req")
        fields: dict[str, Any] = {}
        scope.setdefault("state", {}).update(request_id=request_id, log=fields)
        start, status = time.perf_counter(), 0

        async def answer(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                extra = [(b"x-request-id", request_id.encode()), (b"x-content-type-options", b"nosniff")]
                message = {**message, "headers": [*message["headers"], *extra]}
            await send(message)

        try:
            try:
                self._admit(scope["path"], headers)
                body = await self._body(receive, headers)
            except ApiError as error:
                # The rest of a refused body is not read, so the connection cannot be used again.
                error.headers["Connection"] = "close"
                await response_of(error)(scope, receive, answer)
            else:
                await self.app(scope, body, answer)
        except ClientGoneError:
            pass
        except Exception:
            LOG.exception("request failed", extra={"fields": {"request_id": request_id}})
            if not status:
                raise
        finally:
            route = getattr(scope.get("route"), "path", "other")
            self.state.count(route, status)
            quiet = route.startswith(("/health", "/metrics", "/page")) and status < 400
            LOG.log(
                10 if quiet else 20,
                "request",
                extra={
                    "fields": {
                        "request_id": request_id,
                        "method": scope["method"],
                        "path": scope["path"],
                        "status": status,
                        "seconds": round(time.perf_counter() - start, 4),
                        "client": (scope.get("client") or [None])[0],
                        **fields,
                    }
                },
            )

    def _admit(self, path: str, headers: dict[bytes, bytes]) -> None:
        """Raise ApiError for a wrong Host or key."""
        allowed = self.state.settings.allowed_hosts
        if allowed:
            host = headers.get(b"host", b"").decode("latin-1")
            try:
                name = urlsplit(f"//{host}").hostname
            except ValueError:
                name = None
            if name not in allowed:
                raise ApiError(403, f"the Host header is {host!r}: start with --allowed-host to accept it", code="host")
        if self._key is None or path in OPEN_PATHS or path.startswith("/page/"):
            return
        scheme, _, token = headers.get(b"authorization", b"").partition(b" ")
        digest = hashlib.sha256(token.strip()).digest()
        if not hmac.compare_digest(digest, self._key) or scheme.lower() != b"bearer":
            raise ApiError(
                401,
                "the API key is missing or wrong: send Authorization: Bearer KEY",
                code="invalid_api_key",
                headers={"WWW-Authenticate": "Bearer"},
            )

    async def _body(self, receive: Receive, headers: dict[bytes, bytes]) -> Receive:
        """Read the whole body within its limits and return a `receive` that gives it, then what comes after."""
        settings = self.state.settings
        length = headers.get(b"content-length", b"0")
        too_large = ApiError(413, f"the body is larger than {settings.max_body:,} bytes", code="body_too_large")
        if length.isdigit() and int(length) > settings.max_body:
            raise too_large
        pieces: list[bytes] = []
        size = 0
        try:
            async with asyncio.timeout(settings.body_timeout):
                more = True
                while more:
                    message = await receive()
                    if message["type"] == "http.disconnect":
                        raise ClientGoneError
                    pieces.append(message.get("body", b""))
                    size += len(pieces[-1])
                    if size > settings.max_body:
                        raise too_large
                    more = message.get("more_body", False)
        except TimeoutError:
            message_text = f"the body did not arrive within {settings.body_timeout:g} s"
            raise ApiError(408, message_text, code="body_timeout") from None
        body: bytes | None = b"".join(pieces)

        async def replay() -> Message:
            nonlocal body
            if body is not None:
                content, body = body, None
                return {"type": "http.request", "body": content, "more_body": False}
            return await receive()

        return replay


class ClientGoneError(Exception):
    """The client has closed the connection."""
