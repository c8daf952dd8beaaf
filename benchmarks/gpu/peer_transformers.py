"""transformers as the engine's peer on the same machine: `python -m benchmarks.gpu.peer_transformers --json FILE`.

The protocol is that of `python -m mili.bench throughput` with random weights of --model-shape in bfloat16, and the same
prompts and lengths. Three parts, each in a process of its own that --time-limit ends:

    batch      preset nano-vllm by transformers' continuous batching
    eager      preset single by `generate`, as it is
    compiled   preset single by `generate` with a static cache, whose decoding step transformers compiles

A batch that is not through in time gives the tokens per second so far, marked `complete: false`; the end of a run, when
few requests are left, is then not in it. What fails is in the file as an error, and the exit status is 1.
"""

from __future__ import annotations

import argparse
import json
import os
import queue
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from benchmarks.record import info
from mili.bench.throughput import PRESETS, workload
from mili.launch import SHAPES, shape_config

os.environ.setdefault("HF_HUB_OFFLINE", "1")
SHUTDOWN = 8.0
"""Seconds that ending a run takes at most; it starts so long before the time limit."""


def build(shape: str, device: str, dtype: str = "bfloat16", **more: Any) -> Any:
    """The model of a shape as transformers builds it, with `more` arguments, random weights, and no end tokens."""
    import torch
    from transformers import AutoModelForCausalLM, Qwen3Config

    sizes = shape_config(shape)
    config = Qwen3Config(
        vocab_size=sizes.vocab_size,
        hidden_size=sizes.hidden_size,
        intermediate_size=sizes.intermediate_size,
        num_hidden_layers=sizes.num_layers,
        num_attention_heads=sizes.num_heads,
        num_key_value_heads=sizes.num_kv_heads,
        head_dim=sizes.head_dim,
        max_position_embeddings=sizes.max_position_embeddings,
        rms_norm_eps=sizes.rms_norm_eps,
        rope_parameters={"rope_type": "default", "rope_theta": 1e6},
        tie_word_embeddings=sizes.tie_word_embeddings,
        bos_token_id=None,
        eos_token_id=None,
        pad_token_id=None,
    )
    torch.manual_seed(0)
    with torch.device(device):
        return AutoModelForCausalLM.from_config(config, dtype=getattr(torch, dtype), **more).eval()


def batch(options: argparse.Namespace, deadline: float) -> dict[str, Any]:
    """All requests of the preset nano-vllm at once, after a warm-up; stopped at `deadline` (of time.monotonic)."""
    from transformers import GenerationConfig
    from transformers.generation.continuous_batching.utils import WorkloadHints

    model = build(options.model_shape, options.device)
    preset = replace(PRESETS["nano-vllm"], requests=options.requests or PRESETS["nano-vllm"].requests)
    prompts, params = workload(preset, model.config.vocab_size)
    lengths = [p.max_tokens or 0 for p in params]
    config = GenerationConfig(do_sample=True, temperature=preset.temperature, top_k=0, top_p=1.0, eos_token_id=-1)
    hints = WorkloadHints(
        max_prompt_length=max(map(len, prompts)), max_generated_length=max(lengths), num_requests=len(prompts)
    )
    prepared = time.monotonic()
    with model.continuous_batching_context_manager(config, workload_hints=hints, timeout=SHUTDOWN) as manager:
        manager.add_request(list(range(1, 5)), max_new_tokens=16)
        if not finished(manager, 1, deadline):
            raise RuntimeError("the warm-up took all of --time-limit")
        start = time.monotonic()
        for prompt, length in zip(prompts, lengths, strict=True):
            manager.add_request(prompt, max_new_tokens=length)
        outputs = finished(manager, len(prompts), deadline)
        seconds = time.monotonic() - start
        attention = model.config._attn_implementation
        resolved = manager.continuous_batching_config
        complete = len(outputs) == len(prompts)
        if not complete:
            manager.stop(hard_stop=True, timeout=SHUTDOWN)
            # What was running is delivered as failed, with its tokens and the time at which it ended.
            rest = drain(manager)
            seconds = max([seconds, *(o.lifespan[1] - time.perf_counter() + time.monotonic() - start for o in rest)])
            outputs += rest
    produced = sum(len(output.generated_tokens) for output in outputs)
    if complete and produced != sum(lengths):
        raise RuntimeError(f"{produced} tokens came out, {sum(lengths)} were asked for: {errors(outputs)}")
    if not produced:
        raise RuntimeError(f"no tokens came out: {errors(outputs)}")
    return {
        "complete": complete,
        "requests": len(prompts),
        "requests_finished": sum(output.error is None for output in outputs),
        "prompt_tokens": sum(map(len, prompts)),
        "output_tokens": produced,
        "output_tokens_asked": sum(lengths),
        "seconds": round(seconds, 3),
        "output_tokens_per_second": round(produced / seconds, 2),
        "warm_up_seconds": round(start - prepared, 2),
        "attention": attention,
        "continuous_batching": {
            name: str(getattr(resolved, name))
            for name in ("num_blocks", "block_size", "max_batch_tokens", "max_requests_per_batch", "use_cuda_graph")
        },
    }


