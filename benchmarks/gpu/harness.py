"""How the GPU benchmark times, checks and reports: CUDA graphs on the kernels' stream, events, medians, poison."""

from __future__ import annotations

import math
import statistics
import time
import traceback
from collections.abc import Callable
from typing import Any

import torch

BF16, F16, F32 = torch.bfloat16, torch.float16, torch.float32
CACHE_BYTES = 150e6
"""Inputs rotate among buffers of at least this size in all, three times the L2 cache of an H100."""


ROUNDS = 5
"""How often each thing is timed; the median counts."""
REPLAY_SECONDS = 2e-4
"""What a captured graph takes at least: starting one costs some 20 microseconds, which a shorter one would measure."""


class Report:
    """Collects the results of checks and timings; a failure is recorded and the run goes on."""

    def __init__(self) -> None:
        self.checks: list[dict[str, Any]] = []
        self.timings: list[dict[str, Any]] = []
        self.errors: list[dict[str, str]] = []
        self.start = time.perf_counter()

    def attempt(self, name: str, work: Callable[..., Any], *args: Any) -> Any:
        """Run `work(*args)`; an exception is recorded under `name` and printed in one line."""
        try:
            return work(*args)
        except Exception as error:
            self.errors.append({"name": name, "error": f"{type(error).__name__}: {error}"[:600]})
            last = traceback.extract_tb(error.__traceback__)[-1]
            print(f"FAILED {name}: {type(error).__name__}: {str(error)[:300]} ({last.name}:{last.lineno})", flush=True)
            return None

    def check(self, name: str, got: torch.Tensor, want: torch.Tensor, bound: float) -> None:
        """Record the relative error ||got - want|| / ||want|| and the largest elementwise error; NaN never passes."""
        got64, want64 = got.double().flatten(), want.double().flatten()
        error = float((got64 - want64).norm() / want64.norm().clamp_min(1e-30))
        largest = float((got64 - want64).abs().max())
        passed = error <= bound
        self.checks.append({"name": name, "error": error, "largest": largest, "bound": bound, "passed": passed})
        if not passed:
            bad = (~((got64 - want64).abs() <= 1e-2 * want64.abs().max())).nonzero().flatten()
            first = [int(i) for i in bad[:6]]
            print(
                f"WRONG {name}: error {error:.3g} > {bound:g}, {len(bad)} bad of {len(got64)}, first {first}",
                flush=True,
            )

    def equal(self, name: str, got: torch.Tensor, want: torch.Tensor) -> None:
        """Record whether two tensors are equal bit for bit."""
        passed = bool(torch.equal(got, want))
        self.checks.append({"name": name, "passed": passed, "bound": 0.0})
        if not passed:
            where = (got != want).nonzero()
            print(f"WRONG {name}: {len(where)} of {got.numel()} differ, first {where[0].tolist()}", flush=True)

    def timing(self, **row: Any) -> None:
        """Record one timing."""
        self.timings.append(row)


def poison(shape: Any, dtype: torch.dtype) -> torch.Tensor:
    """An output full of NaN (integers: -7), so that elements never written show."""
    filler = float("nan") if dtype.is_floating_point else -7
    return torch.full(shape, filler, dtype=dtype, device="cuda")


def randn(*shape: int, dtype: torch.dtype = BF16, scale: float = 1.0) -> torch.Tensor:
    """Normal random numbers on the GPU."""
    return (torch.randn(*shape, device="cuda") * scale).to(dtype)


def int32(values: list[int]) -> torch.Tensor:
    """An int32 tensor on the GPU."""
    return torch.tensor(values, dtype=torch.int32, device="cuda")


def copies_for(bytes_each: float, most: int = 64) -> int:
    """How many buffer sets to rotate among so that they do not fit in the cache."""
    return max(1, min(most, int(CACHE_BYTES // max(bytes_each, 1)) + 1))


class Timer:
    """Times work on one stream by replaying a captured CUDA graph; falls back to launching when capture fails."""

    def __init__(self, stream: torch.cuda.Stream) -> None:
        self.stream = stream

    def seconds(self, work: Callable[[int], object], copies: int, *, budget: float = 0.03) -> float:
        """Median seconds of one `work(i)`, i rotating over `copies` buffer sets."""
        sample = self.prepare(work, copies, budget=budget)
        return float(statistics.median(sample() for _ in range(ROUNDS)))

    def prepare(self, work: Callable[[int], object], copies: int, *, budget: float = 0.03) -> Callable[[], float]:
        """A function that takes one round of ROUNDS: the seconds of one `work(i)`."""
        torch.cuda.synchronize()
        with torch.cuda.stream(self.stream):
            for i in range(copies):
                work(i)
            self.stream.synchronize()
            passes = 1
            run = self._passes(work, copies, passes)
            run()
            once = self._elapsed(run, 1)
            if once < REPLAY_SECONDS:
                passes = math.ceil(REPLAY_SECONDS / once)
                run = self._passes(work, copies, passes)
                run()
                once = self._elapsed(run, 1)
        times = max(1, min(200, int(budget / ROUNDS / once)))

        def sample() -> float:
            with torch.cuda.stream(self.stream):
                return self._elapsed(run, times) / times / passes / copies

        return sample

    def _elapsed(self, run: Callable[[], None], times: int) -> float:
        """Seconds on the GPU of `times` calls."""
        begin, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
        begin.record()
        for _ in range(times):
            run()
        end.record()
        end.synchronize()
        return max(float(begin.elapsed_time(end)) * 1e-3, 1e-6)

    def _passes(self, work: Callable[[int], object], copies: int, passes: int) -> Callable[[], None]:
        """A call that does `work` on all buffer sets `passes` times: a captured graph where capture works."""

        def calls(_: int) -> None:
            for i in range(copies):
                work(i)

        def launch() -> None:
            for p in range(passes):
                calls(p)

        return self._graph(calls, passes) or launch

    def _graph(self, work: Callable[[int], object], copies: int) -> Callable[[], None] | None:
        graph = torch.cuda.CUDAGraph()
        try:
            graph.capture_begin(capture_error_mode="relaxed")
            try:
                for i in range(copies):
                    work(i)
            finally:
                graph.capture_end()
        except Exception as error:
            print(f"capture failed, launching instead: {str(error)[:200]}", flush=True)
            torch.cuda.synchronize()
            return None
        replay: Callable[[], None] = graph.replay
        return replay


def table(rows: list[dict[str, Any]], columns: list[str]) -> str:
    """Rows as text; floats with three significant digits."""
    cells = [columns] + [[_cell(row.get(c)) for c in columns] for row in rows]
    widths = [max(len(r[i]) for r in cells) for i in range(len(columns))]
    return "\n".join("  ".join(v.rjust(w) for v, w in zip(r, widths, strict=True)) for r in cells)


def _cell(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.3g}" if abs(value) < 1000 else f"{value:.0f}"
    return "-" if value is None else str(value)
