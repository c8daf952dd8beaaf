"""What the command line programs share: progress of slow steps on stderr, and clean ends."""

import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import NoReturn, TextIO

from mili.errors import MiliError

INTERRUPTED = 130  # 128 + SIGINT, what a shell reports for Ctrl-C
FRAMES = "|/-\\"
FRAME_SECONDS = 0.2
LINE_SECONDS = 10.0


@contextmanager
def progress(message: str, stream: TextIO | None = None) -> Iterator[None]:
    """Say what a slow step does, with elapsed time, until the block ends.

    On a terminal one line is redrawn with a spinner; elsewhere a plain line is written at the start, every ten
    seconds and at the end. A block that raises ends its line with "failed".

    message: what is being done, such as "Compiling the model (first start only)".
    stream: stderr unless given.
    """
    out = sys.stderr if stream is None else stream
    terminal = out.isatty()
    start = time.monotonic()
    done = threading.Event()

    def write(text: str) -> None:
        out.write(text)
        out.flush()

    def report() -> None:
        frame = 0
        while not done.wait(FRAME_SECONDS if terminal else LINE_SECONDS):
            seconds = time.monotonic() - start
            if terminal:
                write(f"\r{FRAMES[frame % len(FRAMES)]} {message} ... {seconds:.0f} s\x1b[K")
                frame += 1
            else:
                write(f"{message} ... still at it, {seconds:.0f} s\n")

    write(f"{message} ..." if terminal else f"{message} ...\n")
    thread = threading.Thread(target=report, daemon=True, name="progress")
    thread.start()
    outcome = "failed after"
    try:
        yield
        outcome = "done in"
    finally:
        done.set()
        thread.join()
        seconds = time.monotonic() - start
        write(
            f"{chr(13) if terminal else ''}{message}: {outcome} {seconds:.1f} s{chr(27) + '[K' if terminal else ''}\n"
        )


@contextmanager
def interruptible() -> Iterator[None]:
    """Let Ctrl-C end the process at once during a long call into native code, which Python could not interrupt.

    The process then ends by the signal, which shells report as 130. In other threads, or where somebody else handles
    SIGINT, nothing changes.
    """
    mine = threading.current_thread() is threading.main_thread()
    if not mine or signal.getsignal(signal.SIGINT) is not signal.default_int_handler:
        yield
        return
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def run(main: Callable[[], int | None]) -> NoReturn:
    """Run a program's main function and exit with its status.

    Ctrl-C exits with 130 and without a traceback, a `MiliError` prints its message and exits with 1, and a reader
    that closed our output (`mili ... | head`) is no error. Any other exception is a bug and keeps its traceback.
    """
    status: int | None
    try:
        status = main()
        sys.stdout.flush()
    except KeyboardInterrupt:
        print("\ninterrupted", file=sys.stderr)
        status = INTERRUPTED
    except MiliError as error:
        print(f"error: {error}", file=sys.stderr)
        status = 1
    except BrokenPipeError:
        # Python flushes stdout once more at exit: give it somewhere to go.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        status = 0
    sys.exit(status or 0)
