"""All that is to be known on a GPU, in one run: `python -m benchmarks.gpu.everything OUT [--only SECTION ...]`.

Sections run in the order of their worth, each in processes of its own with a time limit; those of one row at the same
time, since they check and do not time. Results are in OUT/results (JSON), logs in OUT/logs; after every row both go
into OUT/everything.tar.gz, so that a run which is cut off has lost nothing. `--list` prints the commands.

`--precompiled FOLDER` saves compiling (benchmarks/gpu/precompile.py). `--cpu` runs small versions of what can run
without a GPU.
"""

from __future__ import annotations

import argparse
import os
import shlex
import shutil
import signal
import subprocess
import sys
import tarfile
import time
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
QWEN = ["--model-shape", "qwen3-0.6b", "--random-weights", "--device", "gpu"]
TINY = ["--model-shape", "tiny", "--random-weights", "--device", "cpu", "--dtype", "float32", "--max-context", "256"]
TINY += ["--max-running", "8", "--num-pages", "100", "--max-batch-tokens", "64"]
# MAX takes most of the GPU's memory unless told otherwise.
SHARED = {"MODULAR_DEVICE_CONTEXT_MEMORY_MANAGER_SIZE_PERCENT": "8"}
SANITIZER = next(
    (path for path in ("/usr/local/cuda/bin/compute-sanitizer",) if Path(path).exists()), "compute-sanitizer"
)


@dataclass(frozen=True)
class Section:
    """One process: a module and its arguments, or (command) any program; `seconds` it may take."""

    name: str
    arguments: list[str]
    seconds: int
    precompiled: bool = True
    before: list[str] = field(default_factory=list)
    environment: dict[str, str] = field(default_factory=dict)


def rows(results: Path, cpu: bool, extra: list[str]) -> list[list[Section]]:
    """The sections; those of one row run at the same time."""
    shape = [*(TINY if cpu else QWEN), *extra]
    small = ["--requests", "4", "--input", "4:20", "--output", "4:16"] if cpu else []
    one = ["--output", "4:16"] if cpu else []
    bench = ["mili.bench", "throughput", "--quiet"]
    steps = ["--requests", "4", "1", "--prompt", "20", "--steps", "10"] if cpu else []
    engine = ["tests/engine/test_real_engine.py"]
    device = ["--device", "cpu" if cpu else "gpu"]
    # The project's own options need nbval, which that machine does not have. All failures are wanted: time is short.
    pytest = ["pytest", "-o", "addopts=-q", "-p", "no:cacheprovider", "--tb=short", *device]
    dtypes = {"float32": "float32"}
    if not cpu:
        dtypes |= {"bfloat16": "bfloat16", "float16": "float16 and not bfloat16"}
    files = [f"tests/kernels/test_{name}.py" for name in ("rows", "linear", "rope", "attention", "sample")]
    kernels = [
        Section(f"pytest_{dtype}", [*pytest, *files, "-k", which], 150, environment=SHARED)
        for dtype, which in dtypes.items()
    ]
    sanitizer = [
        Section(
            f"{tool}_{check}",
            ["benchmarks.gpu.sanitize", str(results / f"{tool}_{check}.json"), f"check_{check}"],
            150,
            precompiled=False,
            before=[SANITIZER, "--tool", tool, "--kernel-name", "kernel_substring=mili_", "--print-limit", "20",
                    "--error-exitcode", "9",
                    "--launch-timeout", "60"],
            environment=SHARED,
        )
        for tool in ("memcheck", "racecheck")
        # A process each: a fault ends one alone. Races within the library's kernels are not this project's.
        for check in ("rowwise", "rope", "products", "wgmma", "library", "attention", "sample")
        if (tool, check) != ("racecheck", "library")
    ]  # fmt: skip
    json = "--json"
    throughput = [*bench, "--preset", "nano-vllm", *shape, *small, json, str(results / "engine_nano-vllm.json")]
    single = [*bench, "--preset", "single", *shape, *one, json, str(results / "engine_single.json")]
    watched = ["benchmarks.gpu.engine_steps", *shape, *steps, json, str(results / "engine_steps.json")]
    watched += ["--presets"] if cpu else []
    ladders = ["benchmarks.ladder", "all", "--device", "gpu", json, str(results / "ladders.json")]
    plan = [
        [Section("nano-vllm", throughput, 130)],
        [Section("steps", watched, 150)],
        [*kernels, Section("engine_tests", [*pytest, *engine], 150, environment=SHARED)],
        [
            *([] if cpu else sanitizer),
            Section("matmul", ["benchmarks.gpu.max_matmul", str(results / "max_matmul.json")], 150, False,
                    environment=SHARED),
        ],
        [Section("single", single, 90)],
        [Section("ladders", ladders, 90, False)],
        [Section("cold", [*single[:-1], str(results / "engine_single_cold.json")], 120, False)],
    ]  # fmt: skip
    return plan


