"""Calling compiled Mojo from Python, in a process of its own with a time limit."""

import os
import signal
import subprocess
import sys
import tempfile
from multiprocessing.connection import Connection
from pathlib import Path
from socket import socketpair
from typing import Any

import numpy as np

from workbook.compare import CheckFailed
from workbook.exercise import Case
from workbook.mojo_build import Library
from workbook.mojo_signature import FLOATS, Parameter, Signature

WORKER = Path(__file__).with_name("worker.py")
NUMPY_TYPE = {"bfloat16": "uint16"}  # NumPy has no bfloat16: its bits travel as uint16


class MojoCrash(Exception):  # noqa: N818 - the code crashed, this is not an error of ours
    """Mojo code that was stopped: by a signal, by the time limit, or because it wrote outside an array."""

    def _render_traceback_(self, *_: object) -> list[str]:
        """What IPython shows: the message alone."""
        return [str(self)]


def to_bfloat16(x: Any) -> Any:
    """float32 to the bits of bfloat16 (uint16), rounded to nearest even. x: any shape, no NaN."""
    bits = np.ascontiguousarray(x, np.float32).view(np.uint32)
    return ((bits + 0x7FFF + ((bits >> 16) & 1)) >> 16).astype(np.uint16)


def from_bfloat16(bits: Any) -> Any:
    """The bits of bfloat16 (uint16) to float32, exactly."""
    return (np.asarray(bits).astype(np.uint32) << 16).view(np.float32)


class Worker:
    """A process that has one library loaded. It starts at the first call, and again after it died."""

    def __init__(self, library: Path) -> None:
        self.library = library
        self.process: subprocess.Popen[bytes] | None = None
        self.pipe: Connection | None = None
        self.output = tempfile.TemporaryFile()  # noqa: SIM115 - as long as this object
        self.output_read = 0  # the process writes to the same open file, so our position is kept apart

    def start(self) -> Connection:
        """Start the process, if it does not run."""
        if self.pipe is not None and self.process is not None and self.process.poll() is None:
            return self.pipe
        ours, theirs = socketpair()
        self.process = subprocess.Popen(
            [sys.executable, str(WORKER), str(self.library), str(theirs.fileno())],
            pass_fds=[theirs.fileno()],
            stdin=subprocess.DEVNULL,
            stdout=self.output,
            stderr=self.output,
            start_new_session=True,
        )
        theirs.close()
        self.pipe = Connection(ours.detach())
        return self.pipe

    def stop(self) -> None:
        """End the process."""
        if self.process is not None:
            self.process.kill()
            self.process.wait()
        if self.pipe is not None:
            self.pipe.close()
        self.process = self.pipe = None

    def printed(self) -> str:
        """What the process has printed since the last time."""
        text = os.pread(self.output.fileno(), 1 << 20, self.output_read)
        self.output_read += len(text)
        return text.decode(errors="replace")

    def call(self, symbol: str, arguments: list[Any], repeats: int, seconds: float) -> dict[str, Any]:
        """Call a function. Raises MojoCrash when the process dies or takes longer than `seconds`."""
        pipe = self.start()
        assert self.process is not None
        try:
            pipe.send((symbol, arguments, repeats))
            if not pipe.poll(seconds):
                self.stop()
                raise MojoCrash(f"your code ran longer than {seconds:g} s and was stopped: does a loop end?")
            answer: dict[str, Any] = pipe.recv()
        except (EOFError, BrokenPipeError, ConnectionResetError):
            code = self.process.wait()
            said = self.printed().strip()
            self.stop()
            raise MojoCrash(describe_death(code, said)) from None
        except BaseException:
            self.stop()
            raise
        text = self.printed()
        if text:
            print(text, end="")
        return answer

    def __del__(self) -> None:
        self.stop()


def describe_death(code: int, said: str) -> str:
    """What a worker's exit status means for the learner."""
    if "ABORT:" in said:
        return said.split("ABORT:")[-1].strip().split(": ", 1)[-1]
    if code == -signal.SIGSEGV:
        return "your code was stopped by SIGSEGV: it reached memory far outside its arrays"
    if code < 0:
        return f"your code was stopped by {signal.Signals(-code).name}" + (f": {said}" if said else "")
    return f"your code ended its process with status {code}" + (f": {said}" if said else "")


