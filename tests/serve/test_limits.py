"""Limits: queue, body, time, keys, hosts; clients that go away; draining; loading."""

import socket
import threading
import time

import httpx
import pytest

from mili.errors import ConfigError
from mili.serve.__main__ import listen, parser, settings_from
from mili.serve.settings import LOOPBACK, ServerSettings
from tests.engine.fakes import expected
from tests.serve.servers import Running, events, fake_engine, running

LONG = {"prompt": [1, 2, 3], "max_tokens": 900, "temperature": 0, "ignore_eos": True}


def until(condition, seconds=20.0):
    """Wait for what another thread does: true as soon as the condition holds, false when time is up."""
    deadline = time.monotonic() + seconds
    while not (held := condition()) and time.monotonic() < deadline:
        time.sleep(0.01)
    return held


def refuses(url):
    """Whether a new connection to the server fails."""
    try:
        httpx.get(url + "/health", timeout=5)
    except httpx.HTTPError:
        return True
    return False


def start_stream(server, **body):
    """A raw connection with a stream that has begun, and its remaining lines."""
    connection = httpx.Client(base_url=server.url, timeout=30)
    response = connection.send(
        connection.build_request("POST", "/generate", json={**LONG, "stream": True, **body}), stream=True
    )
    lines = response.iter_lines()
    assert next(lines).startswith("data: ")
    return connection, response, lines


def test_a_client_that_leaves_a_stream_frees_its_pages():
    with running(delay=0.01) as server:
        connection, response, _lines = start_stream(server)
        assert until(lambda: server.engine.metrics.running == 1)
        response.close()
        connection.close()
        assert server.idle(8), "the request must end long before its 900 tokens"
        assert server.engine.metrics.finished["cancel"] == 1
        assert server.engine.metrics.generated_tokens < 300


def test_a_client_that_leaves_while_it_waits_for_an_answer_frees_its_pages():
    with running(delay=0.01) as server:
        with pytest.raises(httpx.ReadTimeout):
            httpx.post(server.url + "/generate", json=LONG, timeout=0.5)
        assert server.idle(8)
        assert server.engine.metrics.finished["cancel"] == 1


def test_a_full_queue_is_429_with_retry_after():
    engine = fake_engine(delay=0.01, max_running=1, max_queue=1)
    with running(engine) as server:
        connection, response, _lines = start_stream(server)
        thread = threading.Thread(target=lambda: server.generate(max_tokens=3, ignore_eos=True))
        thread.start()
        while not server.engine.metrics.waiting:
            time.sleep(0.01)
        refused = server.generate(max_tokens=3)
        assert refused.status_code == 429
        assert refused.json()["error"]["type"] == "rate_limit_error"
        assert 1 <= int(refused.headers["retry-after"]) <= 60
        response.close()
        connection.close()
        thread.join(30)
        assert server.idle()


def test_several_prompts_are_queued_together_or_not_at_all():
    engine = fake_engine(delay=0.02, max_running=1, max_queue=2)
    with running(engine) as server:
        connection, response, _lines = start_stream(server)
        refused = server.client.post("/v1/completions", json={"prompt": ["a", "b", "c", "d"], "max_tokens": 5})
        assert refused.status_code == 429
        response.close()
        connection.close()
        assert server.idle()
        assert server.engine.metrics.finished["length"] == 0


def test_bodies_that_are_too_large_or_too_slow():
    with running(settings=ServerSettings(max_body=1000, body_timeout=0.3)) as server:
        assert server.generate("a" * 2000).status_code == 413

        def pieces():
            for _ in range(20):
                yield b"a" * 100

        assert server.client.post("/generate", content=pieces()).status_code == 413
        host, port = server.socket.getsockname()
        with socket.create_connection((host, port)) as slow:
            slow.sendall(b"POST /generate HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100\r\n\r\n{")
            answer = slow.recv(4096)
        assert b" 408 " in answer.split(b"\r\n")[0]
        assert server.generate(max_tokens=2, ignore_eos=True).status_code == 200


def test_a_request_that_takes_too_long_ends():
    with running(fake_engine(delay=0.02), ServerSettings(request_timeout=0.3)) as server:
        answer = server.client.post("/generate", json=LONG)
        assert answer.status_code == 504
        with server.client.stream("POST", "/generate", json={**LONG, "stream": True}) as response:
            text = response.read().decode()
        assert "longer than 0.3 s" in text
        assert server.idle(8)
        assert server.engine.metrics.finished["cancel"] == 2


def test_the_api_key():
    with running(settings=ServerSettings(api_key="secret")) as server:
        assert server.client.get("/health").status_code == 200
        assert server.client.get("/").status_code == 200
        for headers in (
            {},
            {"Authorization": "Bearer wrong"},
            {"Authorization": "secret"},
            {"Authorization": "Bearer"},
        ):
            for path in ("/v1/models", "/status", "/metrics", "/events", "/openapi.json"):
                answer = server.client.get(path, headers=headers)
                assert answer.status_code == 401
                assert answer.json()["error"]["code"] == "invalid_api_key"
        assert server.client.get("/v1/models", headers={"Authorization": "Bearer secret"}).status_code == 200
        assert server.client.get("/v1/models", headers={"Authorization": "bearer secret"}).status_code == 200


