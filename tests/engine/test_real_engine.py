"""The engine's promises with the real kernels: a small random Qwen3 in float32, greedy, token for token.

`--device gpu` runs them on an accelerator, captured steps included. On the CPU, which has no device graphs, a stand-in
runs the compiled graph again at each replay: it shows that a step's inputs and outputs lie where they should.
"""

import json
import random

import pytest
from max.driver import CPU

from mili.bench.__main__ import main as bench
from mili.capture import DecodeGraphs, decode_buckets
from mili.engine import Engine, EngineOptions
from mili.errors import DeviceError
from mili.kv_cache import PagedKVCache
from mili.launch import Launch
from mili.running import table_widths
from mili.sampling import SamplingParams

PARAMS = SamplingParams(temperature=0, max_tokens=24, ignore_eos=True)


class Again:
    """Stands in for device graphs on the CPU: a replay executes, and its results replace those of the capture."""

    def __init__(self, model):
        self.execute = model.execute
        self.outputs = {}
        self.replays = 0

    def capture(self, key, *inputs):
        self.outputs[key] = self.execute(*inputs)
        return self.outputs[key]

    def replay(self, key, *inputs):
        self.replays += 1
        CPU().synchronize()  # copies are queued on the CPU too, but neither `execute` nor the host waits its turn
        for old, new in zip(self.outputs[key], self.execute(*inputs), strict=True):
            old.to_numpy()[:] = new.to_numpy()


@pytest.fixture(scope="module")
def device(request):
    return request.config.getoption("--device")


@pytest.fixture(scope="module")
def launched(device):
    options = EngineOptions(max_running=8, max_batch_tokens=64, max_context=256)
    launch = Launch(random_shape="tiny", device=device, dtype="float32", num_pages=100, capture=False, options=options)
    engine = launch.engine()
    engine.model.runs_ahead = True  # on the CPU too, where it gains nothing: the graph looks up what it has drawn
    return engine


@pytest.fixture
def make(launched):
    """Engines with other options over the one compiled model."""

    def build(num_pages=100, **options):
        config = launched.model.config
        cache = PagedKVCache(
            num_layers=config.num_layers,
            num_kv_heads=config.num_kv_heads,
            head_dim=config.head_dim,
            dtype=launched._core.cache.dtype,
            num_pages=num_pages,
            device=launched.model.device,
        )
        defaults = {"max_running": 8, "max_batch_tokens": 64, "max_context": 256}
        return Engine(launched.model, None, cache, EngineOptions(**(defaults | options)))

    return build


@pytest.fixture(scope="module")
def prompts():
    rng = random.Random(0)
    shared = rng.choices(range(999), k=80)
    lengths = [1, 15, 16, 17, 31, 32, 33, 48, 64, 100, 129, 7]
    return [(shared[: rng.choice([0, 16, 20, 64])] + rng.choices(range(999), k=length))[:length] for length in lengths]


def answers(engine, prompts):
    return [output.outputs[0].token_ids for output in engine.generate(prompts, PARAMS, progress=False)]


@pytest.fixture
def alone(make, prompts):
    """Each prompt by itself, whole, without a prefix cache."""
    engine = make(prefix_caching=False, max_batch_tokens=256)
    return [answers(engine, [prompt])[0] for prompt in prompts]


