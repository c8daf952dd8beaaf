"""The engine's promises with the real kernels: a small random Qwen3 in float32, greedy, token for token."""

import json
import random

import pytest

from mili.bench.__main__ import main as bench
from mili.engine import Engine, EngineOptions
from mili.kv_cache import PagedKVCache
from mili.launch import Launch
from mili.sampling import SamplingParams

PARAMS = SamplingParams(temperature=0, max_tokens=24, ignore_eos=True)


@pytest.fixture(scope="module")
def launched():
    options = EngineOptions(max_running=8, max_batch_tokens=64, max_context=256)
    return Launch(random_shape="tiny", device="cpu", dtype="float32", num_pages=100, options=options).engine()


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


def test_sampling_with_a_seed_is_the_same_in_any_company(make, prompts):
    params = SamplingParams(temperature=0.8, top_p=0.9, seed=5, max_tokens=16, ignore_eos=True)
    engine = make()
    alone = engine.generate([prompts[4]], params, progress=False)[0].outputs[0].token_ids
    together = engine.generate(prompts, params, progress=False)[4].outputs[0].token_ids
    assert together == alone


@pytest.mark.parametrize("preset", ["nano-vllm", "single"])
def test_throughput_presets_at_a_reduced_size(preset, tmp_path, capsys):
    file = tmp_path / "result.json"
    arguments = ["throughput", "--preset", preset, "--model-shape", "tiny", "--random-weights", "--device", "cpu"]
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