def finished(manager: Any, count: int, deadline: float) -> list[Any]:
    """The outputs of `count` requests, or those that came until `deadline`; raises what ended the generating thread."""
    outputs: list[Any] = []
    while len(outputs) < count and time.monotonic() < deadline:
        output = manager.get_result(timeout=0.2)
        if output is not None:
            if output.error is not None:
                raise RuntimeError(f"request {output.request_id}: {output.error}")
            outputs.append(output)
        elif not manager.is_running():
            raise RuntimeError(f"the generating thread ended: {manager.background_thread_status.fatal_error}")
    return outputs


def drain(manager: Any) -> list[Any]:
    """What a stopped manager still delivers."""
    outputs = []
    while True:
        try:
            outputs.append(manager.output_router.output_queue.get_nowait())
        except queue.Empty:
            return outputs


def errors(outputs: list[Any]) -> list[str]:
    """The different errors of some outputs."""
    return sorted({output.error for output in outputs if output.error is not None})


def single(options: argparse.Namespace, deadline: float, compiled: bool) -> dict[str, Any]:
    """One greedy request through `generate`: the first run warms up, the median of up to three that follow counts."""
    import torch

    model = build(options.model_shape, options.device)
    prompts, params = workload(PRESETS["single"], model.config.vocab_size)
    count = options.output or params[0].max_tokens or 0
    ids = torch.tensor(prompts, device=options.device)
    extra: dict[str, Any] = {"cache_implementation": "static"} if compiled else {}
    times: list[float] = []
    # Another run must fit: the longest that counted, for the first one also compiled.
    while len(times) < 4 and (len(times) < 2 or time.monotonic() + max(times[1:]) < deadline):
        start = time.perf_counter()
        out = model.generate(
            ids, attention_mask=torch.ones_like(ids), max_new_tokens=count, do_sample=False, pad_token_id=0, **extra
        )
        produced = int(out.shape[1]) - len(prompts[0])
        if options.device == "cuda":
            torch.cuda.synchronize()
        times.append(time.perf_counter() - start)
        if produced != count:
            raise RuntimeError(f"{produced} tokens came out, {count} were asked for")
    seconds = statistics.median(times[1:])
    return {
        "compiled": compiled,
        "prompt_tokens": len(prompts[0]),
        "output_tokens": count,
        "runs": len(times) - 1,
        "seconds": round(seconds, 3),
        "output_tokens_per_second": round(count / seconds, 2),
        "first_run_seconds": round(times[0], 2),
        "attention": model.config._attn_implementation,
    }


PARTS: dict[str, Callable[[argparse.Namespace, float], dict[str, Any]]] = {
    "batch": batch,
    "eager": lambda options, deadline: single(options, deadline, compiled=False),
    "compiled": lambda options, deadline: single(options, deadline, compiled=True),
}


def run_part(name: str) -> dict[str, Any]:
    """Run one part in a process of its own with the options of this one; an error is a result too."""
    command = [sys.executable, "-m", "benchmarks.gpu.peer_transformers", *sys.argv[1:], "--part", name]
    limit = arguments().time_limit
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=limit + SHUTDOWN, check=False)
    except subprocess.TimeoutExpired as error:
        text = error.stderr.decode(errors="replace") if isinstance(error.stderr, bytes) else str(error.stderr)
        return {"error": f"nothing after {limit + SHUTDOWN:.0f} s", "log": text[-1500:]}
    lines = done.stdout.strip().splitlines()
    if done.returncode != 0 or not lines:
        return {"error": f"exit status {done.returncode}", "log": done.stderr[-3000:]}
    result: dict[str, Any] = json.loads(lines[-1])
    return result


def environment(device: str) -> dict[str, Any]:
    """Versions, device, date and command, for the record."""
    found = {**info("benchmarks.gpu.peer_transformers", "torch", "transformers"), "dtype": "bfloat16"}
    if device == "cuda":
        import torch

        found["device"] = torch.cuda.get_device_name()
    return found


def arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--json", type=Path, required=True, help="where the numbers go")
    parser.add_argument("--model-shape", choices=SHAPES, default="qwen3-0.6b")
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda")
    parser.add_argument("--only", nargs="+", choices=list(PARTS), default=list(PARTS), help="parts to run")
    parser.add_argument("--requests", type=int, help="requests of the batch (default: the preset's)")
    parser.add_argument("--output", type=int, help="tokens of the single request (default: the preset's)")
    parser.add_argument("--time-limit", type=float, default=80, help="seconds of each part, with loading (default 80)")
    parser.add_argument("--part", choices=list(PARTS), help=argparse.SUPPRESS)
    return parser.parse_args()


def main() -> int:
    """Run the parts; the file is written after each."""
    options = arguments()
    if options.part:
        deadline = time.monotonic() + options.time_limit - SHUTDOWN
        print(json.dumps(PARTS[options.part](options, deadline)), flush=True)
        os._exit(0)  # the thread that generates may still be in a step, and Python would wait for it
    report: dict[str, Any] = {"info": environment(options.device), "model_shape": options.model_shape}
    for name in options.only:
        report[name] = run_part(name)
        options.json.write_text(json.dumps(report, indent=1) + "\n")
        print(name, json.dumps(report[name], indent=1)[:1500], flush=True)
    return 1 if any("error" in report[name] for name in options.only) else 0


if __name__ == "__main__":
    sys.exit(main())
