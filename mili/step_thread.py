"""A thread that runs steps, and between them what other threads ask for."""

import threading
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from typing import TypeVar

T = TypeVar("T")


class StepThread:
    """Runs `step` again and again, and rests while it returns False and nothing is posted.

    on_failure: called in the thread with what a step or a posted action has raised; the thread then ends. Until `start`
    and after `stop` there is no thread, and whoever owns this runs `step` itself.
    """

    def __init__(self, step: Callable[[], bool], on_failure: Callable[[BaseException], None]) -> None:
        self._step = step
        self._on_failure = on_failure
        self._inbox: deque[Callable[[], None]] = deque()
        self._posted = threading.Event()
        self._thread: threading.Thread | None = None
        self._stopping = False

    @property
    def running(self) -> bool:
        """Whether a thread has been started and not stopped; one that has failed counts."""
        return self._thread is not None

    @property
    def pending(self) -> int:
        """Posted actions that have not run yet."""
        return len(self._inbox)

    def post(self, action: Callable[[], None]) -> None:
        """Run `action` before the next step; any thread may call this."""
        self._inbox.append(action)
        self._posted.set()

    def call(self, function: Callable[[], T], timeout: float) -> T:
        """Run `function` between two steps and return its result. Raises TimeoutError after `timeout` seconds."""
        if not self.running:
            return function()
        future: Future[T] = Future()

        def run() -> None:
            try:
                future.set_result(function())
            except Exception as error:
                future.set_exception(error)

        self.post(run)
        return future.result(timeout)

    def run_posted(self) -> None:
        """Run what is posted, in this thread: for its owner while there is no other."""
        while self._inbox:
            self._inbox.popleft()()

    def start(self, name: str) -> None:
        """Start the thread, if there is none."""
        if self._thread is None:
            self._stopping = False
            self._thread = threading.Thread(target=self._loop, name=name, daemon=True)
            self._thread.start()

    def stop(self) -> None:
        """End the thread after the step that it is in, and run what is still posted."""
        if self._thread is not None:
            self._stopping = True
            self._posted.set()
            self._thread.join()
            self._thread = None
        self.run_posted()

    def _loop(self) -> None:
        try:
            while not self._stopping:
                self.run_posted()
                if not self._step():
                    self._posted.wait()
                    # Before all is looked at again: whoever sets it has changed something first.
                    self._posted.clear()
        except BaseException as error:
            self._on_failure(error)
            raise
