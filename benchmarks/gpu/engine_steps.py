"""Where the time of the engine's decode steps goes: `python -m benchmarks.gpu.engine_steps --json FILE [options]`.

One engine with random weights, steps captured (on a GPU) and then eager:

    presets     throughput of `single` and, eager, of `nano-vllm` (mili/bench/throughput.py)
    steps       at 256, 64 and 1 requests, medians in microseconds, each step's tokens read before the next: a whole
                step; the host's part until all is queued; the wait for tokens; the device's work between two events;
                and the rest, in which the device is idle. `overlapped_us`: a step as the engine runs it
    kernels     device time by kernel of a few steps, as PyTorch's profiler sees it (CUPTI), where PyTorch is installed

The file is written anew after every part.
"""

import argparse
import json
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from max.driver import DeviceEvent

from mili.bench.report import environment
from mili.bench.throughput import PRESETS, run
from mili.core import EngineCore
from mili.engine import Engine
from mili.launch import add_arguments, launch_from
from mili.model import Qwen3Model
from mili.sampling import SamplingParams

Row = dict[str, Any]


class Watched:
    """Stands between engine and model; notes the tokens of each step and, with `timed`, waits for it and times it."""

    def __init__(self, model: Qwen3Model, timed: bool) -> None:
        self.model = model
        self.timed = timed
        self.samples_on_device = model.samples_on_device
        self.runs_ahead = model.runs_ahead
        self.config = model.config
        self.times: list[tuple[float, float, float]] = []  # host, wait, device
        self.tokens: list[int] = []  # computed in each step

    def forward(self, *arguments: Any) -> Any:
        """A step."""
        self.tokens.append(int((arguments[0].slots >= 0).sum()))  # without padding
        if not self.timed:
            return self.model.forward(*arguments)
        device = self.model.device
        events = [] if device.is_host else [DeviceEvent(device, enable_timing=True) for _ in range(2)]
        start = time.perf_counter()
        if events:
            device.default_queue.record_event(events[0])
        output = self.model.forward(*arguments)
        if events:
            device.default_queue.record_event(events[1])
        queued = time.perf_counter()
        _ = output.tokens
        done = time.perf_counter()
        busy = 0.0
        if events:
            events[1].synchronize()
            busy = events[0].elapsed_time(events[1]) * 1e-3
        self.times.append((queued - start, done - queued, busy))
        return output


def watched_steps(engine: Engine, requests: int, prompt: int, steps: int, timed: bool) -> tuple[Watched, list[float]]:
    """Run `requests` to their end; returns what was seen of the steps and the wall time of each."""
    core: EngineCore = engine._core
    params = SamplingParams(temperature=0.6 if requests > 1 else 0, max_tokens=steps + 40, ignore_eos=True)
    vocabulary = engine.model.config.vocab_size
    engine.clear_prefix_cache()
    for i in range(requests):
        engine.submit([(7919 * i + j) % vocabulary for j in range(prompt)], params)
    watched, overlap = Watched(core.model, timed), core.overlap  # type: ignore[arg-type]
    core.model, core.overlap = watched, overlap and not timed
    walls: list[float] = []
    try:
        while True:
            start = time.perf_counter()
            if not engine.step():
                break
            walls.append(time.perf_counter() - start)
    finally:
        core.model, core.overlap = watched.model, overlap
    return watched, walls


def all_decode(watched: Watched, requests: int) -> list[int]:
    """The steps between the last prompt (prompts come in over several steps) and the first end."""
    return [i for i, tokens in enumerate(watched.tokens) if tokens == requests][2:-2]


def decode_steps(engine: Engine, requests: int, prompt: int, steps: int) -> Row:
    """Medians over the steps in which all `requests` decode, whose contexts begin with `prompt` tokens."""
    watched, walls = watched_steps(engine, requests, prompt, steps, timed=True)
    measured = all_decode(watched, requests)
    times = [watched.times[i] for i in measured]
    host, wait, device = (statistics.median(values) * 1e6 for values in zip(*times, strict=True))
    wall = statistics.median(walls[i] for i in measured) * 1e6
    row: Row = {
        "requests": requests,
        "context": prompt + steps // 2 + 20,
        "measured": len(times),
        "step_us": wall,
        "queue_us": host,
    }
    row |= {"wait_us": wait, "device_us": device, "idle_us": wall - device, "python_us": wall - host - wait}
    watched, walls = watched_steps(engine, requests, prompt, steps, timed=False)
    row["overlapped_us"] = statistics.median(walls[i] for i in all_decode(watched, requests)) * 1e6
    return {name: round(value, 1) if isinstance(value, float) else value for name, value in row.items()}