def probe(logs: Path, precompiled: Path | None, cpu: bool) -> tuple[Path | None, list[str]]:
    """What works here: (folder of precompiled graphs, engine options), found with a model that takes no time."""
    small = [*TINY, "--device", "cpu" if cpu else "gpu", "--preset", "single", "--input", "8", "--output", "8"]
    for folder, extra in [(precompiled, []), (None, []), (precompiled, ["--no-capture"]), (None, ["--no-capture"])]:
        section = Section("probe", ["mili.bench", "throughput", "--quiet", *small, *extra], 60)
        if run([section], logs, folder) == 0:
            print(f"   precompiled graphs: {folder}; engine options: {extra}", flush=True)
            return folder, extra
    return None, []


def start(section: Section, logs: Path, precompiled: Path | None) -> tuple[subprocess.Popen[bytes], float]:
    """Start a section's process, in a process group of its own."""
    command = [*section.before, sys.executable, "-m"]
    if section.precompiled and precompiled is not None:
        command += ["benchmarks.gpu.precompile", "use", str(precompiled)]
    command += section.arguments
    environment = os.environ | {"PYTHONUNBUFFERED": "1", "PYTHONPATH": f"{ROOT}:{os.environ.get('PYTHONPATH', '')}"}
    with (logs / f"{section.name}.txt").open("wb") as log:
        log.write(f"$ {shlex.join(command)}\n".encode())
        log.flush()
        process = subprocess.Popen(
            command, stdout=log, stderr=subprocess.STDOUT, cwd=ROOT, start_new_session=True,
            env=environment | section.environment,
        )  # fmt: skip
    return process, time.monotonic()


def run(row: list[Section], logs: Path, precompiled: Path | None) -> int:
    """Run the sections of a row and say how each ended, with the end of its log; returns how many failed."""
    failed = 0
    started = []
    try:
        for section in row:
            try:
                started.append((section, *start(section, logs, precompiled)))
            except OSError as error:  # a program that is not installed
                failed += 1
                print(f"\n== {section.name}: {error}", flush=True)
        for section, process, since in started:
            try:
                code: int | str = process.wait(max(0.1, section.seconds - (time.monotonic() - since)))
            except subprocess.TimeoutExpired:
                stop(process)
                code = "out of time"
            failed += code != 0
            text = (logs / f"{section.name}.txt").read_text(errors="replace").replace("\r", "\n").splitlines()
            print(f"\n== {section.name}: {code} after {time.monotonic() - since:.0f} s", flush=True)
            shown = [line for line in text if "still at it" not in line and "it/s" not in line]
            for line in shown[-6 if code == 0 else -14 :]:
                print(f"   {line[:300]}", flush=True)
    finally:
        for _, process, _ in started:
            stop(process)
    return failed


def stop(process: subprocess.Popen[bytes]) -> None:
    """End a section's process and what it has started, if it still runs."""
    if process.poll() is None:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def keep(out: Path, folders: list[Path]) -> None:
    """Write the archive of all that there is so far."""
    with tarfile.open(out / "everything.tar.gz", "w:gz") as archive:
        for folder in folders:
            archive.add(folder, folder.name)


def main() -> None:
    """Run all sections, or those of --only."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("out", type=Path)
    parser.add_argument("--only", nargs="+")
    parser.add_argument("--precompiled", type=Path)
    parser.add_argument("--cpu", action="store_true")
    parser.add_argument("--list", action="store_true")
    options = parser.parse_args()
    results, logs = options.out / "results", options.out / "logs"
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("cut off"))  # so that what runs is ended too
    begin = time.monotonic()
    precompiled, extra = options.precompiled, list[str]()
    if not options.list:
        shutil.rmtree(results, ignore_errors=True)
        for folder in (results, logs):
            folder.mkdir(parents=True, exist_ok=True)
        precompiled, extra = probe(logs, precompiled, options.cpu)
    plan = rows(results, options.cpu, extra)
    if options.cpu:
        plan = [[section for section in row if section.name != "ladders"] for row in plan]
    if options.only:
        plan = [[section for section in row if section.name in options.only] for row in plan]
    if options.list:
        for row in filter(None, plan):
            for section in row:
                print(f"{section.name} ({section.seconds} s): {shlex.join([*section.before, *section.arguments])}")
        return
    for row in filter(None, plan):
        try:
            run(row, logs, precompiled)
        finally:
            keep(options.out, [results, logs])
        print(f"   ({time.monotonic() - begin:.0f} s in all)", flush=True)


if __name__ == "__main__":
    main()
