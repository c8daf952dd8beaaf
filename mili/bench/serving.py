"""Serving benchmark: requests that arrive as a Poisson process, and what each of their users sees.

    ttft   time to first token, from the request's arrival
    itl    inter-token latency, every gap between two tokens
    tpot   time per output token of a request after its first
    e2e    end to end

Goodput counts only requests that meet the objectives for ttft and tpot. The engine runs in this process, or behind a
URL with OpenAI's completions API.
"""

import asyncio
import http.client
import json
import time
from collections.abc import Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

import numpy as np

from mili.bench.report import percentiles
from mili.engine import Engine
from mili.sampling import SamplingParams


@dataclass(frozen=True, slots=True)
class Workload:
    """`requests` prompts of random token ids; ranges are (least, most). The first `shared` tokens are common to all."""

    requests: int = 64
    prompt: tuple[int, int] = (100, 500)
    output: tuple[int, int] = (32, 128)
    shared: int = 0
    temperature: float = 0.0
    seed: int = 0

    def make(self, vocab_size: int) -> list[tuple[list[int], int]]:
        """(prompt, output tokens) of each request."""
        rng = np.random.default_rng(self.seed)
        common = rng.integers(0, vocab_size, self.shared).tolist()
        sizes = rng.integers(self.prompt[0], self.prompt[1] + 1, self.requests)
        counts = rng.integers(self.output[0], self.output[1] + 1, self.requests)
        return [(common + rng.integers(0, vocab_size, n).tolist(), int(m)) for n, m in zip(sizes, counts, strict=True)]

    def arrivals(self, rate: float | None) -> list[float]:
        """Arrival times in seconds: exponential gaps of mean 1 / rate; None: all at once."""
        if rate is None:
            return [0.0] * self.requests
        gaps = np.random.default_rng(self.seed + 1).exponential(1 / rate, self.requests)
        return [float(t) for t in np.cumsum(gaps) - gaps[0]]


@dataclass(slots=True)
class Record:
    """What one user saw: times in seconds of the arrival and of each token; `error` if it failed."""

    arrival: float
    prompt_tokens: int
    tokens: list[float] = field(default_factory=list)
    end: float = 0.0
    cached_tokens: int = 0
    error: str | None = None


MAX_USERS = 1024  # at a URL, at the same time

Client = Callable[[list[int], int, Record], Coroutine[Any, Any, None]]


def engine_client(engine: Engine, temperature: float) -> Client:
    """A user of an engine in this process."""

    async def ask(prompt: list[int], count: int, record: Record) -> None:
        handle = engine.submit(prompt, SamplingParams(temperature=temperature, max_tokens=count, ignore_eos=True))
        async for delta in handle:
            record.tokens += [time.perf_counter()] * len(delta.token_ids)
        record.error = handle.error
        record.cached_tokens = handle.usage.cached_tokens

    return ask


def http_client(url: str, model: str, temperature: float, api_key: str | None) -> Client:
    """A user of `POST /v1/completions` with streaming; prompts go as token ids, and each chunk counts as one token."""
    parts = urlsplit(url)
    # A thread for each user: asyncio's own pool is little larger than the number of cores; the rest would queue here.
    pool = ThreadPoolExecutor(MAX_USERS)
    kind = http.client.HTTPSConnection if parts.scheme == "https" else http.client.HTTPConnection

    def fetch(prompt: list[int], count: int, record: Record) -> None:
        body: dict[str, Any] = {"model": model, "prompt": prompt, "max_tokens": count, "stream": True}
        body |= {"temperature": temperature, "ignore_eos": True}
        headers = {"Content-Type": "application/json"} | ({"Authorization": f"Bearer {api_key}"} if api_key else {})
        connection = kind(parts.netloc, timeout=600)
        try:
            connection.request("POST", parts.path.rstrip("/") + "/v1/completions", json.dumps(body), headers)
            response = connection.getresponse()
            if response.status != 200:
                record.error = f"{response.status}: {response.read(200).decode(errors='replace')}"
                return
            for line in response:
                if line.startswith(b"data: {"):
                    choices = json.loads(line[6:]).get("choices") or [{}]
                    if choices[0].get("text"):
                        record.tokens.append(time.perf_counter())
        except (OSError, http.client.HTTPException) as error:
            record.error = f"{type(error).__name__}: {error}"
        finally:
            connection.close()

    async def ask(prompt: list[int], count: int, record: Record) -> None:
        await asyncio.get_running_loop().run_in_executor(pool, fetch, prompt, count, record)

    return ask


async def drive(client: Client, requests: list[tuple[list[int], int]], arrivals: list[float]) -> list[Record]:
    """Send each request at its time and wait for all."""
    start = time.perf_counter()

    async def user(prompt: list[int], count: int, at: float) -> Record:
        await asyncio.sleep(max(0.0, start + at - time.perf_counter()))
        record = Record(time.perf_counter(), len(prompt))
        await client(prompt, count, record)
        record.end = time.perf_counter()
        return record

    return await asyncio.gather(
        *(user(prompt, count, at) for (prompt, count), at in zip(requests, arrivals, strict=True))
    )


def summarise(
    records: list[Record], rate: float | None, ttft_goal: float, tpot_goal: float
) -> tuple[dict[str, Any], dict[str, list[float]]]:
    """The figures of a run, and the single measurements behind them (seconds). Goals in seconds."""
    good = [record for record in records if record.error is None and record.tokens]
    seconds = max(record.end for record in records) - min(record.arrival for record in records)
    ttft = [record.tokens[0] - record.arrival for record in good]
    tpot = [(r.tokens[-1] - r.tokens[0]) / (len(r.tokens) - 1) if len(r.tokens) > 1 else 0.0 for r in good]
    itl = [b - a for record in good for a, b in zip(record.tokens, record.tokens[1:], strict=False)]
    e2e = [record.end - record.arrival for record in good]
    met = sum(first <= ttft_goal and each <= tpot_goal for first, each in zip(ttft, tpot, strict=True))
    tokens = sum(len(record.tokens) for record in good)
    summary: dict[str, Any] = {
        "rate": rate,
        "requests": len(records),
        "failed": len(records) - len(good),
        "seconds": round(seconds, 4),
        "requests_per_second": round(len(good) / seconds, 3),
        "goodput_requests_per_second": round(met / seconds, 3),
        "output_tokens_per_second": round(tokens / seconds, 2),
        "prompt_tokens": sum(record.prompt_tokens for record in good),
        "cached_tokens": sum(record.cached_tokens for record in good),
        "output_tokens": tokens,
        "ttft_ms": percentiles(ttft),
        "itl_ms": percentiles(itl),
        "tpot_ms": percentiles(tpot),
        "e2e_ms": percentiles(e2e),
    }
    return summary, {"ttft": ttft, "itl": itl, "tpot": tpot, "e2e": e2e}
