"""The scheduler's promises, on random lives over a model that turns every page mistake into a wrong token."""

import random

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mili.errors import ConfigError, RequestError
from mili.kv_cache import STRATEGIES, KVCacheAllocator
from mili.radix_cache import POLICIES
from mili.scheduler import ContinuousBatchScheduler
from mili.waiting import QUEUE_POLICIES
from tests.engine.fakes import expected
from tests.engine.simulation import Simulation, random_prompt


def live(sim: Simulation, rng: random.Random, arrivals: int, longest: int = 60) -> None:
    """Random arrivals, cancellations and steps, then run out."""
    arrived = 0
    while arrived < arrivals:
        if rng.random() < 0.4:
            prompt = random_prompt(rng, sim.page_size, longest)
            room = min(sim.max_context, sim.num_pages * sim.page_size) - len(prompt)
            length, stop = rng.randrange(1, min(60, room) + 1), rng.choice([0, 0, 1, 2, 20])
            sim.add(prompt, length, rng.choice([0, 0, 0, -1, 1]), stop)
            arrived += 1
        if rng.random() < 0.05:
            sim.cancel(rng.choice(sim.requests)) if sim.requests else None
        sim.step()
    sim.run()


modes = pytest.mark.parametrize("ahead", [False, True], ids=["read first", "ahead"])


@modes
@pytest.mark.parametrize("seed", range(24))
def test_random_lives(seed, ahead):
    """Thousands of steps in all: tiny pools, every policy, shared prefixes, cancellations; checked after each step."""
    rng = random.Random(seed)
    sim = Simulation(
        num_pages=rng.choice([20, 30, 60, 200]),
        page_size=8,
        max_running=rng.choice([1, 3, 8]),
        max_batch_tokens=rng.choice([8, 17, 64, 300]),
        policy=QUEUE_POLICIES[seed % 2],
        eviction=POLICIES[seed % 4],
        strategy=STRATEGIES[seed % 3],
        caching=seed % 6 != 5,
        buckets=(1, 2, 4, 8) if seed % 5 == 0 else (),
        ahead=ahead,
    )
    live(sim, rng, 60)
    assert sim.steps > 60
    assert not ahead or sim.model.ahead > sim.steps // 3


