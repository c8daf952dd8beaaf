"""What continuous batching and the prefix cache gain: `python -m benchmarks.engine [--model smollm2 --device cpu ...]`.

batching   16 requests together against the same 16 one after another, in output tokens per second
prefix     time to first token of a prompt whose first 1,000 tokens are cached, against the same prompt uncached

In both, the tokens of the two ways are compared too; in float32 (and on the CPU in bfloat16) they must be the same.
"""

import argparse
import json
import statistics
import time
from typing import Any

import numpy as np

from mili.engine import Engine
from mili.launch import add_arguments, launch_from
from mili.sampling import SamplingParams

REQUESTS = 16
SHARED = 1000


def answers(engine: Engine, prompts: list[list[int]], params: SamplingParams) -> list[list[int]]:
    """The tokens of each prompt's answer."""
    return [output.outputs[0].token_ids for output in engine.generate(prompts, params, progress=False)]


def batching(engine: Engine, tokens: int, runs: int) -> dict[str, Any]:
    """Output tokens per second together and one after another."""
    rng = np.random.default_rng(0)
    vocab = engine.model.config.vocab_size
    prompts = [rng.integers(0, vocab, 32).tolist() for _ in range(REQUESTS)]
    params = SamplingParams(temperature=0, max_tokens=tokens, ignore_eos=True)
    together, alone = [], []
    same = True
    for _ in range(runs):
        engine.clear_prefix_cache()
        start = time.perf_counter()
        batch = answers(engine, prompts, params)
        together.append(REQUESTS * tokens / (time.perf_counter() - start))
        engine.clear_prefix_cache()
        start = time.perf_counter()
        single = [answers(engine, [prompt], params)[0] for prompt in prompts]
        alone.append(REQUESTS * tokens / (time.perf_counter() - start))
        same = same and batch == single
    one, many = statistics.median(alone), statistics.median(together)
    return {"together": round(many, 1), "one_after_another": round(one, 1), "ratio": round(many / one, 2), "same": same}


def prefix(engine: Engine, runs: int) -> dict[str, Any]:
    """Milliseconds to the first token with and without the shared prefix in the cache."""
    rng = np.random.default_rng(1)
    vocab = engine.model.config.vocab_size
    shared = rng.integers(0, vocab, SHARED).tolist()
    params = SamplingParams(temperature=0, max_tokens=8, ignore_eos=True)
    miss, hit = [], []
    same = True
    cached = 0
    for _ in range(runs):
        prompt = shared + rng.integers(0, vocab, 24).tolist()
        engine.clear_prefix_cache()
        first = engine.generate([prompt], params, progress=False)[0]
        engine.clear_prefix_cache()
        engine.generate([[*shared, 1]], params, progress=False)
        second = engine.generate([prompt], params, progress=False)[0]
        miss.append(first.first_token_time or 0.0)
        hit.append(second.first_token_time or 0.0)
        cached = second.usage.cached_tokens
        same = same and first.outputs[0].token_ids == second.outputs[0].token_ids
    slow, fast = statistics.median(miss) * 1e3, statistics.median(hit) * 1e3
    ratio = round(slow / fast, 2)
    return {"miss_ms": round(slow, 2), "hit_ms": round(fast, 2), "ratio": ratio, "cached_tokens": cached, "same": same}


def main() -> None:
    """Print both results, and as one line of JSON."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--tokens", type=int, default=64, help="output tokens a request (default 64)")
    parser.add_argument("--runs", type=int, default=3, help="runs, of which the median counts (default 3)")
    add_arguments(parser)
    options = parser.parse_args()
    engine = launch_from(options).engine()
    engine.generate([[1, 2, 3]], SamplingParams(temperature=0, max_tokens=4), progress=False)
    result = {"batching": batching(engine, options.tokens, options.runs), "prefix": prefix(engine, options.runs)}
    for name, row in result.items():
        print(f"{name:<10}" + "  ".join(f"{key.replace('_', ' ')} {value}" for key, value in row.items()))
    print(json.dumps({"device": options.device, "dtype": options.dtype, **result}))


if __name__ == "__main__":
    main()
