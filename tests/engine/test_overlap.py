"""The next step launched before the tokens of this one are read: the same answers, every page accounted for."""

import random

import pytest

from mili.engine import Engine, EngineOptions
from mili.sampling import Grammar, SamplingParams
from tests.engine.fakes import AheadModel, FakeCache, expected, fake_tokenizer
from tests.engine.radix_oracle import check_tree

GREEDY = SamplingParams(temperature=0, max_tokens=30, ignore_eos=True)


def make(num_pages=60, **options):
    cache = FakeCache(num_pages, 8)
    model = AheadModel(cache)
    model.samples_on_device = True
    return Engine(model, fake_tokenizer(), cache, EngineOptions(**{"max_running": 6, "max_batch_tokens": 40} | options))


def check_idle(engine):
    """Nobody runs: every page is free or in the prefix cache, and nobody has locked it."""
    core, scheduler = engine._core, engine._scheduler
    assert core._flight is None
    assert not scheduler.running
    assert not core.sampler._states
    check_tree(scheduler.tree)
    assert scheduler.allocator.free + scheduler.tree.pages == core.cache.num_pages


ON_DEVICE = (
    {"temperature": 0},
    {"temperature": 1.0, "top_p": 0.9},
    {"temperature": 2.0, "top_k": 40, "min_p": 0.01},
    {"temperature": 0, "stop_token_ids": list(range(1, 30))},
    {"temperature": 0, "stop": ["a", "e"]},
)
ON_HOST = (
    {"repetition_penalty": 1.2, "frequency_penalty": 0.3},
    {"logprobs": 2},
    {"min_tokens": 3},
    {"logit_bias": {5: 4.0}},
    {"grammar": Grammar("regex", "[a-d]{2,9}"), "ignore_eos": False},
)


def some_params(rng):
    """Values of every kind: mostly what the device draws, now and then what needs the host, and every way to end."""
    base = {"max_tokens": rng.randrange(3, 50), "ignore_eos": rng.random() < 0.5, "seed": rng.randrange(100)}
    return SamplingParams(**base | rng.choice(ON_HOST if rng.random() < 0.1 else ON_DEVICE))


def life(engine, seed, cancels):
    """Requests that come over time, some cancelled after a number of tokens; answers with reasons and more."""
    rng, fate = random.Random(seed), random.Random(seed)
    handles = []
    for _ in range(30):
        shared = [rng.randrange(1, 4)] * rng.choice([0, 8, 16, 21])
        handles.append(engine.submit(shared + rng.choices(range(1, 64), k=rng.randrange(1, 40)), some_params(rng)))
        for _ in range(rng.randrange(4)):
            engine.step()
        if cancels and fate.random() < 0.3:
            engine.cancel(fate.choice(handles))
    while engine.step():
        pass
    check_idle(engine)
    return [(o.token_ids, o.text, o.finish_reason, o.logprobs) for h in handles for o in h.result().outputs]


@pytest.mark.parametrize("seed", range(12))
def test_answers_are_those_without_overlap(seed):
    options = {"num_pages": 24 if seed % 3 == 0 else 60, "decode_buckets": (2, 4, 6) if seed % 2 else ()}
    overlapped, plain = make(**options), make(**options, overlap=False)
    assert life(overlapped, seed, cancels=False) == life(plain, seed, cancels=False)
    assert overlapped._core.model.ahead > 10
    assert plain._core.model.ahead == 0


@pytest.mark.parametrize("seed", range(6))
def test_cancelled_requests_leave_the_others_alone(seed):
    """When a request is cancelled depends on the order of steps; what it has until then does not."""
    cancelled = 0
    plain = life(make(overlap=False), seed, cancels=False)
    for (tokens, _, reason, _), (whole, _, _, _) in zip(life(make(), seed, cancels=True), plain, strict=True):
        if reason == "cancel":
            cancelled += 1
            assert tokens == whole[: len(tokens)]
        else:
            assert tokens == whole
    assert cancelled


def test_the_next_step_is_launched_before_tokens_are_read():
    engine = make()
    handle = engine.submit([1, 2, 3], GREEDY)
    engine.step()
    assert engine.model.steps == 2
    assert len(handle.outputs[0].request.output) == 1
    assert handle.result().outputs[0].token_ids == expected([1, 2, 3], 30)
    assert engine.model.steps == 30, "its length is known beforehand: no step in excess"
    assert engine.model.ahead == 29


def test_a_token_after_the_end_is_dropped():
    engine = make()
    tokens = expected([1, 2, 3], 30)
    end = next(i for i in range(5, 30) if tokens[i] not in tokens[:i])
    params = SamplingParams(temperature=0, max_tokens=30, ignore_eos=True, stop_token_ids=[tokens[end]])
    output = engine.submit([1, 2, 3], params).result()
    assert output.outputs[0].token_ids == tokens[: end + 1]
    assert engine.model.steps == end + 2
    assert engine.metrics.generated_tokens == end + 1
    check_idle(engine)


def test_pages_of_an_ended_request_are_free_while_its_last_step_runs():
    """The device takes steps in order, so whoever gets the pages writes them later."""
    engine = make(num_pages=8, prefix_caching=False)
    first, second = engine.submit([1] * 30, GREEDY), engine.submit([2] * 30, GREEDY)
    for _ in range(6):
        engine.step()
    assert engine._core._flight is not None
    assert engine.metrics.waiting == 1
    engine.cancel(first)
    engine._thread.run_posted()
    assert engine._scheduler.allocator.free == 8
    engine.step()
    assert [len(h.outputs[0].request.output) for h in (first, second)] == [6, 0]
    assert second.result().outputs[0].token_ids == expected([2] * 30, 30)
    assert first.result().outputs[0].finish_reason == "cancel"
    assert engine._scheduler.allocator.free == 8


@pytest.mark.parametrize("params", ON_HOST, ids=lambda params: next(iter(params)))
def test_who_needs_the_host_is_waited_for(params):
    engine = make()
    base = {"temperature": 0.5, "ignore_eos": True, "max_tokens": 10}
    needy = engine.submit([1, 2, 3], SamplingParams(**base | params))
    other = engine.submit([4, 5], GREEDY)
    while not needy.done:
        engine.step()
        assert engine.model.ahead == 0
    assert other.result().outputs[0].token_ids == expected([4, 5], 30)
    assert engine.model.ahead > 10


@pytest.mark.parametrize("where", ["launch", "device"])
@pytest.mark.parametrize("step", [1, 2, 3, 4])
def test_a_failed_step_takes_those_behind_it_along(step, where):
    engine = make()
    if where == "launch":
        engine.model.fail_at = step
    else:
        engine.model.break_at = step
    handles = [engine.submit([i, 2, 3], GREEDY) for i in (1, 2)]
    while engine.step():
        pass
    for i, handle in zip((1, 2), handles, strict=True):
        output = handle.result()
        assert output.outputs[0].finish_reason == "error"
        assert "caught fire" in output.error
        assert output.outputs[0].token_ids == expected([i, 2, 3], step - 1)
    assert engine.metrics.failed_steps == 1
    check_idle(engine)
    assert engine._scheduler.allocator.free == engine._core.cache.num_pages
    again = engine.submit([1, 2, 3], GREEDY).result()
    assert again.outputs[0].token_ids == expected([1, 2, 3], 30)
