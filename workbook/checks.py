"""Checking a source: what notebooks, the terminal and the tests all do, in the same way."""

import hashlib
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from workbook import notebook_files as files
from workbook.compare import CheckFailed
from workbook.exercise import Exercise
from workbook.mojo_build import MojoError, build
from workbook.mojo_run import MojoFunction, functions
from workbook.paths import NOTEBOOKS


def without_magic(source: str) -> str:
    """The Mojo code of a cell: what follows the %%mojo line, which stays as an empty line so that numbers agree."""
    first, _, rest = source.partition("\n")
    return "\n" + rest if first.startswith("%%mojo") else source


def python_candidate(exercise: Exercise, source: str) -> Callable[..., Any]:
    """Run a Python exercise cell on its own and take the function it defines. Raises CheckFailed."""
    namespace: dict[str, Any] = {"np": np, "__name__": f"exercise_{exercise.id.replace('.', '_')}", **exercise.context}
    try:
        exec(compile(source, f"<exercise {exercise.id}>", "exec"), namespace)
    except Exception as error:
        raise CheckFailed(f"the cell does not run: {type(error).__name__}: {error}").of(
            exercise.id, exercise.title
        ) from error
    if exercise.function not in namespace:
        raise CheckFailed(f"the cell does not define `{exercise.function}`").of(exercise.id, exercise.title)
    candidate: Callable[..., Any] = namespace[exercise.function]
    return candidate


def mojo_candidates(exercise: Exercise, sources: Mapping[str, str]) -> dict[str, MojoFunction]:
    """Compile several versions of a Mojo exercise at once (module name to cell text). Raises CheckFailed."""
    try:
        library = build({name: without_magic(text) for name, text in sources.items()}, exercise.specialize)
    except MojoError as error:
        raise CheckFailed(f"the cell does not compile\n{error}").of(exercise.id, exercise.title) from None
    found = {module: f for (module, name), f in functions(library).items() if name == exercise.function}
    for module in sources:
        if module not in found:
            raise CheckFailed(
                f"the cell does not define `{exercise.function}`, or not with parameters that Python can pass"
            ).of(exercise.id, exercise.title)
    return found


def candidate(exercise: Exercise, source: str) -> Any:
    """What an exercise cell defines, ready to be called. Raises CheckFailed."""
    if exercise.kind == "python":
        return python_candidate(exercise, source)
    return mojo_candidates(exercise, {"cell": source})["cell"]


def hints(exercise: Exercise) -> dict[str, Callable[..., Any]]:
    """Functions that make the known mistakes of a Python exercise, from its solution."""
    if exercise.kind != "python" or exercise.judge is not None:
        return {}
    solution = files.cell_source(NOTEBOOKS, exercise)
    return {m.name: python_candidate(exercise, m.apply(solution)) for m in exercise.mistakes if m.answer is None}


def check_source(exercise: Exercise, source: str) -> int:
    """Check the text of an exercise cell. Returns the number of cases; raises CheckFailed."""
    return exercise.check(candidate(exercise, source), hints(exercise))


def fingerprint(source: str) -> str:
    """Changes when the code changes; blank lines and trailing spaces do not count."""
    lines = [line.rstrip() for line in source.split("\n") if line.strip()]
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()[:16]
