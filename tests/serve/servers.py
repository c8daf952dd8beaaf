"""Servers for tests: a real uvicorn in a thread, over the fake model, and readers of what it answers."""

import asyncio
import contextlib
import json
import threading
import time

import httpx
import uvicorn

from mili.chat_template import ChatTemplate
from mili.engine import Engine, EngineOptions
from mili.serve.__main__ import listen
from mili.serve.app import create_app
from mili.serve.settings import ServerSettings
from mili.serve.state import ServerState
from tests.engine.fakes import FakeCache, FakeModel, fake_tokenizer

TEMPLATE = "{% for m in messages %}[{{ m.role }}] {{ m.content }}\n{% endfor %}[assistant] "
PAGES = 400


class SlowModel(FakeModel):
    """A step takes `delay` seconds, so that a test can act in the middle of an answer."""

    delay = 0.0

    def forward(self, batch, cache):
        time.sleep(self.delay)
        return super().forward(batch, cache)


def fake_engine(template=TEMPLATE, pages=PAGES, delay=0.0, **options):
    cache = FakeCache(pages, 8)
    tokenizer = fake_tokenizer()
    tokenizer.chat_template = ChatTemplate(template, {}) if template else None
    model = SlowModel(cache)
    model.delay = delay
    return Engine(model, tokenizer, cache, EngineOptions(**({"max_running": 16, "max_batch_tokens": 256} | options)))


def script(engine, text, first=200):
    """Make the model answer `text` to a prompt whose first token is `first`."""
    engine.model.script[first] = [*engine.tokenizer.encode(text), 0]


class Running:
    """A server in a thread. `state.engine` may be set later, as while a model loads."""

    def __init__(self, engine, settings=None, name="fake"):
        self.engine = engine
        self.state = ServerState(settings or ServerSettings(), name, {})
        self.state.engine = engine
        if engine is not None:
            engine.start()
        self.socket = listen("127.0.0.1", 0)
        self.url = f"http://127.0.0.1:{self.socket.getsockname()[1]}"
        self.app = create_app(self.state)
        config = uvicorn.Config(
            self.app, log_config=None, access_log=False, timeout_graceful_shutdown=10, lifespan="on"
        )
        self.server = uvicorn.Server(config)
        self.thread = threading.Thread(target=self.server.run, args=([self.socket],), daemon=True)
        self.thread.start()
        self.client = httpx.Client(base_url=self.url, timeout=30)
        for _ in range(500):
            if self.server.started:
                break
            time.sleep(0.01)

    def drain(self):
        """What SIGTERM does."""
        self.state.draining = True
        self.server.should_exit = True

    def stop(self):
        self.client.close()
        self.drain()
        self.thread.join(30)
        assert not self.thread.is_alive()

    def generate(self, prompt=(1, 2, 3), **body):
        body = {"prompt": prompt if isinstance(prompt, str) else list(prompt), "temperature": 0, **body}
        return self.client.post("/generate", json=body)

    def idle(self, seconds=10.0):
        """Wait until no request is open and every page is free or cached."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            m = self.engine.metrics
            if not self.engine._open and m.running == m.waiting == 0 and m.free_pages + m.cached_pages == m.pages:
                return True
            time.sleep(0.01)
        return False


@contextlib.contextmanager
def running(engine=None, settings=None, **options):
    server = Running(engine or fake_engine(**options), settings)
    try:
        yield server
    finally:
        server.stop()


def events(response):
    """The JSON values of a stream; the last event must be [DONE]."""
    values = [line[6:] for line in response.iter_lines() if line.startswith("data: ")]
    assert values[-1] == "[DONE]"
    return [json.loads(value) for value in values[:-1]]


def run(coroutine):
    return asyncio.run(coroutine)
