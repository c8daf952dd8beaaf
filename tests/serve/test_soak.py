"""Many users at once, some of whom leave and some of whom send nonsense: nobody gets another's answer, nothing leaks.

MILI_SOAK_REQUESTS=2000 runs the long form.
"""

import asyncio
import json
import os
import random
from pathlib import Path
from typing import Any, NamedTuple

import httpx

from mili.engine import EngineOptions
from mili.launch import Launch
from mili.sampling import SamplingParams
from tests.engine.fakes import expected
from tests.serve.servers import fake_engine, running

REQUESTS = int(os.environ.get("MILI_SOAK_REQUESTS", "200"))
AT_ONCE = 64


def resident_bytes():
    pages = int(Path("/proc/self/statm").read_text().split()[1]) if Path("/proc/self/statm").exists() else 0
    return pages * os.sysconf("SC_PAGE_SIZE")


class Case(NamedTuple):
    """A request, and the tokens that it gets when nobody else is there."""

    body: dict[str, Any]
    alone: list[int]


def fake_case(rng):
    prompt = [7] * rng.choice([0, 16, 40]) + rng.choices(range(1, 200), k=rng.randrange(1, 60))
    tokens = rng.randrange(1, 60)
    return Case({"prompt": prompt, "max_tokens": tokens, "temperature": 0}, expected(prompt, tokens))


def real_cases(engine, rng, count):
    """Requests for a real model, greedy and drawn, with prefixes in common; each is first run alone."""
    vocab = engine.model.config.vocab_size
    shared = rng.choices(range(vocab), k=40)
    cases = []
    for seed in range(count):
        prompt = shared[: rng.choice([0, 16, 40])] + rng.choices(range(vocab), k=rng.randrange(1, 40))
        chosen = {
            "max_tokens": rng.randrange(1, 50),
            "temperature": rng.choice([0, 0.8]),
            "top_k": 40,
            "top_p": 0.95,
            "seed": seed,
        }
        engine.clear_prefix_cache()
        alone = engine.generate([prompt], SamplingParams(**chosen, ignore_eos=True), progress=False)[0]
        cases.append(Case({"prompt": prompt, **chosen}, alone.outputs[0].token_ids))
    return cases


async def user(client, case, rng, counts):
    """One request: whole, cut off midway, or malformed."""
    body = {**case.body, "ignore_eos": True, "stream": True}
    fate = rng.random()
    if fate < 0.1:
        body[rng.choice(["temperature", "max_tokens", "prompt"])] = rng.choice([-1, [[]], {}])
    leave_after = rng.randrange(1, 20) if 0.1 <= fate < 0.35 else None
    got, done = [], False
    async with client.stream("POST", "/generate", json=body) as response:
        if fate < 0.1:
            assert response.status_code == 400
            counts["refused"] += 1
            return
        assert response.status_code == 200
        async for line in response.aiter_lines():
            if line == "data: [DONE]":
                done = True
            elif line.startswith("data: "):
                got += json.loads(line[6:]).get("ids", [])
                if leave_after is not None and len(got) >= leave_after:
                    break
    assert got == case.alone[: len(got)]
    if leave_after is None or not len(got) >= leave_after:
        assert done
        assert len(got) == len(case.alone)
        counts["finished"] += 1
    else:
        counts["left"] += 1


async def soak(url, cases, rng, counts):
    limit = asyncio.Semaphore(AT_ONCE)
    limits = httpx.Limits(max_connections=AT_ONCE)
    async with httpx.AsyncClient(base_url=url, timeout=120, limits=limits) as client:

        async def one(case):
            async with limit:
                await user(client, case, rng, counts)

        await asyncio.gather(*(one(case) for case in cases))


def check(engine, cases, rng):
    """Send the cases, a quarter of them to warm up; nothing may be lost, mixed up or left over, and memory stays."""
    counts = {"refused": 0, "left": 0, "finished": 0}
    with running(engine) as server:
        asyncio.run(soak(server.url, cases[: len(cases) // 4], rng, counts))
        assert server.idle()
        before = resident_bytes()
        asyncio.run(soak(server.url, cases[len(cases) // 4 :], rng, counts))
        assert server.idle(), "a request or a page is left over"
        grown = resident_bytes() - before
        metrics = engine.metrics
    print(counts, f"memory grew by {grown / 1e6:.1f} MB, {metrics.preemptions} preemptions")
    assert grown < 50e6, f"memory has grown by {grown / 1e6:.0f} MB"
    assert metrics.failed_steps == metrics.finished["error"] == 0
    assert metrics.preemptions > 0, "the pool should have been too small for all"
    assert sum(counts.values()) == len(cases)
    assert min(counts.values()) > len(cases) * 0.03


def test_soak():
    rng = random.Random(3)
    engine = fake_engine(pages=48, delay=0.001, max_running=24, max_queue=1000)
    check(engine, [fake_case(rng) for _ in range(REQUESTS)], rng)


def test_soak_of_a_real_model():
    rng = random.Random(4)
    options = EngineOptions(max_running=24, max_queue=1000, max_batch_tokens=256)
    engine = Launch(dtype="float32", num_pages=16, options=options).engine()
    cases = real_cases(engine, rng, 40)
    check(engine, rng.choices(cases, k=REQUESTS), rng)
