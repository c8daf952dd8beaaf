"""The engine over the fake model: outputs as alone, streams, ends, errors, threads, metrics, feeds."""

import asyncio
import itertools
import random
import sys
import threading
import time

import pytest

from mili.engine import Engine, EngineOptions
from mili.errors import ConfigError, EngineStoppedError, QueueFullError, RequestError
from mili.sampling import SamplingParams
from tests.engine.fakes import AheadModel, FakeCache, FakeModel, expected, fake_tokenizer
from tests.engine.radix_oracle import check_tree

Model = FakeModel  # what `make` builds


@pytest.fixture(autouse=True, params=[FakeModel, AheadModel], ids=["read first", "ahead"])
def kind(request, monkeypatch):
    """Every test runs with a model whose tokens are read before the next step, and with one that is given it before."""
    monkeypatch.setattr(sys.modules[__name__], "Model", request.param)


def greedy(max_tokens=8, **options):
    return SamplingParams(temperature=0, max_tokens=max_tokens, ignore_eos=True, **options)


def make(num_pages=200, model=None, **options):
    cache = FakeCache(num_pages, 8)
    model = model or Model(cache)
    options = {"max_running": 16, "max_batch_tokens": 128} | options
    return Engine(model, fake_tokenizer(), cache, EngineOptions(**options))


def check_idle(engine):
    scheduler = engine._scheduler
    assert not scheduler.running
    assert not len(scheduler.waiting)
    cached = scheduler.tree.pages if scheduler.tree else 0
    assert scheduler.allocator.free + cached == scheduler.allocator.num_pages
    if scheduler.tree:
        check_tree(scheduler.tree)
    assert not engine._open
    assert not engine._core.sampler._states


def test_generate_texts_and_ids():
    engine = make()
    prompts = ["hello there", [5, 6, 7], "the king"]
    outputs = engine.generate(prompts, greedy(12), progress=False)
    for prompt, output in zip(prompts, outputs, strict=True):
        ids = engine.tokenizer.encode(prompt) if isinstance(prompt, str) else prompt
        assert output.prompt_ids == ids
        answer = output.outputs[0]
        assert answer.token_ids == expected(ids, 12)
        assert answer.text == engine.tokenizer.decode(answer.token_ids)
        assert answer.finish_reason == "length"
        assert (output.usage.prompt_tokens, output.usage.completion_tokens) == (len(ids), 12)
        assert 0 <= output.queue_time <= output.first_token_time <= output.total_time
    check_idle(engine)


def test_one_prompt_of_ids_is_one_prompt():
    engine = make()
    assert len(engine.generate([1, 2, 3], greedy(2), progress=False)) == 1
    assert len(engine.generate("abc", greedy(2), progress=False)) == 1
    assert engine.generate([], greedy(2), progress=False) == []


def test_progress_bar_counts(capsys):
    make().generate(["a", "b"], greedy(3))
    assert "2/2" in capsys.readouterr().err


def test_a_stream_without_a_thread_runs_the_steps():
    engine = make()
    handle = engine.submit([1, 2, 3], greedy(6))
    deltas = list(handle.stream())
    assert [t for d in deltas for t in d.token_ids] == expected([1, 2, 3], 6)
    assert [d.finish_reason for d in deltas] == [None] * 5 + ["length"]


def test_many_threads_stream_what_each_gets_alone():
    rng = random.Random(0)
    jobs = [(rng.choices(range(1, 64), k=rng.randrange(1, 90)), rng.randrange(1, 40)) for _ in range(60)]
    results = {}

    def reader(i):
        handle = engine.submit(jobs[i][0], greedy(jobs[i][1]))
        text = "".join(delta.text for delta in handle.stream(timeout=60))
        results[i] = (handle.snapshot(), text)

    with make(num_pages=60, max_running=8) as engine:
        threads = [threading.Thread(target=reader, args=(i,)) for i in range(len(jobs))]
        [t.start() for t in threads]
        [t.join() for t in threads]
    for i, (prompt, count) in enumerate(jobs):
        output, text = results[i]
        assert output.outputs[0].token_ids == expected(prompt, count)
        assert text == output.text == engine.tokenizer.decode(output.outputs[0].token_ids)
    assert engine.metrics.finished["length"] == 60
    check_idle(engine)


