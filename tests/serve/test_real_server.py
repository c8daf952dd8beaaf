"""`python -m mili.serve` as a process: over the fake model for its life, over a small random one for its answers."""

import contextlib
import json
import re
import signal
import subprocess
import sys
import time

import httpx

from mili.generate import main as generate
from tests.engine.fakes import expected

# As in tests/engine, so that one compiled graph serves all.
TINY = ["--random-weights", "--model-shape", "tiny", "--device", "cpu", "--dtype", "float32", "--max-context", "256"]


FAKE = """
from mili.console import run
from mili.launch import Launch
from mili.serve.__main__ import main
from tests.serve.servers import fake_engine
Launch.engine = lambda self: fake_engine(delay=0.005)
run(lambda: main(["--model", "fake", "--port", "0"]))
"""


@contextlib.contextmanager
def process(*command):
    """A process and the address it says it listens at."""
    started = subprocess.Popen([sys.executable, *command], stderr=subprocess.PIPE, text=True)
    try:
        line = started.stderr.readline()
        found = re.match(r"MILI at (http://127\.0\.0\.1:\d+) \(loading \w+\)", line)
        assert found, line
        yield started, found[1]
    finally:
        if started.poll() is None:
            started.kill()
        started.communicate()


def wait_until_ready(client, seconds=240):
    deadline = time.monotonic() + seconds
    while not client.get("/health").json()["ready"]:
        assert time.monotonic() < deadline
        time.sleep(0.1)


def test_a_server_from_start_to_end():
    with process("-c", FAKE) as (server, url), httpx.Client(base_url=url, timeout=60) as client:
        wait_until_ready(client)
        body = {"prompt": [1, 2, 3], "max_tokens": 12, "temperature": 0, "ignore_eos": True}
        ids = client.post("/generate?secret=1", json=body, headers={"X-Request-Id": "first"}).json()["ids"]
        assert ids == expected([1, 2, 3], 12)
        with client.stream("POST", "/generate", json={**body, "max_tokens": 200, "stream": True}) as response:
            lines = response.iter_lines()
            next(lines)
            server.send_signal(signal.SIGTERM)
            assert "data: [DONE]" in list(lines), "what runs is finished"
        _, err = server.communicate(timeout=30)
        assert server.returncode == 0
    assert "secret" not in err
    records = [json.loads(line) for line in err.splitlines() if line.startswith("{")]
    first = next(record for record in records if record.get("request_id") == "first")
    assert (first["path"], first["status"], first["completion_tokens"]) == ("/generate", 200, 12)
    assert "draining" in [record["message"] for record in records]


def test_the_server_and_the_command_line_give_the_same_tokens(capsys):
    arguments = ["--prompt-ids", "1,2,3", "--max-tokens", "12", "--ignore-eos", "--json"]
    assert generate([*TINY, *arguments]) == 0
    ids = json.loads(capsys.readouterr().out.splitlines()[-1])["ids"]
    options = [*TINY, "--port", "0", "--num-pages", "200", "--max-running", "8"]
    with process("-m", "mili.serve", *options) as (_, url), httpx.Client(base_url=url, timeout=60) as client:
        assert client.get("/health").json()["live"]
        wait_until_ready(client)
        body = {"prompt": [1, 2, 3], "max_tokens": 12, "temperature": 0, "ignore_eos": True}
        assert client.post("/generate", json=body).json()["ids"] == ids
        assert "no tokenizer" in client.post("/generate", json={"prompt": "text"}).json()["error"]["message"]


def test_a_model_that_cannot_be_loaded_ends_the_server():
    command = [sys.executable, "-m", "mili.serve", "--model", "no such model", "--port", "0"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode == 1
    assert "error: 'no such model' is no folder" in done.stderr
    assert "Traceback" not in done.stderr


def test_sigterm_while_loading_ends_at_once():
    slow = FAKE.replace("lambda self: fake_engine(delay=0.005)", "lambda self: __import__('time').sleep(60)")
    with process("-c", slow) as (server, url):
        assert httpx.get(url + "/health").json()["status"] == "loading"
        server.send_signal(signal.SIGTERM)
        assert server.wait(20) == 0
