"""Many users at once, some of whom leave and some of whom send nonsense: nobody gets another's answer, nothing leaks.

MILI_SOAK_REQUESTS=2000 runs the long form.
"""

import asyncio
import json
import os
import random
from pathlib import Path

import httpx

from tests.engine.fakes import expected
from tests.serve.servers import fake_engine, running

REQUESTS = int(os.environ.get("MILI_SOAK_REQUESTS", "200"))
AT_ONCE = 64


def resident_bytes():
    pages = int(Path("/proc/self/statm").read_text().split()[1]) if Path("/proc/self/statm").exists() else 0
    return pages * os.sysconf("SC_PAGE_SIZE")


async def user(client, rng, counts):
    """One request: whole, cut off midway, or malformed."""
    prompt = [7] * rng.choice([0, 16, 40]) + rng.choices(range(1, 200), k=rng.randrange(1, 60))
    tokens = rng.randrange(1, 60)
    body = {"prompt": prompt, "max_tokens": tokens, "temperature": 0, "ignore_eos": True, "stream": True}
    fate = rng.random()
    if fate < 0.1:
        body[rng.choice(["temperature", "max_tokens", "prompt"])] = rng.choice([-1, "x", None, [[]], {}])
    leave_after = rng.randrange(1, 20) if 0.1 <= fate < 0.35 else None
    got, done = [], False
    async with client.stream("POST", "/generate", json=body) as response:
        if response.status_code == 400:
            assert fate < 0.1
            counts["refused"] += 1
            return
        assert response.status_code == 200
        async for line in response.aiter_lines():
            if line == "data: [DONE]":
                done = True
            elif line.startswith("data: "):
                got += json.loads(line[6:]).get("ids", [])
                if leave_after is not None and len(got) >= leave_after:
                    counts["left"] += 1
                    break
    if isinstance(body["max_tokens"], int) and body["prompt"] == prompt and body["temperature"] == 0:
        assert got == expected(prompt, tokens)[: len(got)]
        if leave_after is None or len(got) < leave_after:
            assert done
            assert len(got) == tokens
            counts["finished"] += 1


async def soak(url, requests, rng, counts):
    limit = asyncio.Semaphore(AT_ONCE)
    limits = httpx.Limits(max_connections=AT_ONCE)
    async with httpx.AsyncClient(base_url=url, timeout=120, limits=limits) as client:

        async def one():
            async with limit:
                await user(client, rng, counts)

        await asyncio.gather(*(one() for _ in range(requests)))


def test_soak():
    rng = random.Random(3)
    counts = {"refused": 0, "left": 0, "finished": 0}
    with running(fake_engine(pages=120, max_running=24, max_queue=1000)) as server:
        asyncio.run(soak(server.url, REQUESTS // 4, rng, counts))
        assert server.idle()
        before = resident_bytes()
        asyncio.run(soak(server.url, REQUESTS - REQUESTS // 4, rng, counts))
        assert server.idle(), "a request or a page is left over"
        grown = resident_bytes() - before
        assert grown < 50e6, f"memory has grown by {grown / 1e6:.0f} MB"
        metrics = server.engine.metrics
        assert metrics.failed_steps == metrics.finished["error"] == 0
        assert metrics.preemptions > 0, "the pool should have been too small for all"
    print(counts, f"memory grew by {grown / 1e6:.1f} MB, {metrics.preemptions} preemptions")
    assert sum(counts.values()) >= REQUESTS * 0.9
    assert min(counts.values()) > REQUESTS * 0.03