def test_coroutines_stream():
    async def one(engine, i):
        handle = engine.submit([i + 1, 7, 8], greedy(20))
        tokens = []
        async for delta in handle:
            tokens += delta.token_ids
        return tokens

    async def main(engine):
        return await asyncio.gather(*(one(engine, i) for i in range(40)))

    with make() as engine:
        results = asyncio.run(main(engine))
    assert results == [expected([i + 1, 7, 8], 20) for i in range(40)]
    check_idle(engine)


def test_cancel_ends_the_stream_and_frees_pages():
    with make() as engine:
        handle = engine.submit([1, 2, 3], greedy(900))
        stream = handle.stream(timeout=10)
        first = next(stream)
        assert first.token_ids
        handle.cancel()
        reasons = [delta.finish_reason for delta in stream]
        assert reasons[-1] == "cancel"
        handle.cancel()
        engine.cancel("no such request")
        deadline = time.time() + 10
        while engine._open and time.time() < deadline:
            time.sleep(0.01)
        got = handle.snapshot().outputs[0].token_ids
        assert got == expected([1, 2, 3], len(got))
    assert engine.metrics.finished["cancel"] == 1
    check_idle(engine)


def test_random_cancellations_lose_nothing():
    rng = random.Random(4)
    with make(num_pages=50, max_running=6) as engine:
        handles = []
        for _ in range(120):
            prompt = rng.choices(range(1, 64), k=rng.randrange(1, 60))
            handles.append((prompt, engine.submit(prompt, greedy(rng.randrange(1, 60)))))
            if rng.random() < 0.3:
                rng.choice(handles)[1].cancel()
        for prompt, handle in handles:
            output = handle.result(timeout=60)
            got = output.outputs[0].token_ids
            assert got == expected(prompt, len(got))
            assert output.outputs[0].finish_reason in ("cancel", "length")
    check_idle(engine)


def test_the_end_token_ends_the_text():
    engine = make()
    seed = next(i for i in range(1, 200) if 0 in expected([i], 60)[5:])
    tokens = expected([seed], 60, eos=0)
    output = engine.generate([seed], SamplingParams(temperature=0, max_tokens=60), progress=False)[0]
    assert output.outputs[0].token_ids == tokens
    assert output.outputs[0].finish_reason == "stop"
    assert output.text == engine.tokenizer.decode(tokens[:-1])
    engine.generate([seed], greedy(60), progress=False)  # ignore_eos: to the end
    assert engine.metrics.finished == {"stop": 1, "length": 1, "cancel": 0, "error": 0}


def scripted(text, **options):
    engine = make()
    engine.model.script[200] = [*engine.tokenizer.encode(text), 0]
    params = SamplingParams(temperature=0, max_tokens=200, **options)
    handle = engine.submit([200], params)
    deltas = list(handle.stream())
    return handle.snapshot().outputs[0], deltas, engine


@pytest.mark.parametrize(
    ("stop", "text"),
    [
        (("end",), "one two "),
        (("two en",), "one "),
        (("zzz", "o e"), "one tw"),
        (("xyz",), "one two end three"),
        (("endless", "three!"), "one two end three"),
        (("e",), "on"),
    ],
)
def test_stop_strings_end_the_text_and_are_never_leaked(stop, text):
    answer, deltas, engine = scripted("one two end three", stop=stop)
    assert answer.text == text == "".join(delta.text for delta in deltas)
    assert answer.finish_reason == "stop"
    shown = ""
    for delta in deltas:
        shown += delta.text
        assert text.startswith(shown)
    check_idle(engine)


