"""`Engine`: the model as a service inside one process, for programs and for the HTTP server.

    engine = Engine(model, tokenizer, cache)
    outputs = engine.generate(["Once upon a time"], SamplingParams(max_tokens=64))    # steps run in this thread
    print(outputs[0].text)

    with engine:                                                                       # a thread runs the steps
        handle = engine.submit("Once upon a time", SamplingParams(max_tokens=64))
        for delta in handle.stream():                                                  # or: async for delta in handle
            print(delta.text, end="")

Any thread may call `submit`, `cancel`, `call` and read `metrics`; only the thread that steps touches the model.
"""

import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar, cast

from tqdm import tqdm

from mili.core import EngineCore
from mili.errors import ConfigError, EngineStoppedError, QueueFullError, RequestError
from mili.events import StepFeed, snapshot
from mili.handle import RequestHandle, RequestOutput
from mili.intake import Intake
from mili.interfaces import Cache, Model, Tokenizer
from mili.metrics import EngineMetrics
from mili.radix_cache import Policy, RadixAttentionCache
from mili.request import Request
from mili.sampling import SamplingParams
from mili.scheduler import ContinuousBatchScheduler
from mili.step_thread import StepThread
from mili.waiting import QueuePolicy

T = TypeVar("T")
Prompt = str | Sequence[int]


@dataclass(frozen=True, slots=True)
class EngineOptions:
    """Settings of the engine; device, dtype and number of pages belong to the model and the cache.

    max_running       requests computed at the same time
    max_batch_tokens  token budget of a step: longer prompts are cut into chunks; at least max_running
    max_context       tokens of a request, prompt and output; None: what the model and the cache allow
    max_queue         requests that may wait; `submit` raises QueueFullError beyond it; None: no bound
    prefix_caching    keep finished prefixes and share them
    eviction          what leaves the prefix cache first: lru, lfu, fifo or token_limit
    max_cached_tokens bound of the prefix cache, with token_limit
    policy            who is admitted next: fcfs or prefix_aware
    decode_buckets    row counts that decode steps are padded to, for captured graphs on a GPU
    overlap           prepare the next step while the device computes this one (mili/core.py); on a GPU alone
    """

    max_running: int = 256
    max_batch_tokens: int = 2048
    max_context: int | None = None
    max_queue: int | None = None
    prefix_caching: bool = True
    eviction: Policy = "lru"
    max_cached_tokens: int | None = None
    policy: QueuePolicy = "fcfs"
    decode_buckets: tuple[int, ...] = ()
    overlap: bool = True


