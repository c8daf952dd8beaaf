"""What an exercise is: a function to write, cases it must get right, and mistakes that are known.

One file a notebook in `workbook/exercises/` defines a list `EXERCISES`; docs/writing-notebooks.md shows how.
"""

import signal
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from threading import current_thread, main_thread
from typing import Any, Literal

import numpy as np

from workbook.compare import CheckFailed, compare

Value = Any  # an array, an int, a float or a bool


@dataclass(frozen=True)
class Case:
    """One call of the candidate.

    label: what is special about it, such as "one row of 17"; it is shown when the case fails.
    inputs: arguments by parameter name. A candidate gets those that its parameters name.
    expected: results by name. A Python candidate returns them in this order (one: the array itself). A Mojo candidate
        writes them through its pointer parameters of these names, which start filled with NaN (or 0x7fc0...), unless
        `inputs` has an array of the same name: then it starts with that, and is changed in place.
    rtol, atol: as in numpy.allclose.
    """

    label: str
    inputs: Mapping[str, Value]
    expected: Mapping[str, Value]
    rtol: float = 1e-5
    atol: float = 1e-6


@dataclass(frozen=True)
class Mistake:
    """A known wrong answer (a mutant): the test suite proves that the check rejects it.

    name: short, such as "forgets eps".
    hint: one sentence to the learner who made it.
    replace: (old, new) texts; applied in turn to the solution's source they make the mutant. Each must occur.
    answer: for Mojo exercises, a NumPy function of the case's inputs giving what the mistake gives (one array, or a
        tuple in the order of `expected`), so that a check can recognise it. Python mutants need none.
    """

    name: str
    hint: str
    replace: Sequence[tuple[str, str]]
    answer: Callable[..., Any] | None = None

    def apply(self, source: str) -> str:
        """The mutant's source. Raises ValueError when a text to replace does not occur in the solution."""
        for old, new in self.replace:
            if old not in source:
                raise ValueError(f"mistake {self.name!r}: {old!r} does not occur in the solution")
            source = source.replace(old, new)
        return source


@dataclass(frozen=True)
class Exercise:
    """One exercise; its solution is the region in the notebook cell that is marked with its id.

    id: "NN.x", NN the notebook. function: the name that the cell must define (a function, or a class with `judge`).
    lines: about how many lines the solution has. cases: makes the cases, afresh at each check.
    kernel: a file of kernels/ whose regions marked with this id are the same as the cell's; when the check passes,
        the learner's answer is written into their copy of it.
    specialize: compile-time parameters of a Mojo function, such as {"dtype": "DType.bfloat16"}.
    judge: instead of cases, a function that examines the candidate and raises CheckFailed, or returns how many things
        it examined. What else is raised in it counts as raised by the candidate.
    context: names that a Python cell may use besides `np` and what it imports itself.
    """

    id: str
    title: str
    kind: Literal["python", "mojo"]
    function: str
    lines: int
    cases: Callable[[], Iterable[Case]] | None = None
    mistakes: Sequence[Mistake] = ()
    kernel: str | None = None
    specialize: Mapping[str, str] = field(default_factory=dict)
    judge: Callable[[Any], int] | None = None
    context: Mapping[str, Any] = field(default_factory=dict)
    seconds: float = 10.0

    @property
    def patience(self) -> float:
        """Seconds of processor time for a case in Python, or a judge (Mojo has a process and a limit of its own)."""
        return 3 * self.seconds

    @property
    def notebook(self) -> str:
        """The number of the notebook, two digits."""
        return self.id.split(".")[0]

    def check(self, candidate: Any, hints: Mapping[str, Callable[..., Any]] | None = None) -> int:
        """Check a candidate: a Python callable, or a `workbook.mojo_run.MojoFunction`.

        hints: functions that give the answers of known mistakes, by the mistake's name.
        Returns how many cases passed. Raises CheckFailed on the first that does not.
        """
        if self.judge is not None:
            try:
                with processor_time(self.patience):
                    return self.judge(candidate)
            except CheckFailed as failure:
                raise failure.of(self.id, self.title) from None
            except NotImplementedError as error:
                raise CheckFailed(str(error)).of(self.id, self.title) from None
            except Exception as error:
                text = f"your code raised {type(error).__name__}: {error}"
                raise CheckFailed(text).of(self.id, self.title) from error
        assert self.cases is not None, f"exercise {self.id} has neither cases nor a judge"
        count = 0
        for case in self.cases():
            try:
                with processor_time(self.patience):
                    actual = self.answers(candidate, case)
                for name, expected in case.expected.items():
                    compare(name, actual[name], expected, case.rtol, case.atol, case.label)
            except CheckFailed as failure:
                known = self.recognise(failure, case, hints or {})
                raise failure.of(self.id, self.title, known) from None
            count += 1
        return count

    def answers(self, candidate: Any, case: Case) -> dict[str, Any]:
        """Call the candidate on one case and name its results. Raises CheckFailed when it fails or changes an input."""
        if self.kind == "mojo":
            answers: dict[str, Any] = candidate.on_case(case, self.seconds)
            return answers
        inputs = {k: v.copy() if isinstance(v, np.ndarray) else v for k, v in case.inputs.items()}
        try:
            result = candidate(**inputs)
        except NotImplementedError as error:
            raise CheckFailed(str(error)) from None
        except CheckFailed:
            raise
        except Exception as error:
            raise CheckFailed(f"case '{case.label}': your code raised {type(error).__name__}: {error}") from error
        for name, value in case.inputs.items():
            if isinstance(value, np.ndarray) and not np.array_equal(value, inputs[name], equal_nan=True):
                raise CheckFailed(f"case '{case.label}': your code changed its input `{name}`; return a new array")
        return named(result, case)

    def recognise(self, failure: CheckFailed, case: Case, hints: Mapping[str, Callable[..., Any]]) -> str | None:
        """The hint of a known mistake that gives the same wrong answer on this case, or None."""
        if failure.actual is None:
            return None
        for mistake in self.mistakes:
            wrong = mistake.answer or hints.get(mistake.name)
            if wrong is None:
                continue
            inputs = {k: v.copy() if isinstance(v, np.ndarray) else v for k, v in case.inputs.items()}
            try:
                answer = named(wrong(**inputs), case)[failure.name]
                compare(failure.name, failure.actual, answer, case.rtol, case.atol, case.label)
            except Exception:
                continue  # not this mistake
            return mistake.hint
        return None


@contextmanager
def processor_time(seconds: float) -> Iterator[None]:
    """Raise CheckFailed in a block that takes more processor time than that. No limit outside the main thread."""
    if current_thread() is not main_thread() or not hasattr(signal, "setitimer"):
        yield
        return

    def stop(*_: object) -> None:
        raise CheckFailed(f"your code ran longer than {seconds:g} s and was stopped: does a loop end?")

    handler = signal.signal(signal.SIGVTALRM, stop)
    signal.setitimer(signal.ITIMER_VIRTUAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_VIRTUAL, 0)
        signal.signal(signal.SIGVTALRM, handler)


def named(result: Any, case: Case) -> dict[str, Any]:
    """Results by name. Raises CheckFailed when their number is wrong."""
    results = (result,) if len(case.expected) == 1 else result
    if not isinstance(results, tuple) or len(results) != len(case.expected):
        wanted = ", ".join(case.expected)
        raise CheckFailed(
            f"case '{case.label}': your function should return a tuple ({wanted}); it returned {result!r}"
        )
    return dict(zip(case.expected, results, strict=True))
