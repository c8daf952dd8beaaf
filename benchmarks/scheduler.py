"""What scheduling costs: microseconds of Python for a step, with a model that takes no time.

    python -m benchmarks.scheduler [--profile] [--json FILE]

A scheduler step is `schedule` (admission, pages, the batch's arrays) and `complete`; an engine step adds sampling's
shortcut, delivery to the readers, end conditions and metrics. Every request decodes at its own phase, so that pages are
allocated evenly over the steps, out of a pool that the prefix cache has filled: each new page is an eviction.
"""

import argparse
import cProfile
import json
import platform
import pstats
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mili.batch import Batch
from mili.core import EngineCore
from mili.handle import Output, RequestHandle
from mili.interfaces import Cache
from mili.kv_cache import KVCacheAllocator
from mili.radix_cache import RadixAttentionCache
from mili.request import Request
from mili.sampling import SamplingParams
from mili.scheduler import ContinuousBatchScheduler
from mili.text import TextStream

PAGE = 16
PROMPT = 600
PARAMS = SamplingParams(temperature=0, ignore_eos=True)


@dataclass
class NullConfig:
    """A model's sizes."""

    vocab_size: int = 151936
    max_position_embeddings: int = 4096
    eos_token_ids: tuple[int, ...] = (151645, 151643)


@dataclass
class NullOutput:
    """Every row's next token is 1."""

    tokens: NDArray[np.int32]

    @property
    def logits(self) -> NDArray[np.float32]:
        raise AssertionError("nobody asked for logits")


class NullModel:
    """A model that takes no time."""

    config = NullConfig()
    samples_on_device = True
    runs_ahead = True

    def forward(self, batch: Batch, _cache: Cache, _sampling: NDArray[np.float32] | None = None) -> NullOutput:
        return NullOutput(np.ones(len(batch.logit_rows), np.int32))


@dataclass
class Pool:
    """A cache without buffers."""

    num_pages: int
    page_size: int
    allocator: KVCacheAllocator


class Readerless:
    """The engine that a handle knows of."""

    def cancel(self, handle: RequestHandle) -> None: ...
    def check(self, request: Request) -> None: ...
    def pump(self) -> bool:
        return False


