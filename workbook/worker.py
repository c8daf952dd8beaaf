"""The process in which compiled Mojo runs, so that a wrong kernel cannot take the notebook down.

Started by `workbook.mojo_run`; it loads one library, then answers calls that come through a pipe. Every array lives
between two guard zones: writing outside an array is noticed, and reading outside gives NaN. Imports little, to start
fast.
"""

import ctypes
import sys
from multiprocessing.connection import Connection
from typing import Any

import numpy as np

GUARD_BYTES = 4096
PATTERN = 0x7FC0  # as bfloat16 and, twice, as float32: NaN. The number of the argument is added to it.
TIMES_AT = 1024  # bytes; see workbook.mojo_build.stub


class Guarded:
    """A copy of an array between two guard zones.

    Each argument has a guard pattern of its own: what is computed from one zone and written to another changes it.
    """

    def __init__(self, array: np.ndarray[Any, Any], number: int) -> None:
        size = array.nbytes
        padded = (size + 1) // 2 * 2
        self.buffer = np.empty((2 * GUARD_BYTES + padded + 64) // 2, np.uint16)
        self.buffer[:] = PATTERN + 1 + number
        self.bytes = self.buffer.view(np.uint8)
        start = -(self.bytes.ctypes.data + GUARD_BYTES) % 64 + GUARD_BYTES
        self.start, self.end = start, start + size
        self.bytes[self.start : self.end] = np.ascontiguousarray(array).reshape(-1).view(np.uint8)
        self.pristine = self.bytes.copy()
        self.address = self.bytes.ctypes.data + self.start
        self.itemsize = array.itemsize

    def outside(self) -> str | None:
        """Where a guard zone was written to, in elements counted from the array's start; None if none was."""
        changed = np.flatnonzero(self.bytes != self.pristine)
        after, before = changed[changed >= self.end], changed[changed < self.start]
        if len(after):
            return f"element {(int(after[0]) - self.start) // self.itemsize}, past its end"
        if len(before):
            return f"element {(int(before[0]) - self.start) // self.itemsize}, before its start"
        return None

    def content(self) -> bytes | None:
        """The array's bytes after the call, or None when they are as they were."""
        inside = self.bytes[self.start : self.end]
        return None if np.array_equal(inside, self.pristine[self.start : self.end]) else inside.tobytes()


def prepare(function: Any, arguments: list[Any]) -> tuple[list[Any], list[Guarded | None]]:
    """C arguments, with arrays copied into guarded buffers."""
    guarded = [Guarded(a, n) if isinstance(a, np.ndarray) else None for n, a in enumerate(arguments)]
    kinds: list[Any] = [ctypes.c_double if isinstance(a, float) else ctypes.c_int64 for a in arguments]
    function.argtypes = [*kinds, ctypes.c_int64, ctypes.c_int64]
    function.restype = None
    return [a if g is None else g.address for a, g in zip(arguments, guarded, strict=True)], guarded


def call(library: ctypes.CDLL, symbol: str, arguments: list[Any], repeats: int) -> dict[str, Any]:
    """Call a function once, and `repeats` times more for its time. Returns what `MojoFunction` reads."""
    function = getattr(library, symbol)
    values, guarded = prepare(function, arguments)
    result = np.zeros(TIMES_AT // 8 + repeats + 1, np.float64)
    function(*values, result.ctypes.data, repeats)
    ctypes.CDLL(None).fflush(None)  # what Mojo has printed
    message = result.view(np.uint8)[16:TIMES_AT].tobytes().split(b"\0")[0].decode(errors="replace")
    return {
        "error": message if result[1] else None,
        "value": float(result[0]),
        "outside": [g.outside() if g is not None else None for g in guarded],
        "arrays": [g.content() if g is not None and not repeats else None for g in guarded],
        "seconds": [float(ns) * 1e-9 for ns in result[TIMES_AT // 8 + 1 :]],
    }


def main() -> None:
    """Serve calls until the parent closes the pipe."""
    library = ctypes.CDLL(sys.argv[1])
    pipe = Connection(int(sys.argv[2]))
    while True:
        try:
            symbol, arguments, repeats = pipe.recv()
        except EOFError:
            return
        pipe.send(call(library, symbol, arguments, repeats))


if __name__ == "__main__":
    main()