def test_include_stop_keeps_it_and_min_tokens_skips_early_ones():
    assert scripted("one two end three", stop=("two",), include_stop=True)[0].text == "one two"
    assert scripted("one two one three", stop=("one",), min_tokens=4)[0].text == "one two "


def test_min_tokens_keeps_end_tokens_away():
    answer, _, engine = scripted("ab", min_tokens=9)
    assert len(answer.token_ids) >= 9
    assert 0 not in answer.token_ids[:9]
    check_idle(engine)


def test_stop_token_ids():
    engine = make()
    tokens = expected([5], 30)
    output = engine.generate([5], greedy(30, stop_token_ids=(tokens[4],)), progress=False)[0]
    cut = tokens.index(tokens[4]) + 1
    assert output.outputs[0].token_ids == tokens[:cut]
    assert output.outputs[0].finish_reason == "stop"
    assert output.text == engine.tokenizer.decode(tokens[: cut - 1])


def test_no_logits_are_fetched_for_greedy_and_they_are_for_sampling():
    engine = make()
    fetched = []
    forward = engine.model.forward

    def watched(batch, cache):
        output = forward(batch, cache)
        fetched.append(output)
        return output

    engine.model.forward = watched
    engine.generate([[1, 2], [3]], greedy(5), progress=False)
    assert not any(output.fetched for output in fetched)
    engine.generate([1, 2], SamplingParams(max_tokens=2), progress=False)
    assert fetched[-1].fetched


def test_n_answers_share_the_prompt_and_have_their_own_seeds():
    engine = make()
    params = SamplingParams(temperature=5.0, max_tokens=6, n=3, seed=7, ignore_eos=True)
    output = engine.generate([list(range(1, 34))], params, progress=False)[0]
    assert [answer.index for answer in output.outputs] == [0, 1, 2]
    assert len({tuple(answer.token_ids) for answer in output.outputs}) == 3
    assert engine.model.computed_tokens < 33 + 3 * 10
    for i, answer in enumerate(output.outputs):
        alone = SamplingParams(temperature=5.0, max_tokens=6, seed=7 + i, ignore_eos=True)
        again = engine.generate([list(range(1, 34))], alone, progress=False)[0]
        assert again.outputs[0].token_ids == answer.token_ids
    assert output.usage.completion_tokens == 18
    check_idle(engine)


def test_a_failed_step_ends_its_requests_and_the_engine_goes_on():
    engine = make()
    engine.generate([list(range(1, 40))], greedy(2), progress=False)
    engine.model.fail_at = engine.model.steps + 3
    with pytest.raises(RuntimeError, match="the device has caught fire"):
        engine.generate([[1, 2, 3], [4, 5, 6]], greedy(20), progress=False)
    assert engine.metrics.failed_steps == 1
    assert engine.metrics.finished["error"] == 2
    check_idle(engine)
    output = engine.generate([list(range(1, 40))], greedy(2), progress=False)[0]
    assert output.usage.cached_tokens == 0, "pages of a failed step must not be trusted"
    assert output.outputs[0].token_ids == expected(range(1, 40), 2)
    check_idle(engine)


def test_logits_that_are_no_numbers_end_one_request_alone():
    engine = make()
    engine.model.poison = 99
    bad = engine.submit([1, 99], SamplingParams(max_tokens=5))
    good = engine.submit([1, 2], SamplingParams(max_tokens=5, ignore_eos=True, logit_bias={99: -100}))
    assert good.result().outputs[0].finish_reason == "length"
    output = bad.result()
    assert output.outputs[0].finish_reason == "error"
    assert "not numbers" in output.error
    assert output.outputs[0].token_ids == []
    check_idle(engine)


def test_a_bug_in_the_engine_leaves_nobody_waiting(monkeypatch):
    monkeypatch.setattr(threading, "excepthook", lambda args: None)
    with make() as engine:
        handles = [engine.submit([i], greedy(900)) for i in (1, 2)]
        next(handles[0].stream(timeout=10))
        engine._scheduler.schedule = lambda ahead: 1 / 0
        for handle in handles:
            output = handle.result(timeout=10)
            assert output.outputs[0].finish_reason == "error"
            assert "division by zero" in output.error
        assert isinstance(engine.failure, ZeroDivisionError)
        with pytest.raises(EngineStoppedError):
            engine.submit([1])


