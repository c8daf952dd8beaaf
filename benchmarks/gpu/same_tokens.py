"""A model of Qwen3-0.6B's sizes with random weights: the GPU's greedy tokens against the CPU's, and transformers.

    python -m benchmarks.gpu.same_tokens record FILE       on a CPU, float32: tokens of a dozen prompts
    python -m benchmarks.gpu.same_tokens check FILE --json RESULT [--dtypes float32 bfloat16]

float32: each step is given the CPU's tokens so far, and its token must be the CPU's. Where the CPU's two largest logits
lay within TIE of each other, rounding may choose the other: such a step is reported as a tie, and does not fail.
Both dtypes: the logits of some prompts against transformers on the same device with the same weights, by the bounds of
tests/engine/test_parity.py: in float32 a share of the largest logit; in bfloat16 the error against transformers in
float32 must not exceed that of transformers in bfloat16.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from max.driver import Device
from numpy.typing import NDArray

os.environ.setdefault("MODULAR_DEVICE_CONTEXT_MEMORY_MANAGER_SIZE_PERCENT", "30")  # PyTorch needs its share

from benchmarks.gpu.model_check import PAGE, batch
from benchmarks.gpu.peer_transformers import build
from benchmarks.record import info
from mili.config import Qwen3Config
from mili.device import DTYPES, select_device
from mili.hardware import cpu_description
from mili.kv_cache import PagedKVCache
from mili.launch import SHAPES, shape_config
from mili.model import Qwen3Model
from mili.packing import Tensor
from mili.random_weights import random_weights
from mili.weights import plan
from tests.oracle import largest_error, rms_error

TIE = 1e-4
"""Relative difference of the two largest logits below which either may come first."""
FLOAT32_BOUND = 1e-4
LARGEST_BOUND = 1.5
"""How many times transformers' largest bfloat16 error this engine's may be."""
LENGTHS = (32, 200, 47, 64, 65, 128, 33, 150, 96, 180, 111, 77)
OUTPUT = 32


def prompts_of(vocab_size: int) -> list[list[int]]:
    """The prompts: random tokens, of lengths beside and between page boundaries."""
    rng = random.Random(0)
    return [[rng.randrange(vocab_size) for _ in range(length)] for length in LENGTHS]


def engine_model(config: Qwen3Config, device: Device, dtype: str) -> tuple[Qwen3Model, PagedKVCache]:
    """The engine's model with the random weights of seed 0, and a cache for one request."""
    most = max(LENGTHS) + OUTPUT
    weights = random_weights(config, dtype, seed=0, packed=device.is_host)
    model = Qwen3Model(config, weights, device=device, dtype=dtype, page_size=PAGE, max_positions=most)
    cache = PagedKVCache(
        num_layers=config.num_layers,
        num_kv_heads=config.num_kv_heads,
        head_dim=config.head_dim,
        dtype=DTYPES[dtype],
        num_pages=-(-most // PAGE),
        device=device,
    )
    return model, cache


def steps(model: Qwen3Model, cache: PagedKVCache, prompt: list[int], given: list[int] | None) -> list[dict[str, Any]]:
    """What each of OUTPUT steps chose, after the tokens `given` or, without them, its own: token, largest logit, gap.

    The gap is the relative difference of the two largest logits.
    """
    found: list[dict[str, Any]] = []
    piece, position = prompt, 0
    for i in range(OUTPUT):
        output = model.forward(batch(piece, position), cache)
        token = int(output.tokens[0])
        second, first = (float(v) for v in np.partition(output.logits[0], -2)[-2:])
        found.append({"token": token, "largest": first, "gap": (first - second) / abs(first)})
        position += len(piece)
        piece = [token if given is None else given[i]]
    return found


def record(path: Path, shape: str) -> None:
    """Compute the tokens on the CPU in float32 and store them."""
    device = select_device("cpu")
    config = shape_config(shape)
    start = time.monotonic()
    model, cache = engine_model(config, device, "float32")
    answers = []
    for prompt in prompts_of(config.vocab_size):
        found = steps(model, cache, prompt, None)
        answers.append(
            {
                "prompt_tokens": len(prompt),
                "tokens": [step["token"] for step in found],
                "largest": [float(f"{step['largest']:.8g}") for step in found],
                "gap": [float(f"{step['gap']:.3g}") for step in found],
            }
        )
        print(f"{len(answers)} of {len(LENGTHS)} prompts after {time.monotonic() - start:.0f} s", flush=True)
    path.write_text(
        json.dumps({"info": info("benchmarks.gpu.same_tokens"), "model_shape": shape, "answers": answers}) + "\n"
    )


def check_tokens(model: Qwen3Model, cache: PagedKVCache, stored: dict[str, Any]) -> dict[str, Any]:
    """The engine's greedy tokens against the stored ones, step by step after the stored tokens."""
    ties: list[dict[str, Any]] = []
    wrong: list[dict[str, Any]] = []
    difference = 0.0
    for index, (prompt, answer) in enumerate(zip(prompts_of(model.config.vocab_size), stored["answers"], strict=True)):
        for i, step in enumerate(steps(model, cache, prompt, answer["tokens"])):
            difference = max(difference, abs(step["largest"] / answer["largest"][i] - 1))
            if step["token"] != answer["tokens"][i]:
                entry = {"prompt": index, "step": i, "token": step["token"], "cpu_token": answer["tokens"][i]}
                (ties if answer["gap"][i] < TIE else wrong).append({**entry, "cpu_gap": answer["gap"][i]})
    gaps = [gap for answer in stored["answers"] for gap in answer["gap"]]
    return {
        "steps": len(gaps),
        "equal": len(gaps) - len(ties) - len(wrong),
        "near_ties_of_the_cpu": sum(gap < TIE for gap in gaps),
        "ties_that_rounding_flipped": ties,
        "wrong": wrong,
        "largest_relative_difference_of_the_chosen_logit": difference,
        "passed": not wrong,
    }


def all_logits(model: Qwen3Model, cache: PagedKVCache, prompt: list[int]) -> NDArray[np.float32]:
    """The engine's logits after every token of a prompt, [T, V]."""
    whole = replace(batch(prompt, 0), logit_rows=np.arange(len(prompt), dtype=np.int32))
    return model.forward(whole, cache).logits.copy()


def peer_logits(
    config: Qwen3Config, shape: str, weights_dtype: str, dtype: str, device: str, prompts: list[list[int]]
) -> list[NDArray[np.float32]]:
    """What transformers computes in `dtype` with the engine's weights rounded to `weights_dtype`; [T, V] a prompt."""
    import torch

    peer = build(shape, device, dtype, attn_implementation="eager")
    state = {}
    tensors = random_weights(config, weights_dtype, seed=0, packed=False)
    for name, parts in plan(config).items():
        rows = 0
        whole = as_torch(tensors[name])
        for part in parts:
            state[part.name] = whole[rows : rows + part.shape[0]]
            rows += part.shape[0]
    missing, unexpected = peer.load_state_dict(state, strict=False)
    tied = ["lm_head.weight"] if config.tie_word_embeddings else []
    if unexpected or [name for name in missing if name not in tied]:
        raise RuntimeError(f"transformers' model misses {missing} and does not know {unexpected}")
    results = []
    with torch.no_grad():
        for prompt in prompts:
            logits = peer(torch.tensor([prompt], device=device)).logits[0]
            results.append(logits.float().cpu().numpy())
    return results


def as_torch(tensor: Tensor) -> Any:
    """A tensor of the engine, not packed, for PyTorch; bfloat16 is stored as its bits."""
    import torch

    array = torch.from_numpy(np.ascontiguousarray(tensor.data))
    return (array.view(torch.bfloat16) if tensor.dtype == "bfloat16" else array).reshape(tensor.shape)


def check_logits(model: Qwen3Model, cache: PagedKVCache, shape: str, device: str) -> dict[str, Any]:
    """The engine's logits of four prompts against transformers, by the bounds of tests/engine/test_parity.py."""
    config, dtype = model.config, model.dtype
    prompts = prompts_of(config.vocab_size)[:4]
    exact = peer_logits(config, shape, dtype, "float32", device, prompts)
    ours = [all_logits(model, cache, prompt) for prompt in prompts]
    result: dict[str, Any] = {
        "rms": [rms_error(a, b) for a, b in zip(ours, exact, strict=True)],
        "largest": [largest_error(a, b) for a, b in zip(ours, exact, strict=True)],
    }
    if dtype == "float32":
        return {**result, "bound": FLOAT32_BOUND, "passed": max(result["largest"]) < FLOAT32_BOUND}
    theirs = peer_logits(config, shape, dtype, dtype, device, prompts)
    result["transformers_rms"] = [rms_error(a, b) for a, b in zip(theirs, exact, strict=True)]
    result["transformers_largest"] = [largest_error(a, b) for a, b in zip(theirs, exact, strict=True)]
    rms_ratio = [a / b for a, b in zip(result["rms"], result["transformers_rms"], strict=True)]
    largest_ratio = [a / b for a, b in zip(result["largest"], result["transformers_largest"], strict=True)]
    passed = max(rms_ratio) <= 1 and max(largest_ratio) <= LARGEST_BOUND
    return {**result, "rms_ratio": rms_ratio, "largest_ratio": largest_ratio, "passed": passed}


def check(options: argparse.Namespace) -> int:
    """Check both dtypes; the file is written after each step, and the exit status is 1 when one failed."""
    import torch

    stored = json.loads(options.file.read_text())
    shape, device = stored["model_shape"], select_device(options.device)
    torch_device = "cpu" if device.is_host else "cuda"
    name = cpu_description()["name"] if device.is_host else torch.cuda.get_device_name()
    about = {**info("benchmarks.gpu.same_tokens", "torch", "transformers"), "device": name}
    report: dict[str, Any] = {"info": about, "cpu": stored["info"], "model_shape": shape}
    passed = True
    for dtype in options.dtypes:
        start = time.monotonic()
        model, cache = engine_model(shape_config(shape), device, dtype)
        entry: dict[str, Any] = {"load_and_compile_seconds": round(time.monotonic() - start, 1)}
        report[dtype] = entry
        if dtype == "float32":
            entry["tokens"] = check_tokens(model, cache, stored)
        entry["logits"] = check_logits(model, cache, shape, torch_device)
        entry["seconds"] = round(time.monotonic() - start, 1)
        passed = passed and all(part["passed"] for part in entry.values() if isinstance(part, dict))
        print(dtype, json.dumps(entry), flush=True)
        options.json.write_text(json.dumps(report, indent=1) + "\n")
    return 0 if passed else 1


def main() -> int:
    """Record or check."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    actions = parser.add_subparsers(dest="action", required=True)
    recording = actions.add_parser("record")
    recording.add_argument("file", type=Path)
    recording.add_argument("--model-shape", choices=SHAPES, default="qwen3-0.6b")
    checking = actions.add_parser("check")
    checking.add_argument("file", type=Path)
    checking.add_argument("--json", type=Path, required=True)
    checking.add_argument("--device", default="gpu")
    checking.add_argument("--dtypes", nargs="+", choices=("float32", "bfloat16"), default=["float32", "bfloat16"])
    options = parser.parse_args()
    if options.action == "record":
        record(options.file, options.model_shape)
        return 0
    return check(options)


if __name__ == "__main__":
    sys.exit(main())