@modes
def test_random_lives_reach_what_they_test(ahead):
    """The lives above preempt, hit and evict; otherwise they would prove nothing about it."""
    preempted = cached = evicted = 0
    for seed in range(6):
        sim = Simulation(num_pages=20, max_running=8, eviction="lru", ahead=ahead)
        live(sim, random.Random(seed), 40)
        preempted += sim.scheduler.preemptions
        cached += sum(request.cached_tokens for request in sim.requests)
        evicted += sim.tree.evicted_pages
    assert preempted > 20
    assert cached > 200
    assert evicted > 100


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    prompts=st.lists(st.tuples(st.integers(0, 2), st.integers(1, 50), st.integers(1, 30)), min_size=1, max_size=12),
    pages=st.integers(12, 40),
    budget=st.integers(4, 80),
    gaps=st.lists(st.integers(0, 4), min_size=12, max_size=12),
    stops=st.lists(st.integers(0, 9), min_size=12, max_size=12),
    ahead=st.booleans(),
)
def test_any_arrivals(prompts, pages, budget, gaps, stops, ahead):
    """Hypothesis looks for the smallest schedule that goes wrong."""
    sim = Simulation(num_pages=pages, max_running=4, max_batch_tokens=budget, ahead=ahead)
    for (family, length, count), gap, stop in zip(prompts, gaps, stops, strict=False):
        sim.add([family + 1] * (length // 2) + [5] * (length - length // 2), count, stop=stop)
        for _ in range(gap):
            sim.step()
    sim.run()


@pytest.mark.parametrize("length", [7, 8, 9, 15, 16, 17, 32])
def test_a_hit_is_a_miss_and_really_hits(length):
    prompt = list(range(1, length + 1))
    sim = Simulation(num_pages=40)
    first = sim.add(prompt, 5)
    sim.run()
    computed = sim.model.computed_tokens
    second = sim.add(prompt, 5)
    sim.run()
    hit = (length - 1) // 8 * 8
    assert first.cached_tokens == 0
    assert second.cached_tokens == hit
    assert sim.model.computed_tokens - computed == computed - hit
    assert second.output == first.output == expected(prompt, 5)


def test_a_second_turn_hits_the_first_turns_answer():
    sim = Simulation(num_pages=40)
    first = sim.add(range(1, 20), 20)
    sim.run()
    second = sim.add([*first.prompt, *first.output, 3, 4], 4)
    sim.run()
    assert second.cached_tokens == (19 + 20 - 1) // 8 * 8


def test_requests_that_come_together_share_their_prompt():
    sim = Simulation(num_pages=60, max_batch_tokens=200)
    group = [sim.add([*range(1, 41), 50 + i], 4) for i in range(4)]
    sim.step()
    assert len(sim.scheduler.running) == 4
    assert [request.cached_tokens for request in group] == [0, 40, 40, 40]
    sim.run()


def test_preempted_equals_uninterrupted_and_the_newest_goes_first():
    sim = Simulation(num_pages=9, max_batch_tokens=64, caching=False)
    old = sim.add(range(1, 9), 40)
    new = sim.add(range(20, 29), 40)
    sim.run()
    assert new.preemptions > 0
    assert old.preemptions == 0
    assert list(sim.finished) == [old, new]


def test_chunked_equals_whole():
    prompt = random.Random(3).choices(range(1, 64), k=150)
    outputs = []
    for budget in (8, 13, 64, 400):
        sim = Simulation(num_pages=40, max_batch_tokens=budget)
        outputs.append(sim.add(prompt, 6).output)
        sim.run()
        assert sim.steps == -(-150 // budget) + 5
    assert outputs == [expected(prompt, 6)] * 4


def test_decoding_goes_on_while_a_long_prompt_is_computed():
    sim = Simulation(num_pages=60, max_batch_tokens=16)
    short = sim.add([1, 2, 3], 40)
    sim.step()
    long = sim.add(random.Random(1).choices(range(1, 64), k=100), 3)
    for done in range(1, 6):
        sim.step()
        assert len(short.output) == done + 1
    assert long.output == []
    sim.run()


def test_cancel_frees_the_pages_at_once():
    sim = Simulation(num_pages=30, caching=False)
    request = sim.add(range(1, 50), 10)
    sim.step()
    assert sim.pool.free < 30
    sim.cancel(request)
    assert sim.pool.free == 30
    assert not sim.scheduler.cancel(request)
    waiting = sim.add([1], 1)
    sim.cancel(waiting)
    assert sim.scheduler.schedule() is None


def test_priority_goes_first_but_not_for_ever():
    sim = Simulation(num_pages=30, max_running=1)
    sim.scheduler.waiting.head_start = 20
    sim.add([1], 3)
    sim.step()
    low, high = sim.add([2], 1, priority=1), sim.add([3], 1)
    while low not in sim.order:
        sim.add([4], 1)
        sim.step()
    overtaken = sim.order.index(low)
    assert sim.order.index(high) < overtaken
    assert 20 <= overtaken <= 24, "a level of priority is worth head_start arrivals, and no more"
    sim.run()


def test_prefix_aware_prefers_hits_and_starves_nobody():
    sim = Simulation(num_pages=60, max_running=1, policy="prefix_aware")
    shared = list(range(1, 25))
    sim.add(shared, 2)
    sim.run()
    sim.add([9], 3)
    sim.step()
    stranger = sim.add([40] * 20, 1)
    friends = [sim.add([*shared, i], 1) for i in range(1, 40)]
    sim.run()
    order = [request for request in sim.order if request is stranger or request in friends]
    assert order[0] is friends[0]
    assert order.index(stranger) == sim.scheduler.waiting.window


def test_nobody_starves_under_pressure():
    """A stream of small requests over a full pool does not keep a large one out."""
    sim = Simulation(num_pages=20, max_running=4)
    for _ in range(6):
        sim.add([1, 2], 30)
    large = sim.add(random.Random(2).choices(range(1, 64), k=120), 8)
    for _ in range(400):
        if len(sim.scheduler.waiting) < 5:
            sim.add([1, 2], 30)
        sim.step()
        if large.output:
            break
    assert large.output
    sim.run()


def test_decode_batches_are_padded_to_buckets():
    sim = Simulation(num_pages=60, buckets=(4, 8))
    for i in range(3):
        sim.add([i + 1], 4)
    sim.step()
    step = sim.scheduler.schedule()
    batch = step.batch
    assert batch.tokens.shape == (4,)
    assert batch.page_table.shape == (4, 32)  # the longest context there can be: 256 tokens
    assert batch.slots[3] == -1
    assert batch.context_lengths.tolist() == [2, 2, 2, 0]
    assert batch.logit_rows.tolist() == [0, 1, 2, 3]
    assert len(step.sampled) == 3


def test_what_cannot_run_is_refused():
    sim = Simulation(num_pages=10)
    with pytest.raises(RequestError, match=r"70 \+ 20 = 90 tokens: at most 80"):
        sim.add([1] * 70, 20)
    with pytest.raises(RequestError, match="empty"):
        sim.add([], 20)
    sim.add([1] * 70, 10)
    sim.run()
    pool = KVCacheAllocator(4)
    for arguments, message in [
        ({"max_running": 0}, "max_running is 0"),
        ({"max_running": 4, "max_batch_tokens": 3}, "max_batch_tokens is 3"),
        ({"decode_buckets": (4, 2)}, "rising"),
        ({"policy": "random"}, "'random'"),
    ]:
        with pytest.raises(ConfigError, match=message):
            ContinuousBatchScheduler(pool, 8, **arguments)


def test_a_step_says_what_it_computes():
    sim = Simulation(num_pages=60, max_batch_tokens=20)
    sim.add([1, 2, 3], 5)
    sim.step()
    sim.add(np.arange(1, 31), 5)
    step = sim.scheduler.schedule()
    assert (step.decode_tokens, step.prefill_tokens) == (1, 19)
    assert len(step.sampled) == 1
    assert step.batch.logit_rows.tolist() == [0]