def test_hosts_and_origins():
    with running(settings=ServerSettings(allowed_hosts=LOOPBACK)) as server:
        assert server.client.get("/health").status_code == 200
        assert server.client.get("/health", headers={"Host": "localhost:99"}).status_code == 200
        for host in ("evil.example", "localhost.evil.example", "[", ""):
            assert server.client.get("/health", headers={"Host": host}).status_code in (400, 403)
        answer = server.client.get("/health", headers={"Origin": "http://a.example"})
        assert "access-control-allow-origin" not in answer.headers
    with running(settings=ServerSettings(cors_origins=("http://a.example",))) as server:
        answer = server.client.get("/health", headers={"Origin": "http://a.example"})
        assert answer.headers["access-control-allow-origin"] == "http://a.example"
        answer = server.client.get("/health", headers={"Origin": "http://b.example"})
        assert "access-control-allow-origin" not in answer.headers


def test_draining_finishes_what_runs_and_takes_no_more():
    server = Running(fake_engine(delay=0.005))
    connection, _response, lines = start_stream(server, max_tokens=400)
    other = httpx.Client(base_url=server.url)
    assert other.get("/health").json()["ready"]
    server.drain()
    assert until(lambda: refuses(server.url))
    assert "data: [DONE]" in list(lines)
    connection.close()
    other.close()
    server.thread.join(10)
    assert not server.thread.is_alive()
    assert server.engine.metrics.finished["length"] == 1
    assert not server.engine._thread.running


def test_while_the_model_loads():
    server = Running(None)
    try:
        assert server.client.get("/health").json() == {"live": True, "ready": False, "status": "loading"}
        assert server.client.get("/health/ready").status_code == 503
        answer = server.client.post("/v1/completions", json={"prompt": "a"})
        assert answer.status_code == 503
        assert answer.json()["error"]["code"] == "loading"
        assert int(answer.headers["retry-after"]) > 0
        assert server.client.get("/status").json()["engine"] is None
        assert server.client.get("/metrics").status_code == 200
        with server.client.stream("GET", "/events") as response:
            assert next(response.iter_lines()) == "event: waiting"
        engine = fake_engine()
        server.state.load(lambda: engine, lambda: None, lambda: None).join()
        assert server.client.get("/health/ready").status_code == 200
        assert server.generate(max_tokens=3, ignore_eos=True).json()["ids"] == expected([1, 2, 3], 3)
    finally:
        server.stop()


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_an_engine_that_fails_altogether_is_not_live():
    with running() as server:
        server.engine._core.scheduler.schedule = None  # a bug of the engine itself
        assert server.generate().status_code == 500
        for _ in range(100):
            if server.client.get("/health").status_code == 503:
                break
            time.sleep(0.01)
        assert server.client.get("/health/live").status_code == 503


def test_watchers_get_pictures_and_leave_no_trace():
    with running(delay=0.005) as server:
        assert server.engine._core.feeds == []
        with server.client.stream("GET", "/events") as response:
            thread = threading.Thread(target=lambda: server.generate(max_tokens=150, ignore_eos=True))
            thread.start()
            seen = set()
            for line in response.iter_lines():
                seen.add(line)
                if {"event: step", "event: picture"} <= seen:
                    assert len(server.engine._core.feeds) == 1  # here: ending the loop may close the stream
                    break
            assert {"event: step", "event: picture"} <= seen
        thread.join()
        assert until(lambda: not (server.state.watchers or server.engine._core.feeds))
        assert server.state.watchers == 0
        assert server.engine._core.feeds == []


def test_many_streams_at_once_are_not_mixed_up(server):
    results = {}

    def ask(i):
        body = {**LONG, "prompt": [i + 1, 7], "max_tokens": 40, "stream": True}
        with httpx.stream("POST", server.url + "/generate", json=body, timeout=60) as response:
            results[i] = [token for event in events(response) for token in event.get("ids", [])]

    threads = [threading.Thread(target=ask, args=(i,)) for i in range(32)]
    [thread.start() for thread in threads]
    [thread.join() for thread in threads]
    assert results == {i: expected([i + 1, 7], 40) for i in range(32)}


def test_a_port_that_is_taken_is_one_sentence(server):
    port = server.socket.getsockname()[1]
    with pytest.raises(ConfigError, match=f"cannot listen at 127.0.0.1:{port}"):
        listen("127.0.0.1", port)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--port", "70000"], "--port is 70000"),
        (["--max-body", "0"], "--max-body is 0"),
        (["--request-timeout", "nan"], "--request-timeout is nan"),
        (["--max-queue", "-1"], "--max-queue is -1"),
        (["--api-key", " "], "the API key is empty"),
    ],
)
def test_settings_that_make_no_sense(arguments, message):
    with pytest.raises(ConfigError, match=message):
        settings_from(parser().parse_args(arguments))


def test_settings_by_default(monkeypatch):
    monkeypatch.setenv("MILI_API_KEY", "k")
    settings = settings_from(parser().parse_args([]))
    assert (settings.host, settings.port, settings.cors_origins, settings.api_key) == ("127.0.0.1", 8000, (), "k")
    assert settings.allowed_hosts == LOOPBACK
    assert settings_from(parser().parse_args(["--host", "0.0.0.0"])).allowed_hosts == ()


def test_answers_do_not_wait_for_acknowledgements() -> None:
    """asyncio sets TCP_NODELAY only where the socket names its protocol; without it each answer takes 40 ms more."""
    with listen("127.0.0.1", 0) as bound:
        assert bound.proto == socket.IPPROTO_TCP