def test_what_cannot_be_served_is_refused_at_once():
    engine = make()
    for prompt, params, message in [
        ("", None, "empty"),
        ([], None, "empty"),
        ([1, 999], None, "token id 999"),
        ([1, -1], None, "token id -1"),
        ([1, "x"], None, "token id 'x'"),
        ([1] * 1024, None, "has 1024 tokens"),
        ([1] * 1000, greedy(100), "1000 \\+ 100"),
        ([1], SamplingParams(logit_bias={5000: 1}), "logit_bias has the token id 5000"),
        ([1], SamplingParams(stop_token_ids=(272,)), "stop_token_ids has the token id 272"),
    ]:
        with pytest.raises(RequestError, match=message):
            engine.submit(prompt, params)
    with pytest.raises(RequestError, match="2 sampling params for 1"):
        engine.generate("x", [greedy(), greedy()], progress=False)
    engine.submit([1], greedy(), request_id="a")
    with pytest.raises(RequestError, match="'a' is in use"):
        engine.submit([1], greedy(), request_id="a")
    with pytest.raises(ConfigError, match="max_context is 5000"):
        make(max_context=5000)


def test_text_needs_a_tokenizer():
    cache = FakeCache(20, 8)
    engine = Engine(Model(cache), None, cache)
    with pytest.raises(RequestError, match="give token ids"):
        engine.submit("hello")
    with pytest.raises(RequestError, match="stop strings need a tokenizer"):
        engine.submit([1], SamplingParams(stop=("x",)))
    output = engine.generate([1], greedy(4), progress=False)[0]
    assert output.outputs[0].token_ids == expected([1], 4)
    assert output.text == ""


def test_max_queue():
    engine = make(max_queue=3, max_running=1)
    for _ in range(3):
        engine.submit([1], greedy())
    with pytest.raises(QueueFullError, match="max_queue is 3"):
        engine.submit([1], greedy())
    engine.step()
    engine.submit([1], greedy())
    assert engine.drain()
    check_idle(engine)


def test_drain_finishes_what_is_open_and_takes_no_more():
    with make() as engine:
        handles = [engine.submit([i + 1], greedy(50)) for i in range(5)]
        assert engine.drain(timeout=30)
        assert not engine.accepting
        assert all(handle.done for handle in handles)
        assert handles[3].result().outputs[0].token_ids == expected([4], 50)
        with pytest.raises(EngineStoppedError):
            engine.submit([1])
    check_idle(engine)


def test_stop_cancels_what_is_open():
    engine = make().start()
    handle = engine.submit([1], greedy(900))
    next(handle.stream(timeout=10))
    engine.stop()
    assert handle.result(timeout=1).outputs[0].finish_reason == "cancel"
    check_idle(engine)


def test_the_default_of_max_tokens_fills_the_context():
    engine = make(max_context=40)
    output = engine.generate([1, 2, 3], SamplingParams(temperature=0, ignore_eos=True), progress=False)[0]
    assert output.usage.completion_tokens == 37


def test_metrics():
    engine = make()
    engine.generate([list(range(1, 20)), list(range(1, 20))], greedy(5), progress=False)
    m = engine.metrics
    assert (m.prompt_tokens, m.cached_tokens, m.generated_tokens) == (38, 16, 10)
    assert m.first_token_seconds.count == m.queue_seconds.count == m.request_seconds.count == 2
    assert m.inter_token_seconds.count == 8
    assert m.steps == m.step_seconds.count == 5
    assert m.step_tokens.sum == engine.model.computed_tokens
    assert (m.running, m.waiting) == (0, 0)
    assert m.free_pages + m.cached_pages == m.pages == 200
    bounds = m.step_tokens.cumulative()
    assert bounds[-1] == (float("inf"), 5)
    assert [count for _, count in bounds] == sorted(count for _, count in bounds)


