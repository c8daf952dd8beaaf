"""The whole model on a GPU against the stored answers of transformers, and captured against eager execution.

`python -m benchmarks.gpu.model_check SmolLM2.gguf --json result.json` runs SmolLM2-135M-Instruct in float32
(greedy tokens must be those of tests/golden/smollm2.json), whole and in chunks, then in bfloat16: the share of equal
tokens, and the time of one decode step executed and replayed.
"""

import argparse
import json
import time
from pathlib import Path
from typing import Any

import numpy as np
from max.driver import CPU, Buffer
from numpy.typing import NDArray

from mili.batch import Batch
from mili.capture import SAMPLING_FIELDS
from mili.device import DTYPES, select_device
from mili.gguf import GGUFFile, config_from_gguf
from mili.kv_cache import PagedKVCache
from mili.model import Qwen3Model
from mili.weights import WeightLoader

PAGE = 16
GOLDEN = Path(__file__).resolve().parents[2] / "tests" / "golden" / "smollm2.json"


def batch(tokens: list[int], start: int) -> Batch:
    """One request's `tokens` at positions from `start`; its pages are 0, 1, 2, ..."""
    positions = np.arange(start, start + len(tokens), dtype=np.int32)
    pages = np.arange(-(-(start + len(tokens)) // PAGE), dtype=np.int32)
    return Batch(
        np.asarray(tokens, np.int32),
        positions,
        positions.copy(),
        np.array([0, len(tokens)], np.int32),
        np.array([start + len(tokens)], np.int32),
        pages[None],
        np.array([len(tokens) - 1], np.int32),
    )


def greedy(model: Qwen3Model, cache: PagedKVCache, prompt: list[int], count: int, chunk: int) -> list[int]:
    """`count` greedy tokens after `prompt`, which is computed `chunk` tokens at a time."""
    position, token = 0, -1
    while position < len(prompt):
        piece = prompt[position : position + chunk]
        token = int(model.forward(batch(piece, position), cache).tokens[0])
        position += len(piece)
    tokens = [token]
    while len(tokens) < count:
        token = int(model.forward(batch([token], position), cache).tokens[0])
        tokens.append(token)
        position += 1
    return tokens


def median_seconds(run: Any, rounds: int) -> float:
    """Median wall time of `run()` over `rounds`, after three that do not count."""
    times: list[float] = []
    for _ in range(rounds + 3):
        start = time.perf_counter()
        run()
        times.append(time.perf_counter() - start)
    return float(np.median(times[3:]))


def decode_times(model: Qwen3Model, cache: PagedKVCache) -> dict[str, Any]:
    """One decode step at context 512: executed with its copies, and captured and replayed; do the two agree?"""
    step = batch([5], 511)
    eager = model.forward(step, cache).logits.copy()
    result: dict[str, Any] = {
        "eager_ms": 1e3 * median_seconds(lambda: model.forward(step, cache).tokens, 50),
    }
    arrays: list[NDArray[np.int32]] = [step.tokens, step.positions, step.slots, step.row_offsets]
    arrays += [step.context_lengths, step.page_table, step.logit_rows]
    greedy = np.zeros((len(step.logit_rows), SAMPLING_FIELDS), np.float32)
    drawn = np.zeros(1, np.int32)  # tokens of a step before, which this one does not refer to
    inputs = [Buffer.from_numpy(a).to(model.device) for a in (*arrays, greedy, drawn)] + cache.buffers
    compiled = model._model
    outputs = compiled.capture(1, *inputs)
    compiled.replay(1, *inputs)
    model.device.synchronize()
    replayed = outputs[1].to(CPU()).to_numpy()
    result["replay_equals_eager"] = bool(np.array_equal(replayed, eager))
    result["replay_max_difference"] = float(np.abs(replayed - eager).max())

    def replay() -> None:
        compiled.replay(1, *inputs)
        model.device.synchronize()

    result["replay_ms"] = 1e3 * median_seconds(replay, 50)
    return result


def main() -> None:
    """Run both dtypes and write what came out after each."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("gguf", type=Path)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--device", default="gpu")
    parser.add_argument("--prompts", type=int, default=20)
    options = parser.parse_args()
    device = select_device(options.device)
    answers = list(json.loads(GOLDEN.read_text())["answers"].values())[: options.prompts]
    config = config_from_gguf(GGUFFile(options.gguf))
    report: dict[str, Any] = {"device": str(device)}
    for dtype in ("float32", "bfloat16"):
        start = time.perf_counter()
        weights = WeightLoader(options.gguf, config).load(dtype, packed=device.is_host)
        loaded = time.perf_counter()
        model = Qwen3Model(config, weights, device=device, dtype=dtype, max_positions=2048)
        entry: dict[str, Any] = {"load_s": loaded - start, "compile_s": time.perf_counter() - loaded}
        report[dtype] = entry
        print(dtype, entry, flush=True)
        cache = PagedKVCache(
            num_layers=config.num_layers,
            num_kv_heads=config.num_kv_heads,
            head_dim=config.head_dim,
            dtype=DTYPES[dtype],
            num_pages=2048 // PAGE,
            device=device,
        )
        for label, chunk in (("whole", 4096), ("chunks_of_97", 97)):
            equal = [
                sum(
                    a == b
                    for a, b in zip(greedy(model, cache, x["prompt_ids"], len(x["ids"]), chunk), x["ids"], strict=True)
                )
                / len(x["ids"])
                for x in answers
            ]
            entry[label] = {
                "identical": sum(e == 1 for e in equal),
                "prompts": len(equal),
                "tokens": float(np.mean(equal)),
            }
            print(dtype, label, entry[label], flush=True)
            if options.json:
                options.json.write_text(json.dumps(report, indent=1))
        if not device.is_host:
            entry["decode"] = decode_times(model, cache)
            print(dtype, entry["decode"], flush=True)
        if options.json:
            options.json.write_text(json.dumps(report, indent=1))


if __name__ == "__main__":
    main()
