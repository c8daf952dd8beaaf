"""Every exercise's check: red on the starter, green on the solution, red on each known mistake."""

from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest

from workbook import notebook_files as files
from workbook import regions
from workbook.checks import hints, mojo_candidates, python_candidate
from workbook.compare import CheckFailed
from workbook.exercise import Case, Exercise
from workbook.exercises import registry
from workbook.paths import KERNELS, NOTEBOOKS

EXERCISES = list(registry().values())
every_exercise = pytest.mark.parametrize("exercise", EXERCISES, ids=[e.id for e in EXERCISES])


def versions(exercise: Exercise) -> dict[str, str]:
    """The cell's text as starter, as solution and with each mistake."""
    solution = files.cell_source(NOTEBOOKS, exercise)
    texts = {"starter": regions.starter(solution, exercise.kind, exercise.id, exercise.lines), "solution": solution}
    return texts | {f"mistake_{n}": mistake.apply(solution) for n, mistake in enumerate(exercise.mistakes)}


def candidates(exercise: Exercise) -> dict[str, Callable[..., Any]]:
    """All versions, ready to be called. Those in Mojo are compiled together, in one go."""
    texts = versions(exercise)
    if exercise.kind == "mojo":
        return dict(mojo_candidates(exercise, texts))
    return {name: python_candidate(exercise, text) for name, text in texts.items()}


@every_exercise
def test_check_tells_right_from_wrong(exercise: Exercise) -> None:
    ready = candidates(exercise)
    known = hints(exercise)
    assert exercise.check(ready["solution"], known) >= (1 if exercise.judge else 3)
    with pytest.raises(CheckFailed, match=f"{exercise.id}.* is not written yet"):
        exercise.check(ready["starter"], known)
    for number, mistake in enumerate(exercise.mistakes):
        with pytest.raises(CheckFailed) as failure:
            exercise.check(ready[f"mistake_{number}"], known)
        if mistake.answer is not None or mistake.name in known:
            assert f"Hint: {mistake.hint}" in failure.value.text, f"{mistake.name}: {failure.value.text}"


@every_exercise
def test_exercise_is_whole(exercise: Exercise) -> None:
    assert len({m.name for m in exercise.mistakes}) >= 3, "an exercise has at least three named mistakes"
    assert all(m.hint.endswith((".", "?")) for m in exercise.mistakes)
    body = regions.bodies(files.cell_source(NOTEBOOKS, exercise))
    assert body, "the cell has no solution region"
    lines = sum(1 for part in body for line in part if line.strip() and not line.strip().startswith("#"))
    assert 0.5 * lines <= exercise.lines <= 2 * lines, f"`lines` says {exercise.lines}; the solution has {lines}"


@every_exercise
def test_kernel_file_holds_the_same_solution(exercise: Exercise) -> None:
    marked = Counter(
        region.exercise for path in KERNELS.rglob("*.mojo") for region in regions.regions(path.read_text())
    )
    if exercise.kernel is None:
        assert exercise.id not in marked, "a kernel file has a region of this exercise: set `kernel`"
        return
    in_kernel = regions.bodies((KERNELS / exercise.kernel).read_text(), only=exercise.id)
    assert regions.bodies(files.cell_source(NOTEBOOKS, exercise)) == in_kernel
    assert marked[exercise.id] == len(in_kernel), "its regions are in more than one kernel file"


def test_every_marked_region_and_cell_is_an_exercise() -> None:
    for path in KERNELS.rglob("*.mojo"):
        for region in regions.regions(path.read_text()):
            assert region.exercise in registry(), f"{path.name}: region of {region.exercise}"
    in_notebooks = {i for path in NOTEBOOKS.glob("*.ipynb") for i in files.exercise_cells(files.read(path))}
    assert in_notebooks == set(registry())


def test_a_loop_that_never_ends_is_stopped() -> None:
    def endless(*_: Any, **__: Any) -> Any:
        while True:
            pass

    def case() -> list[Case]:
        return [Case("any", {"x": 1}, {"y": 1})]

    for how in ({"cases": case}, {"judge": lambda candidate: candidate()}):
        exercise = Exercise("99.1", "a loop", "python", "endless", 1, seconds=0.05, **how)  # type: ignore[arg-type]
        with pytest.raises(CheckFailed, match=r"99\.1 a loop.*longer than 0\.15 s and was stopped: does a loop end"):
            exercise.check(endless)