def test_feed_tells_every_step():
    engine = make()
    feed = engine.subscribe()
    engine.generate([list(range(1, 20)), [9]], greedy(3), progress=False)
    events = [feed.get(timeout=0) for _ in range(3)]
    assert feed.get(timeout=0) is None
    assert events[0]["prefill_tokens"] == 19
    assert events[0]["decode_tokens"] == 1
    assert [row[2:] for row in events[0]["rows"]] == [[19, 19], [1, 1]]
    assert len(events[0]["admitted"]) == 2
    assert [entry[1] for entry in events[2]["finished"]] == ["length", "length"]
    assert sum(event["generated_tokens"] for event in events) == 6
    assert events[2]["running"] == 0
    engine.unsubscribe(feed)
    engine.generate([1], greedy(3), progress=False)
    assert feed.get(timeout=0) is None


def test_feed_with_an_interval_sums_the_steps_between():
    with make() as engine:
        feed = engine.subscribe(interval=3600)
        engine.generate([1], greedy(50), progress=False)
        assert feed.get(timeout=5)["steps"] == 1
        feed._next = 0
        engine.generate([1], greedy(1), progress=False)
        assert feed.get(timeout=5)["steps"] == 50


def test_snapshot_shows_pages_and_tree():
    engine = make()
    engine.generate([list(range(1, 20))], greedy(3), progress=False)
    handle = engine.submit([*range(1, 20), 40, 41], greedy(30))
    engine.step()
    shot = engine.snapshot()
    runs = shot["page_runs"]
    owners = [owner for owner, pages in zip(runs[::2], runs[1::2], strict=True) for _ in range(pages)]
    assert len(owners) == shot["pages"]["total"]
    assert all(a != b for a, b in itertools.pairwise(runs[::2]))
    slot = shot["running"][0][1]
    assert owners.count(slot + 1) == 3
    assert len(owners) - owners.count(0) == 3
    assert shot["tree"]["nodes"] == len(shot["tree"]["shown"])
    assert shot["tree"]["shown"][0][2:5] == [2, 1, 1]
    handle.cancel()
    engine.step()
    assert engine.snapshot(max_nodes=0)["tree"]["shown"] == []


def test_calls_run_between_steps_and_bring_errors_back():
    with make() as engine:
        assert engine.call(lambda: 5) == 5
        with pytest.raises(ZeroDivisionError):
            engine.call(lambda: 1 // 0)
        assert engine.generate([1], greedy(2), progress=False)


def test_the_model_draws_what_needs_no_host():
    """Temperature and filters on the device, the rest on the host, greedy beside them: each as by itself."""
    plain = SamplingParams(temperature=0.9, top_k=30, top_p=0.9, seed=3, max_tokens=12, ignore_eos=True)
    cases = [greedy(12), plain, SamplingParams(temperature=0.9, seed=4, presence_penalty=1.0, max_tokens=12)]
    prompts = [[1, 2], [3], [4, 5]]
    on_host = make().generate(prompts, cases, progress=False)
    cache = FakeCache(200, 8)
    model = Model(cache)
    model.samples_on_device = True
    engine = Engine(model, fake_tokenizer(), cache, EngineOptions(max_running=16, decode_buckets=(4, 8)))
    on_device = engine.generate(prompts, cases, progress=False)
    alone = [engine.generate([p], c, progress=False)[0] for p, c in zip(prompts, cases, strict=True)]
    for outputs in (on_device, alone):
        assert [o.outputs[0].token_ids for o in outputs] == [o.outputs[0].token_ids for o in on_host]
    fetched = []
    forward = model.forward

    def watched(*arguments):
        fetched.append(forward(*arguments))
        return fetched[-1]

    model.forward = watched
    engine.generate(prompts[:2], cases[:2], progress=False)
    assert not any(output.fetched for output in fetched)
    check_idle(engine)