def fill_tree(tree: RadixAttentionCache, pages: int, nodes: int) -> None:
    """Fill the prefix cache with `pages` pages in about `nodes` nodes, below 64 common first pages."""
    rng = np.random.default_rng(0)
    each = max(1, pages // nodes)
    heads = rng.integers(10**6, 2 * 10**6, (64, PAGE), dtype=np.int32)
    while tree.pages + each < pages:
        tokens = np.concatenate([heads[rng.integers(64)], rng.integers(10**6, 2 * 10**6, each * PAGE, dtype=np.int32)])
        own = tree.allocator.allocate(each + 1)
        tree.insert(tokens, np.array(own, np.int32))
        tree.allocator.release(own)


def build(running: int, pages: int, nodes: int) -> EngineCore:
    """An engine core in which `running` requests decode and every other page is in the prefix cache."""
    pool = Pool(pages, PAGE, KVCacheAllocator(pages))
    tree = RadixAttentionCache(pool.allocator, PAGE)
    scheduler = ContinuousBatchScheduler(
        pool.allocator, PAGE, max_running=max(running, 1), max_batch_tokens=10**6, max_context=4096, tree=tree
    )
    core = EngineCore(NullModel(), pool, scheduler, overlap=False)
    rng = np.random.default_rng(1)
    for i in range(running):
        prompt = rng.integers(0, 10**5, PROMPT + i % PAGE, dtype=np.int32)
        handle = RequestHandle(str(i), [1], Readerless())
        request = Request(str(i), prompt, 3000, PARAMS)
        request.owner = output = Output(handle, 0, request, TextStream(None))
        handle.attach([output])
        core.add(handle, [None])
    core.step()
    if nodes:
        fill_tree(tree, tree.pages + pool.allocator.free, nodes)
    return core


def timed(step: Callable[[], object], steps: int) -> list[float]:
    """Seconds of each of `steps` calls."""
    seconds = []
    for _ in range(steps):
        start = time.perf_counter()
        step()
        seconds.append(time.perf_counter() - start)
    return seconds


def scheduler_step(core: EngineCore) -> None:
    """Schedule and complete, nothing else."""
    step = core.scheduler.schedule()
    assert step is not None
    core.scheduler.complete(step, np.ones(len(step.sampled), np.int32))


def measure(running: int, pages: int, nodes: int, steps: int = 300) -> dict[str, Any]:
    """Median and 99th percentile of the two kinds of step, in microseconds."""
    core = build(running, pages, nodes)
    tree = core.scheduler.tree
    assert tree is not None
    row: dict[str, Any] = {"running": running, "pages": pages, "tree_nodes": tree.nodes}
    evicted = tree.evicted_pages
    for name, step in (("scheduler", lambda: scheduler_step(core)), ("engine", core.step)):
        core.overlap = name == "engine"
        timed(step, 20)
        seconds = timed(step, steps)
        row[f"{name}_us"] = round(statistics.median(seconds) * 1e6, 1)
        row[f"{name}_p99_us"] = round(float(np.quantile(seconds, 0.99)) * 1e6, 1)
    row["evicted_pages"] = tree.evicted_pages - evicted
    return row


def admissions(prompt: int, nodes: int, count: int = 200) -> dict[str, Any]:
    """Microseconds to admit, compute and end a request whose prompt is cached but for the last page."""
    core = build(1, 100_000, nodes)
    rng = np.random.default_rng(2)
    tokens = rng.integers(0, 10**5, prompt, dtype=np.int32)
    seconds = []
    for i in range(count):
        request = Request(f"a{i}", tokens, 1, PARAMS)
        start = time.perf_counter()
        core.scheduler.add(request)
        step = core.scheduler.schedule()
        assert step is not None
        core.scheduler.complete(step, np.ones(len(step.sampled), np.int32))
        core.scheduler.finish(request, "length")
        seconds.append(time.perf_counter() - start)
    return {"prompt": prompt, "tree_nodes": nodes, "us": round(statistics.median(seconds[5:]) * 1e6, 1)}


def table(rows: list[dict[str, Any]]) -> str:
    """Rows as aligned text."""
    columns = list(rows[0])
    cells = [columns] + [[f"{row[c]:,}" for c in columns] for row in rows]
    widths = [max(len(line[i]) for line in cells) for i in range(len(columns))]
    return "\n".join("  ".join(text.rjust(width) for text, width in zip(line, widths, strict=True)) for line in cells)


def main() -> None:
    """Print the tables; with --profile, where the time goes."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--profile", action="store_true", help="profile 256 requests in 100,000 pages")
    parser.add_argument("--json", type=Path, help="write the results to this file")
    parser.add_argument("--steps", type=int, default=300, help="steps measured for each row")
    options = parser.parse_args()
    if options.profile:
        core = build(256, 100_000, 10_000)
        profile = cProfile.Profile()
        profile.runcall(timed, core.step, 1000)
        pstats.Stats(profile).sort_stats("tottime").print_stats(22)
        return
    result: dict[str, Any] = {
        "machine": platform.processor() or platform.machine(),
        "python": platform.python_version(),
    }
    for title, cases in {
        "running requests": [(n, 100_000, 10_000) for n in (1, 16, 64, 128, 256, 512)],
        "pages in the pool": [(256, n, 1_000) for n in (20_000, 100_000, 500_000)],
        "nodes in the radix tree": [(256, 200_000, n) for n in (100, 1_000, 10_000, 50_000)],
    }.items():
        rows = [measure(*case, steps=options.steps) for case in cases]
        result[title] = rows
        print(f"Cost of a step by {title}\n{table(rows)}\n")
    rows = [admissions(prompt, nodes) for prompt in (500, 2000) for nodes in (1_000, 50_000)]
    result["a request with a cached prompt"] = rows
    print(f"A request with a cached prompt, from add to finish\n{table(rows)}")
    if options.json:
        options.json.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