def profile(engine: Engine, requests: int, prompt: int, folder: Path, steps: int = 4) -> list[Row]:
    """Device time by kernel, a step, over `steps` decode steps; `folder` is for a file in between."""
    from torch.profiler import ProfilerActivity
    from torch.profiler import profile as profiler

    params = SamplingParams(temperature=0.6 if requests > 1 else 0, max_tokens=steps + 60, ignore_eos=True)
    vocabulary = engine.model.config.vocab_size
    engine.clear_prefix_cache()
    handles = [engine.submit([(31 * i + j) % vocabulary for j in range(prompt)], params) for i in range(requests)]
    while handles[-1].outputs[0].request.output[4:] == []:
        engine.step()
    with profiler(activities=[ProfilerActivity.CUDA]) as found:
        for _ in range(steps):
            engine.step()
    for handle in handles:
        engine.cancel(handle)
    engine.step()
    trace = folder / f"trace_{requests}.json"
    found.export_chrome_trace(str(trace))
    spent: dict[str, list[float]] = {}
    events = json.loads(trace.read_text())["traceEvents"]
    trace.unlink()
    # A kernel may start early and wait for the one before: what both take counts for that one alone.
    last = 0.0
    for event in sorted(
        (e for e in events if e.get("cat") in ("kernel", "gpu_memcpy", "gpu_memset")), key=lambda e: float(e["ts"])
    ):
        end = event["ts"] + event["dur"]
        spent.setdefault(event["name"][:160], []).append(max(0.0, end - max(event["ts"], last)))
        last = max(last, end)
    rows = [
        {"kernel": name, "launches": len(us) / steps, "us": round(sum(us) / steps, 2)} for name, us in spent.items()
    ]
    return sorted(rows, key=lambda row: -row["us"])


def main() -> None:
    """Run every part that fits the device."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--json", type=Path, required=True)
    parser.add_argument("--requests", type=int, nargs="+", default=[256, 64, 1])
    parser.add_argument("--prompt", type=int, default=512)
    parser.add_argument("--steps", type=int, default=40)
    parser.add_argument("--presets", nargs="*", default=["single", "nano-vllm"], help="eager; captured: single alone")
    add_arguments(parser)
    options = parser.parse_args()
    result: Row = {"date": time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime()), "command": " ".join(sys.argv)}

    def record(name: str, work: Callable[..., Any], *arguments: Any) -> Any:
        start = time.perf_counter()
        try:
            value = work(*arguments)
        except Exception as error:  # the other parts are still wanted
            value = f"{type(error).__name__}: {error}"
        result[name] = value
        result.setdefault("seconds", {})[name] = round(time.perf_counter() - start, 2)
        options.json.write_text(json.dumps(result, indent=1) + "\n")
        print(f"{name}: {json.dumps(value)[:1500]}", flush=True)
        return value

    start = time.perf_counter()
    engine = launch_from(options).engine()
    model: Qwen3Model = engine.model  # type: ignore[assignment]
    result |= environment(engine) | {"ready_s": round(time.perf_counter() - start, 1), "captured": len(model.captured)}
    cpu = model.device.is_host

    def presets(names: list[str], runs: int) -> Row:
        return {name: run(engine, PRESETS[name], runs=runs, progress=False) for name in names}

    def steps() -> list[Row]:
        return [decode_steps(engine, n, options.prompt, options.steps) for n in options.requests]

    way = "captured" if model.captured else "eager"
    if model.captured:
        record("captured presets", presets, [name for name in options.presets if name == "single"], 3)
        record("captured steps", steps)
    graphs, model._graphs = model._graphs, None
    record("eager presets", presets, [name for name in options.presets if name == "single"], 2)
    record("eager steps", steps)
    record("eager nano-vllm", presets, [name for name in options.presets if name != "single"], 1)
    if not cpu:
        model._graphs = graphs
        for n in options.requests:
            record(f"{way} kernels at {n}", profile, engine, n, options.prompt, options.json.parent)


if __name__ == "__main__":
    main()
