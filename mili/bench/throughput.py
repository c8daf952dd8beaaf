"""Offline throughput: all requests given at once, tokens per second of wall time.

The preset `nano-vllm` is that project's own bench.py (https://github.com/GeeeekExplorer/nano-vllm): Python's random
with seed 0, 256 requests, prompts of 100 to 1024 random token ids, outputs of 100 to 1024 tokens, end tokens ignored,
temperature 0.6, output tokens divided by wall time after a warm-up. `single` is one greedy request of 128 tokens in and
512 out: what one user gets.
"""

import random
import statistics
import time
from dataclasses import dataclass
from typing import Any

from mili.engine import Engine
from mili.errors import ConfigError
from mili.sampling import SamplingParams

LARGEST_ID = 10_000


@dataclass(frozen=True, slots=True)
class Preset:
    """Sizes of a benchmark: ranges are (least, most), both included."""

    requests: int
    prompt: tuple[int, int]
    output: tuple[int, int]
    temperature: float


PRESETS = {
    "nano-vllm": Preset(256, (100, 1024), (100, 1024), 0.6),
    "single": Preset(1, (128, 128), (512, 512), 0.0),
}


def workload(preset: Preset, vocab_size: int, seed: int = 0) -> tuple[list[list[int]], list[SamplingParams]]:
    """Prompts and params of a preset; with seed 0 the numbers of nano-vllm's bench.py."""
    rng = random.Random(seed)
    largest = min(LARGEST_ID, vocab_size - 1)
    prompts = [[rng.randint(0, largest) for _ in range(rng.randint(*preset.prompt))] for _ in range(preset.requests)]
    params = [
        SamplingParams(
            temperature=preset.temperature, ignore_eos=True, max_tokens=rng.randint(*preset.output), seed=seed + i
        )
        for i in range(preset.requests)
    ]
    return prompts, params


def run(engine: Engine, preset: Preset, *, runs: int = 1, progress: bool = True) -> dict[str, Any]:
    """Run a preset `runs` times after a warm-up, each time without cached prefixes; the figures of the median run."""
    prompts, params = workload(preset, engine.model.config.vocab_size)
    longest = max(len(prompt) + p.max_tokens for prompt, p in zip(prompts, params, strict=True) if p.max_tokens)
    if longest > engine.max_context:
        raise ConfigError(
            f"the benchmark has a request of {longest} tokens and the context holds {engine.max_context}: "
            "raise --max-context or the memory of the cache, or lower --max-input and --max-output"
        )
    engine.generate([[1, 2, 3, 4]], SamplingParams(temperature=preset.temperature, max_tokens=16), progress=False)
    results = []
    for _ in range(runs):
        engine.clear_prefix_cache()
        before = (engine.metrics.steps, engine.metrics.preemptions)
        start = time.perf_counter()
        outputs = engine.generate(prompts, params, progress=progress)
        seconds = time.perf_counter() - start
        produced = sum(output.usage.completion_tokens for output in outputs)
        if produced != sum(p.max_tokens or 0 for p in params):
            raise RuntimeError(f"{produced} tokens came out, {sum(p.max_tokens or 0 for p in params)} were asked for")
        given = sum(len(prompt) for prompt in prompts)
        first = statistics.median(output.first_token_time or 0.0 for output in outputs)
        result: dict[str, Any] = {
            "requests": len(prompts),
            "prompt_tokens": given,
            "output_tokens": produced,
            "seconds": round(seconds, 4),
            "output_tokens_per_second": round(produced / seconds, 2),
            "total_tokens_per_second": round((given + produced) / seconds, 2),
            "median_first_token_ms": round(first * 1e3, 3),
            "steps": engine.metrics.steps - before[0],
            "preemptions": engine.metrics.preemptions - before[1],
        }
        if len(prompts) == 1:
            result["prefill_tokens_per_second"] = round(given / first, 2)
            result["decode_tokens_per_second"] = round((produced - 1) / (seconds - first), 2) if produced > 1 else None
        results.append(result)
    results.sort(key=lambda row: row["seconds"])
    return {**results[len(results) // 2], "runs": runs}