class Engine:
    """Runs requests on `model` with the pages of `cache`.

    tokenizer: None serves token ids only, and texts stay empty. No thread runs before `start` (or `with engine:`);
    until then `generate` and reading a handle's `stream` run the steps.
    """

    def __init__(
        self, model: Model, tokenizer: Tokenizer | None, cache: Cache, options: EngineOptions | None = None
    ) -> None:
        self.options = o = options or EngineOptions()
        self.model = model
        self.tokenizer = tokenizer
        longest = model.config.max_position_embeddings
        if o.max_context is not None and not 0 < o.max_context <= longest:
            raise ConfigError(f"max_context is {o.max_context}: the model allows 1 to {longest} tokens")
        tree = None
        if o.prefix_caching:
            tree = RadixAttentionCache(cache.allocator, cache.page_size, o.eviction, o.max_cached_tokens)
        self._scheduler = ContinuousBatchScheduler(
            cache.allocator,
            cache.page_size,
            max_running=o.max_running,
            max_batch_tokens=o.max_batch_tokens,
            max_context=o.max_context or longest,
            tree=tree,
            policy=o.policy,
            decode_buckets=o.decode_buckets,
        )
        self.max_context = self._scheduler.max_context
        self._core = EngineCore(model, cache, self._scheduler, o.overlap)
        self._core.delivery.on_end = self._forget
        self._intake = Intake(model.config, tokenizer, self.max_context)
        self._open: dict[str, RequestHandle] = {}
        self._change = threading.Condition()  # guards _open and _accepting
        self._accepting = True
        self._thread = StepThread(self._core.step, self._fail)
        self.failure: BaseException | None = None
        self.recommended: dict[str, float | int] = {}  # sampling values of the model's makers, for who wants them

    def submit(
        self,
        prompt: Prompt,
        params: SamplingParams | None = None,
        *,
        priority: int = 0,
        request_id: str | None = None,
    ) -> RequestHandle:
        """Queue a prompt (text or token ids) and return its handle at once. Lower `priority` is served first.

        Raises RequestError for a prompt or values that cannot be served, QueueFullError beyond `max_queue`,
        EngineStoppedError after `drain` or `stop`.
        """
        handle, states = self._intake.prepare(prompt, params or SamplingParams(), priority, request_id, self)
        with self._change:
            if not self._accepting:
                raise EngineStoppedError("the engine is shutting down or has failed: it takes no more requests")
            if handle.id in self._open:
                raise RequestError(f"request_id {handle.id!r} is in use: give each request its own")
            waiting = len(self._scheduler.waiting) + self._thread.pending
            if self.options.max_queue is not None and waiting >= self.options.max_queue:
                raise QueueFullError(
                    f"{waiting} requests are waiting and max_queue is {self.options.max_queue}: try later"
                )
            self._open[handle.id] = handle
            self._thread.post(lambda: self._core.add(handle, states))
        return handle

    def cancel(self, handle: RequestHandle | str) -> None:
        """End a request, by handle or id, before the next step: its finish reason is "cancel" and its pages are free.

        Does nothing if it has ended or is unknown.
        """
        found = self._open.get(handle) if isinstance(handle, str) else handle
        if found is not None and not found.done:
            self._thread.post(lambda: self._core.end(found, "cancel"))

    def generate(
        self,
        prompts: Prompt | Sequence[Prompt],
        params: SamplingParams | Sequence[SamplingParams] | None = None,
        *,
        progress: bool = True,
    ) -> list[RequestOutput]:
        """Complete prompts and wait for all: one output for each, in order, with a progress bar on stderr.

        prompts: a text, a list of token ids, or a list of either. params: one for all, or one for each.
        Raises RuntimeError with the reason if the model failed on one of them.
        """
        many = _as_list(prompts)
        each = list(params) if isinstance(params, Sequence) else [params] * len(many)
        if len(each) != len(many):
            raise RequestError(f"{len(each)} sampling params for {len(many)} prompts: give one for all or one for each")
        handles: list[RequestHandle] = []
        try:
            handles += [self.submit(prompt, p) for prompt, p in zip(many, each, strict=True)]
            with tqdm(total=len(handles), desc="Requests", unit="", dynamic_ncols=True, disable=not progress) as bar:
                self._wait(handles, bar)
        except BaseException:
            for handle in handles:
                self.cancel(handle)
            if not self._thread.running:
                self._thread.run_posted()
            raise
        outputs = [handle.result() for handle in handles]
        for output in outputs:
            if output.error is not None:
                raise RuntimeError(f"request {output.id}: {output.error}")
        return outputs

    def start(self) -> "Engine":
        """Start the thread that runs the steps."""
        if not self._thread.running:
            self._accepting = True
            self._thread.start("mili-engine")
        return self

    def drain(self, timeout: float | None = None) -> bool:
        """Take no more requests and wait until all are done; False if that takes longer than `timeout` seconds."""
        with self._change:
            self._accepting = False
            if self._thread.running:
                return self._change.wait_for(lambda: not self._open, timeout)
        while self.step():
            pass
        return True

    def stop(self) -> None:
        """Take no more requests, cancel what is open, and end the thread."""
        with self._change:
            self._accepting = False
        for handle in list(self._open.values()):
            self.cancel(handle)
        self._thread.stop()

    def __enter__(self) -> "Engine":
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.stop()

    def step(self) -> bool:
        """Run one step in this thread, where no other has been started; False if there was nothing to do."""
        self._thread.run_posted()
        return self._core.step()

    def pump(self) -> bool:
        """A step in this thread, if none has been started; False if there is one, or nothing to do."""
        return not self._thread.running and self.step()

    def check(self, request: Request) -> None:
        """Raise RequestError if a request could not run even alone."""
        self._scheduler.check(request)

    @property
    def decode_shapes(self) -> list[tuple[int, int]]:
        """(rows, page-table width) that decode steps are padded to; empty without decode_buckets."""
        return [(rows, width) for rows in self.options.decode_buckets for width in self._scheduler.decode_widths]

    @property
    def metrics(self) -> EngineMetrics:
        """Counters, gauges and histograms since the engine was made."""
        return self._core.metrics

    @property
    def accepting(self) -> bool:
        """Whether new requests are taken."""
        return self._accepting

    def call(self, function: Callable[[], T], timeout: float = 10.0) -> T:
        """Run `function` between two steps and return its result. Raises TimeoutError."""
        return self._thread.call(function, timeout)

    def snapshot(self, max_nodes: int = 500) -> dict[str, Any]:
        """Pages, requests and the radix tree as they stand between two steps (`mili.events.snapshot`)."""
        return self.call(lambda: snapshot(self._scheduler, max_nodes))

    def clear_prefix_cache(self) -> int:
        """Forget all prefixes that no running request uses; returns the pages that became free."""
        tree = self._scheduler.tree
        return 0 if tree is None else self.call(tree.flush)

    def subscribe(self, interval: float = 0.0) -> StepFeed:
        """A feed of the steps from now on, at most one event each `interval` seconds; `unsubscribe` ends it."""
        feed = StepFeed(interval)
        self._core.feeds = [*self._core.feeds, feed]
        return feed

    def unsubscribe(self, feed: StepFeed) -> None:
        """End a feed."""
        self._core.feeds = [other for other in self._core.feeds if other is not feed]

    def _fail(self, error: BaseException) -> None:
        """A bug of the engine itself: nobody may be left waiting for an answer that never comes."""
        self.failure = error
        with self._change:
            self._accepting = False
            for handle in self._open.values():
                self._core.abandon(handle, f"the engine failed: {type(error).__name__}: {error}")
            self._open.clear()
            self._change.notify_all()

    def _forget(self, handle: RequestHandle) -> None:
        with self._change:
            self._open.pop(handle.id, None)
            self._change.notify_all()

    def _wait(self, handles: Sequence[RequestHandle], bar: "tqdm[Any]") -> None:
        """Run or await steps until all handles are done, and show how far that is."""
        start, before, shown = time.perf_counter(), self.metrics.generated_tokens, 0.0
        for handle in handles:
            while not handle.done:
                if self._thread.running:
                    with self._change:
                        self._change.wait_for(lambda: handle.done, 0.1)  # noqa: B023
                elif not self.step():
                    raise RuntimeError(f"request {handle.id} is open, but the scheduler has nothing to do")
                now = time.perf_counter()
                if not bar.disable and now > shown + 0.1:
                    shown = now
                    tokens = self.metrics.generated_tokens - before
                    bar.set_postfix_str(f"{tokens} tokens, {tokens / (now - start):.0f} tokens/s", refresh=False)
                    bar.update(sum(other.done for other in handles) - bar.n)
        bar.update(len(handles) - bar.n)


def _as_list(prompts: Prompt | Sequence[Prompt]) -> list[Prompt]:
    """One prompt as a list of one; a flat list of token ids is one prompt."""
    if isinstance(prompts, str) or (len(prompts) and not isinstance(prompts[0], str | Sequence)):
        return [cast(Prompt, prompts)]
    return list(cast(Sequence[Prompt], prompts))
