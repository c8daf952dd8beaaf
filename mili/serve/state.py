"""The server's state: the engine once it is ready, and what is said until then."""

import math
import threading
import time
import uuid
from collections.abc import Callable

from mili.engine import Engine
from mili.serve.errors import ApiError
from mili.serve.settings import ServerSettings


class ServerState:
    """What the endpoints share. `name` is the served model's name, `detail` what /status tells of the launch."""

    def __init__(self, settings: ServerSettings, name: str, detail: dict[str, str | int | None]) -> None:
        self.settings = settings
        self.name = settings.served_name or name
        self.detail = detail
        self.engine: Engine | None = None
        self.failure: BaseException | None = None
        self.draining = False
        self.watchers = 0  # open pages
        self.started = time.time()
        self.responses: dict[tuple[str, int], int] = {}  # (route, status) -> answers, for /metrics

    @property
    def ready(self) -> bool:
        """Whether requests are served now."""
        return self.engine is not None and not self.draining and self.engine.failure is None

    def need_engine(self) -> Engine:
        """The engine. Raises ApiError 503 while it is loading or ending."""
        if self.draining:
            raise ApiError(503, "the server is shutting down", code="shutting_down", headers={"Retry-After": "5"})
        if self.engine is None:
            message = "the model is still loading; ask /health until it says ready"
            raise ApiError(503, message, code="loading", headers={"Retry-After": "5"})
        return self.engine

    def check_model(self, name: str | None) -> None:
        """Raise ApiError 404 if a client names another model."""
        if name is not None and name != self.name:
            message = f"model {name!r} is not served here: it is {self.name!r}"
            raise ApiError(404, message, param="model", code="model_not_found")

    def retry_after(self) -> int:
        """Seconds after which a rejected client may find room: what the queue takes at the present speed."""
        if self.engine is None:
            return 5
        metrics, running = self.engine.metrics, self.engine.options.max_running
        histogram = metrics.request_seconds
        each = histogram.sum / histogram.count if histogram.count else 1.0
        return max(1, min(60, math.ceil(each * (metrics.waiting + 1) / running)))

    def load(
        self, make: Callable[[], Engine], failed: Callable[[], None], ready: Callable[[], object]
    ) -> threading.Thread:
        """Make and start the engine in a thread, so that /health answers meanwhile; calls `ready` or `failed`."""

        def work() -> None:
            try:
                engine = make().start()
            except BaseException as error:
                self.failure = error
                failed()
                return
            self.engine = engine
            ready()

        thread = threading.Thread(target=work, name="mili-load", daemon=True)
        thread.start()
        return thread

    def count(self, route: str, status: int) -> None:
        """Book an answer."""
        key = (route, status)
        self.responses[key] = self.responses.get(key, 0) + 1


def new_id(prefix: str) -> str:
    """A name for a request that no other has."""
    return f"{prefix}-{uuid.uuid4().hex}"