class MojoFunction:
    """A compiled Mojo function, called with NumPy arrays and numbers. Arrays that it writes are updated in place."""

    def __init__(self, worker: Worker, symbol: str, signature: Signature) -> None:
        self.worker = worker
        self.symbol = symbol
        self.signature = signature
        self.__name__ = signature.name
        self.__doc__ = f"Mojo: {signature}"

    def __repr__(self) -> str:
        return f"<Mojo {self.signature}>"

    def __call__(self, *arguments: Any, seconds: float = 60.0) -> float | int | None:
        """Call it. Raises TypeError for arguments of the wrong kind, MojoCrash, or RuntimeError if Mojo raised."""
        answer = self.worker.call(self.symbol, self.converted(arguments), 0, seconds)
        self.examine(answer)
        for array, content in zip(arguments, answer["arrays"], strict=True):
            if content is not None:
                array[...] = np.frombuffer(content, array.dtype).reshape(array.shape)
        if self.signature.returns is None:
            return None
        value: float = answer["value"]
        return value if self.signature.returns in FLOATS else int(value)

    def time(self, *arguments: Any, repeats: int = 20, seconds: float = 60.0) -> float:
        """The median time of one call, in seconds, measured inside its process after one call to warm up."""
        answer = self.worker.call(self.symbol, self.converted(arguments), repeats, seconds)
        self.examine(answer)
        return float(np.median(answer["seconds"]))

    def examine(self, answer: dict[str, Any]) -> None:
        """Raise when the call failed or wrote outside an array."""
        for parameter, outside in zip(self.signature.parameters, answer["outside"], strict=True):
            if outside is not None:
                self.worker.stop()  # its memory is damaged
                raise MojoCrash(f"your code wrote outside `{parameter.name}`: at {outside}")
        if answer["error"] is not None:
            raise RuntimeError(f"{self.signature.name} raised: {answer['error']}")

    def converted(self, arguments: tuple[Any, ...]) -> list[Any]:
        """Arguments as the worker wants them. Raises TypeError when one does not fit its parameter."""
        if len(arguments) != len(self.signature.parameters):
            raise TypeError(f"{self.signature} takes {len(self.signature.parameters)} arguments, not {len(arguments)}")
        return [convert(a, p) for a, p in zip(arguments, self.signature.parameters, strict=True)]

    def on_case(self, case: Case, seconds: float) -> dict[str, Any]:
        """Run one case of an exercise. Returns the results by name; raises CheckFailed when the call goes wrong."""
        where = f"case '{case.label}'"
        arguments: dict[str, Any] = {}
        for p in self.signature.parameters:
            if p.name in case.inputs:
                arguments[p.name] = fitted(case.inputs[p.name], p)
            elif p.name in case.expected:
                arguments[p.name] = unwritten(np.asarray(case.expected[p.name]), p)
            else:
                known = ", ".join([*case.expected, *case.inputs])
                raise CheckFailed(f"there is nothing to pass for the parameter `{p.name}`; keep to: {known}")
        before = {name: a.copy() if isinstance(a, np.ndarray) else a for name, a in arguments.items()}
        try:
            value = self(*arguments.values(), seconds=seconds)
        except (MojoCrash, RuntimeError) as error:
            text = str(error)
            raise CheckFailed(text if "is not written yet" in text else f"{where}: {text}") from None
        for name, array in before.items():
            if name in case.inputs and name not in case.expected and not np.array_equal(array, arguments[name]):
                raise CheckFailed(f"{where}: your code changed its input `{name}`")
        results: dict[str, Any] = {"value": value}
        types = {p.name: p.dtype for p in self.signature.parameters}
        for name in case.expected:
            if name in arguments:
                results[name] = from_bfloat16(arguments[name]) if types[name] == "bfloat16" else arguments[name]
            elif name != "value":
                raise CheckFailed(f"the function has no parameter `{name}` to write the result to: {self.signature}")
        return results


def convert(argument: Any, parameter: Parameter) -> Any:
    """One argument for the worker. Raises TypeError when it does not fit."""
    if parameter.dtype is None:
        return float(argument) if parameter.type in FLOATS else int(argument)
    wanted = NUMPY_TYPE.get(parameter.dtype, parameter.dtype)
    if not isinstance(argument, np.ndarray) or argument.dtype != wanted or not argument.flags.c_contiguous:
        got = f"{argument.dtype} array" if isinstance(argument, np.ndarray) else type(argument).__name__
        raise TypeError(f"`{parameter.name}` wants a contiguous array of {wanted}, not a {got}")
    return argument


def fitted(value: Any, parameter: Parameter) -> Any:
    """A case's input in the parameter's type: float32 arrays become bfloat16 bits where the parameter wants those."""
    if not isinstance(value, np.ndarray) or parameter.dtype is None:
        return value
    if parameter.dtype == "bfloat16" and value.dtype == np.float32:
        return to_bfloat16(value)
    return np.array(value, order="C")


def unwritten(expected: Any, parameter: Parameter) -> Any:
    """An array for a result that nothing has been written to: NaN, or the same bits as integers."""
    wanted = np.dtype(NUMPY_TYPE.get(parameter.dtype or "", parameter.dtype))
    filled = np.full(expected.size * max(1, wanted.itemsize // 2), 0x7FC0, np.uint16)
    return filled.view(np.uint8)[: expected.size * wanted.itemsize].view(wanted).reshape(expected.shape).copy()


def functions(library: Library) -> dict[tuple[str, str], MojoFunction]:
    """The functions of a library by (module, name); all run in one process."""
    worker = Worker(library.path)
    return {key: MojoFunction(worker, symbol, sig) for key, (symbol, sig) in library.functions.items()}
