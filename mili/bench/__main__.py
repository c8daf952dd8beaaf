"""The command line of the benchmarks."""

import argparse
import asyncio
import json
import os
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

from mili.bench import serving, throughput
from mili.bench.report import environment, plot_serving, table, write_json
from mili.console import run
from mili.engine import Engine
from mili.errors import ConfigError
from mili.launch import add_arguments, launch_from


def pair(text: str) -> tuple[int, int]:
    """A range of whole numbers from the command line: "100:500", or one number."""
    low, _, high = text.partition(":")
    try:
        found = int(low), int(high or low)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is no range: write 100:500 or 100") from None
    if not 1 <= found[0] <= found[1]:
        raise argparse.ArgumentTypeError(f"{text!r} is no range: it must rise from 1 or more")
    return found


def rates(text: str) -> list[float | None]:
    """Arrival rates from the command line: "1,2,inf"."""
    try:
        found = [float(part) for part in text.split(",")]
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} are no rates: write numbers such as 1,2,inf") from None
    if any(not rate > 0 for rate in found):
        raise argparse.ArgumentTypeError(f"{text!r} are no rates: they must be above 0")
    return [None if rate == float("inf") else rate for rate in found]


def parser() -> argparse.ArgumentParser:
    """All options."""
    root = argparse.ArgumentParser(prog="python -m mili.bench", description="Measure speed on this machine.")
    commands = root.add_subparsers(dest="command", required=True)
    offline = commands.add_parser("throughput", help="all requests at once: tokens per second")
    offline.add_argument("--preset", choices=throughput.PRESETS, default="nano-vllm")
    offline.add_argument("--requests", type=int, help="instead of the preset's number")
    offline.add_argument("--input", type=pair, help="prompt tokens, LEAST:MOST, instead of the preset's")
    offline.add_argument("--output", type=pair, help="output tokens, LEAST:MOST, instead of the preset's")
    offline.add_argument("--runs", type=int, default=1, help="runs; the median one is reported (default 1)")
    online = commands.add_parser("serving", help="Poisson arrivals: what users see")
    online.add_argument("--rate", type=rates, default=[1.0], help="requests/s, several with commas; inf: at once")
    online.add_argument("--requests", type=int, default=64)
    online.add_argument("--input", type=pair, default=(100, 500), help="prompt tokens, LEAST:MOST (default 100:500)")
    online.add_argument("--output", type=pair, default=(32, 128), help="output tokens, LEAST:MOST (default 32:128)")
    online.add_argument("--shared-prefix", type=int, default=0, help="tokens common to all prompts (default 0)")
    online.add_argument("--temperature", type=float, default=0.0)
    online.add_argument("--seed", type=int, default=0)
    online.add_argument("--goal-ttft", type=float, default=1000.0, help="goodput: first token within, ms (1000)")
    online.add_argument("--goal-tpot", type=float, default=100.0, help="goodput: each further token, ms (100)")
    online.add_argument("--url", help="a running server instead of an engine in this process (MILI_API_KEY: its key)")
    online.add_argument("--url-vocab", type=int, default=1000, help="with --url: token ids are drawn below this")
    online.add_argument("--plot", type=Path, help="write a figure to this file (.png, .svg)")
    for command in (offline, online):
        command.add_argument("--json", type=Path, help="write the results to this file")
        command.add_argument("--quiet", action="store_true", help="no progress bar")
        add_arguments(command)
    return root


def run_throughput(options: argparse.Namespace) -> dict[str, Any]:
    """Run and print the offline benchmark."""
    preset = throughput.PRESETS[options.preset]
    preset = replace(
        preset,
        requests=options.requests or preset.requests,
        prompt=options.input or preset.prompt,
        output=options.output or preset.output,
    )
    engine = launch_from(options).engine()
    result = throughput.run(engine, preset, runs=options.runs, progress=not options.quiet)
    for name, value in result.items():
        print(f"{name.replace('_', ' '):<28}{value:>14,}" if value is not None else f"{name:<28}{'-':>14}")
    return {
        "benchmark": "throughput",
        "preset": options.preset,
        "model": name_of(options),
        **environment(engine),
        **result,
    }


def run_serving(options: argparse.Namespace) -> dict[str, Any]:
    """Run and print the serving benchmark at each rate."""
    work = serving.Workload(
        options.requests, options.input, options.output, options.shared_prefix, options.temperature, options.seed
    )
    engine: Engine | None = None
    if options.url:
        model = options.model or "default"
        client = serving.http_client(options.url, model, options.temperature, os.environ.get("MILI_API_KEY"))
        requests = work.make(options.url_vocab)
    else:
        engine = launch_from(options).engine().start()
        client = serving.engine_client(engine, options.temperature)
        requests = work.make(engine.model.config.vocab_size)
    runs, samples = [], []
    for rate in options.rate:
        if engine is not None:
            engine.clear_prefix_cache()
        records = asyncio.run(serving.drive(client, requests, work.arrivals(rate)))
        errors = [record.error for record in records if record.error is not None]
        if errors:
            print(f"{len(errors)} of {len(records)} requests failed; the first: {errors[0]}", file=sys.stderr)
        if len(errors) == len(records):
            raise ConfigError("no request succeeded; see the message above")
        summary, sample = serving.summarise(records, rate, options.goal_ttft / 1e3, options.goal_tpot / 1e3)
        runs.append(summary)
        samples.append(sample)
    if engine is not None:
        engine.stop()
    totals = (
        "requests failed seconds requests_per_second goodput_requests_per_second output_tokens_per_second cached_tokens"
    )
    for summary in runs:
        rate = summary["rate"]
        print(f"\nArrivals: {'all at once' if rate is None else f'{rate:g} requests/s'}")
        print("  ".join(f"{name.replace('_', ' ')} {summary[name]:,}" for name in totals.split()))
        print(table([{"ms": name[:-3], **summary[name]} for name in ("ttft_ms", "itl_ms", "tpot_ms", "e2e_ms")]))
    if options.plot:
        plot_serving(options.plot, runs, samples)
    goals = {"goal_ttft_ms": options.goal_ttft, "goal_tpot_ms": options.goal_tpot}
    return {"benchmark": "serving", "model": name_of(options), **environment(engine), **goals, "runs": runs}


def name_of(options: argparse.Namespace) -> str:
    """The model as the record calls it."""
    return f"{options.model_shape} (random weights)" if options.model_shape else options.model or "default"


def main(arguments: list[str] | None = None) -> int:
    """Run one benchmark."""
    options = parser().parse_args(arguments)
    result = run_throughput(options) if options.command == "throughput" else run_serving(options)
    if options.json:
        write_json(options.json, result)
    print(json.dumps(result))
    return 0


if __name__ == "__main__":
    run(main)