def test_batched_chunked_cached_and_preempted_are_all_alone(make, prompts, alone):
    assert len({tuple(answer) for answer in alone}) == len(alone)
    engine = make()
    assert answers(engine, prompts) == alone  # batched, prompts in chunks of what 64 tokens leave
    hits = engine.metrics.cached_tokens
    assert answers(engine, prompts) == alone  # from the cache
    assert engine.metrics.cached_tokens - hits >= sum((len(prompt) - 1) // 16 * 16 for prompt in prompts)
    assert answers(make(max_batch_tokens=9), prompts) == alone  # chunks of a few tokens
    tight = make(num_pages=18, max_running=6)
    assert answers(tight, prompts) == alone
    assert tight.metrics.preemptions > 0
    assert tight.metrics.free_pages + tight.metrics.cached_pages == 18
    assert answers(make(decode_buckets=(4, 8)), prompts) == alone  # padding rows
    assert answers(make(overlap=False), prompts) == alone  # every step's tokens read before the next
    assert engine._core.overlap


@pytest.fixture
def captured(make, device):
    """An engine whose decode steps are replayed, how often they were, and the tokens they were given."""
    engine = make(decode_buckets=(1, 2, 4, 8))
    model = engine.model
    assert engine.decode_shapes == [(1, 16), (2, 16), (4, 16), (8, 16)]
    before = model._model
    if device == "cpu":
        again = Again(before)
        model._graphs = DecodeGraphs(again, model.device, engine._core.cache, engine.decode_shapes)
    else:
        model.capture(engine._core.cache, engine.decode_shapes)
    graphs, replay, count = model._graphs, model._graphs.replay, []
    fed = []

    def counting(found, batch, *arguments):
        count.append(1)
        fed.extend(batch.tokens.tolist())
        return replay(found, batch, *arguments)

    graphs.replay = counting
    yield engine, count, fed
    model._graphs = None


def test_captured_steps_are_eager_ones(captured, make, prompts, alone):
    engine, replays, fed = captured
    assert sorted(engine.model.captured) == engine.decode_shapes
    assert answers(engine, prompts) == alone
    decoded = len(replays)
    assert decoded >= 40  # twelve requests, eight at a time
    assert answers(engine, prompts) == alone  # from the cache
    assert any(token < 0 for token in fed), "no step was launched ahead"
    drawn = SamplingParams(temperature=0.8, top_p=0.9, seed=5, max_tokens=16, ignore_eos=True)
    wanted = make().generate(prompts, drawn, progress=False)
    before = len(replays)
    got = engine.generate(prompts, drawn, progress=False)
    assert len(replays) > before
    assert [o.outputs[0].token_ids for o in got] == [o.outputs[0].token_ids for o in wanted]
    with_logprobs = SamplingParams(temperature=0, max_tokens=8, ignore_eos=True, logprobs=3)
    first, second = (
        e.generate([prompts[3]], with_logprobs, progress=False)[0].outputs[0].logprobs for e in (engine, make())
    )
    for ours, theirs in zip(first, second, strict=True):
        assert ours.token == theirs.token
        assert ours.logprob == pytest.approx(theirs.logprob, abs=1e-5)


def test_what_is_captured():
    assert decode_buckets(1) == (1,)
    assert decode_buckets(20) == (1, 2, 4, 8, 16, 20)
    assert decode_buckets(256)[-4:] == (208, 224, 240, 256)
    assert decode_buckets(400)[-3:] == (320, 384, 400)
    assert table_widths(16, 16) == (16,)
    assert table_widths(2560, 16) == (128, 512, 2560)
    assert table_widths(320, 128) == (16, 64, 320)


class Refuses(Again):
    """A device on which nothing can be captured."""

    def capture(self, key, *inputs):
        raise RuntimeError("no device graphs here")


def test_a_device_that_cannot_capture_says_what_to_do(launched, monkeypatch):
    cache = launched._core.cache
    monkeypatch.setattr(launched.model, "_model", Refuses(launched.model._model))
    with pytest.raises(DeviceError, match=r"of 4 rows with a page table 16 wide .* \(--no-capture"):
        launched.model.capture(cache, [(2, 16), (4, 16)])
    assert launched.model.captured == []


def test_sampling_with_a_seed_is_the_same_in_any_company(make, prompts):
    params = SamplingParams(temperature=0.8, top_p=0.9, seed=5, max_tokens=16, ignore_eos=True)
    engine = make()
    alone = engine.generate([prompts[4]], params, progress=False)[0].outputs[0].token_ids
    together = engine.generate(prompts, params, progress=False)[4].outputs[0].token_ids
    assert together == alone


@pytest.mark.parametrize("preset", ["nano-vllm", "single"])
def test_throughput_presets_at_a_reduced_size(device, preset, tmp_path, capsys):
    file = tmp_path / "result.json"
    arguments = ["throughput", "--preset", preset, "--model-shape", "tiny", "--random-weights", "--device", device]
    arguments += ["--dtype", "float32", "--max-context", "256", "--max-running", "8", "--num-pages", "100"]
    arguments += ["--output", "4:16", "--quiet", "--json", str(file)]
    if preset == "nano-vllm":
        arguments += ["--requests", "10", "--input", "10:60"]
    assert bench(arguments) == 0
    result = json.loads(file.read_text())
    assert result["preset"] == preset
    assert result["requests"] == (10 if preset == "nano-vllm" else 1)
    assert result["output_tokens_per_second"] > 0
    assert json.loads(capsys.readouterr().out.splitlines()[-1]) == result
