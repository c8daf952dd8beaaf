"""The engine against llama.cpp on a CPU, SmolLM2-135M in 16 bits: `python -m benchmarks.cpu [--json FILE]`.

Both sides run in this process, one after the other in turns, on the same weights: the engine in bfloat16, llama.cpp
(package `llama-cpp-python`, if installed) on an F16 GGUF file made from the same dequantised tensors. Measured are the
prefill of 512 tokens and decoding at a context of 512, one request. Prefix caching is off. Decoding cannot be faster
than reading the weights once a token: the share of that ceiling is printed, with the bandwidth of the same run.

llama.cpp compiled for the machine that builds it may use instructions that a virtual machine does not pass on. Build it
with the ones that are there, for example:

    CMAKE_ARGS="-DGGML_NATIVE=OFF -DGGML_AVX2=ON -DGGML_FMA=ON -DGGML_F16C=ON -DGGML_AVX512=ON -DGGML_AVX512_BF16=ON" \\
        pip install --no-binary llama-cpp-python llama-cpp-python
"""

import argparse
import importlib.metadata
import json
import statistics
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.ceilings import measure
from benchmarks.f16_gguf import write_f16
from benchmarks.record import info
from mili import models
from mili.cache import cache_folder
from mili.config import Qwen3Config
from mili.engine import EngineOptions
from mili.launch import Launch
from mili.sampling import SamplingParams

PREFILL = 512
DECODE = 32
"""Tokens decoded in one timing; they end at a context of PREFILL."""

Side = Callable[[list[int]], tuple[float, float]]
"""From a prompt of PREFILL tokens: (seconds of its prefill, seconds a token of decoding up to that context)."""


def engine_side(dtype: str) -> tuple[Side, int]:
    """The engine, and the bytes of weights that a token reads."""
    options = EngineOptions(prefix_caching=False, max_context=2 * PREFILL, max_batch_tokens=PREFILL)
    engine = Launch("smollm2", device="cpu", dtype=dtype, num_pages=PREFILL // 4, options=options).engine()

    def finish(prompt: list[int], tokens: int) -> tuple[float, float]:
        engine.submit(prompt, SamplingParams(temperature=0, max_tokens=tokens, ignore_eos=True))
        start = time.perf_counter()
        engine.step()
        first = time.perf_counter()
        while engine.step():
            pass
        return first - start, (time.perf_counter() - first) / max(tokens - 1, 1)

    def side(prompt: list[int]) -> tuple[float, float]:
        return finish(prompt, 1)[0], finish(prompt[: PREFILL - DECODE], DECODE + 1)[1]

    parameters = Qwen3Config.from_pretrained(models.resolve("smollm2").path).num_parameters
    return side, parameters * (2 if dtype == "bfloat16" else 4)


def llama_side(path: Path, threads: int) -> Side:
    """llama.cpp through its Python package."""
    from llama_cpp import Llama

    llama = Llama(
        str(path),
        n_ctx=2 * PREFILL,
        n_batch=PREFILL,
        n_ubatch=PREFILL,
        n_threads=threads,
        n_threads_batch=threads,
        verbose=False,
    )

    def evaluate(tokens: list[int]) -> float:
        start = time.perf_counter()
        llama.eval(tokens)
        return time.perf_counter() - start

    def side(prompt: list[int]) -> tuple[float, float]:
        llama.reset()
        prefill = evaluate(prompt)
        llama.reset()
        evaluate(prompt[: PREFILL - DECODE])
        start = time.perf_counter()
        for _ in range(DECODE):
            evaluate([int(np.argmax(llama.scores[llama.n_tokens - 1]))])
        return prefill, (time.perf_counter() - start) / DECODE

    return side


def compare(rounds: int, dtype: str) -> dict[str, Any]:
    """Both sides in turns, `rounds` times after one to warm up; medians."""
    ours, nbytes = engine_side(dtype)
    ceilings = measure()
    sides = {"mili": ours}
    try:
        version = importlib.metadata.version("llama-cpp-python")
    except importlib.metadata.PackageNotFoundError:
        version = None
    else:
        f16 = write_f16(
            models.resolve("smollm2").path, cache_folder() / "benchmarks" / "SmolLM2-135M-Instruct.F16.gguf"
        )
        sides["llama.cpp"] = llama_side(f16, ceilings.cores)
    prompt = [int(token) for token in np.random.default_rng(0).integers(1000, 40_000, PREFILL)]
    timings: dict[str, list[tuple[float, float]]] = {name: [] for name in sides}
    for turn in range(rounds + 1):
        for name, side in sides.items():
            measured = side(prompt)
            if turn > 0:
                timings[name].append(measured)
    result: dict[str, Any] = {"dtype": dtype, "cores": ceilings.cores, "llama_cpp_python": version, "rounds": rounds}
    for name, timing in timings.items():
        prefill = PREFILL / statistics.median(t[0] for t in timing)
        decode = 1 / statistics.median(t[1] for t in timing)
        result[name] = {"prefill_tokens_per_s": prefill, "decode_tokens_per_s": decode}
    result["decode_ceiling_tokens_per_s"] = ceilings.read / nbytes
    result["read_bytes_per_s"] = ceilings.read
    return result


def report(result: dict[str, Any]) -> None:
    """Print a table."""
    ceiling = result["decode_ceiling_tokens_per_s"]
    print(f"SmolLM2-135M, {result['cores']} cores, medians of {result['rounds']}; tokens/s")
    print(f"{'':<26} {'prefill of 512':>16} {'decode at 512':>16} {'of the ceiling':>16}")
    for name, dtype in (("mili", result["dtype"]), ("llama.cpp", "F16")):
        if name in result:
            prefill, decode = result[name]["prefill_tokens_per_s"], result[name]["decode_tokens_per_s"]
            print(f"{name + ' ' + dtype:<26} {prefill:>16.0f} {decode:>16.1f} {decode / ceiling:>16.0%}")
    if "llama.cpp" in result:
        ours, theirs = result["mili"], result["llama.cpp"]
        ratios = [ours[key] / theirs[key] for key in ("prefill_tokens_per_s", "decode_tokens_per_s")]
        print(f"{'ratio':<26} {ratios[0]:>15.1f}x {ratios[1]:>15.2f}x")
    else:
        print("llama.cpp: not measured; the package llama-cpp-python is not installed")
    read = result["read_bytes_per_s"] / 1e9
    print(f"ceiling of decoding: {ceiling:.1f} tokens/s, weights read once a token at {read:.1f} GB/s")


def main(arguments: Sequence[str] | None = None) -> None:
    """The command line; see the module's text."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.cpu", description="The engine against llama.cpp.")
    parser.add_argument("--rounds", type=int, default=5, help="timings of each side")
    parser.add_argument("--dtype", choices=("bfloat16", "float32"), default="bfloat16")
    parser.add_argument("--json", type=Path, help="write the result to this file")
    options = parser.parse_args(arguments)
    result = compare(options.rounds, options.dtype)
    report(result)
    if options.json:
        record = {"info": info("benchmarks.cpu", "llama-cpp-python"), **result}
        options.json.write_text(json.dumps(record, indent=2) + "\n")


if __name__ == "__main__":
    main()
