"""What the page at / costs: `python -m benchmarks.page [--model NAME ...]`.

A server is started, and the same requests are sent in rounds, by turns with nobody and with one page looking (a reader
of /events, as the page is). The engine's speed is its output tokens by the seconds of a round; pairs of neighbouring
rounds are compared, and so are rounds without a page among themselves, which says what the noise is.
"""

import argparse
import itertools
import json
import socket
import statistics
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import httpx

WAIT_SECONDS = 180


def free_port() -> int:
    """A port that nobody listens at."""
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        port: int = s.getsockname()[1]
        return port


class Page:
    """Reads /events in a thread, until closed; open, and its first picture read, once made."""

    def __init__(self, url: str) -> None:
        self.bytes = 0
        self._closing = threading.Event()
        self._open = threading.Event()
        self._thread = threading.Thread(target=self._read, args=(url,), daemon=True)
        self._thread.start()
        if not self._open.wait(WAIT_SECONDS):
            raise RuntimeError(f"{url}/events sent nothing for {WAIT_SECONDS} s")

    def _read(self, url: str) -> None:
        with httpx.stream("GET", f"{url}/events", timeout=30) as response:
            for part in response.iter_bytes():
                self.bytes += len(part)
                self._open.set()
                if self._closing.is_set():
                    return

    def close(self) -> None:
        self._closing.set()
        self._thread.join()


def wait_ready(url: str, server: subprocess.Popen[bytes]) -> None:
    """Until the model is loaded; raises RuntimeError if the server ends first or takes too long."""
    deadline = time.monotonic() + WAIT_SECONDS
    while time.monotonic() < deadline:
        if server.poll() is not None:
            raise RuntimeError(f"the server ended with code {server.returncode}; its messages are above")
        try:
            if httpx.get(f"{url}/health/ready", timeout=5).status_code == 200:
                return
        except httpx.TransportError:
            pass
        time.sleep(0.2)
    raise RuntimeError(f"the server was not ready after {WAIT_SECONDS} s")


def speed(url: str, requests: int, tokens: int) -> float:
    """Output tokens per second of `requests` sent at once."""
    body = {"temperature": 0, "max_tokens": tokens, "ignore_eos": True}

    def ask(number: int) -> int:
        prompt = [number + 1, *range(1, 32)]
        answer = httpx.post(f"{url}/generate", json={"prompt": prompt, **body}, timeout=WAIT_SECONDS)
        answer.raise_for_status()
        count: int = answer.json()["usage"]["completion_tokens"]
        return count

    start = time.perf_counter()
    with ThreadPoolExecutor(requests) as pool:
        count = sum(pool.map(ask, range(requests)))
    return count / (time.perf_counter() - start)


def compare(url: str, requests: int, tokens: int, rounds: int) -> dict[str, float]:
    """Rounds closed, open, closed, open, ...; medians and the median of the neighbours' ratios."""
    speed(url, requests, tokens)
    closed, opened, read = [speed(url, requests, tokens)], [], 0
    for _ in range(rounds):
        page = Page(url)
        opened.append(speed(url, requests, tokens))
        page.close()
        read += page.bytes
        closed.append(speed(url, requests, tokens))
    pairs = [2 * o / (a + b) for o, a, b in zip(opened, closed, closed[1:], strict=False)]
    noise = [abs(b / a - 1) for a, b in itertools.pairwise(closed)]
    return {
        "closed_tokens_per_s": round(statistics.median(closed), 1),
        "open_tokens_per_s": round(statistics.median(opened), 1),
        "open_to_closed": round(statistics.median(pairs), 4),
        "noise_between_closed_rounds": round(statistics.median(noise), 4),
        "page_bytes_per_round": round(read / rounds),
    }


def main() -> None:
    """Print the comparison, and as one line of JSON."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--requests", type=int, default=16, help="requests at once (default 16)")
    parser.add_argument("--tokens", type=int, default=600, help="output tokens of each (default 600)")
    parser.add_argument("--rounds", type=int, default=9, help="rounds with the page open (default 9)")
    options, rest = parser.parse_known_args()
    url = f"http://127.0.0.1:{(port := free_port())}"
    command = [sys.executable, "-m", "mili.serve", "--port", str(port), "--log-level", "warning", *rest]
    server = subprocess.Popen(command)
    try:
        wait_ready(url, server)
        result = compare(url, options.requests, options.tokens, options.rounds)
    finally:
        server.terminate()
        server.wait()
    print(f"page closed {result['closed_tokens_per_s']} tokens/s, open {result['open_tokens_per_s']} tokens/s")
    print(f"open to closed {result['open_to_closed']}, noise {result['noise_between_closed_rounds']}")
    print(json.dumps(result))


if __name__ == "__main__":
    main()
