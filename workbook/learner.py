"""The learner's copy: `learn/` with the notebooks and the kernel folder, solution regions emptied.

`learn/.state.json` remembers each file as it was handed out, so that a file with work in it is told from one without,
and which exercises passed with which text.
"""

import json
import os
import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from workbook import notebook_files as files
from workbook import regions
from workbook.checks import fingerprint
from workbook.compare import CheckFailed
from workbook.exercise import Exercise
from workbook.exercises import registry
from workbook.paths import KERNELS, LEARN, NOTEBOOKS, ROOT

STATE = LEARN / ".state.json"


def load_state() -> dict[str, Any]:
    """{"handed_out": {path: fingerprint}, "passed": {exercise: fingerprint of its cell}}."""
    state: dict[str, Any] = json.loads(STATE.read_text()) if STATE.exists() else {}
    return {"handed_out": {}, "passed": {}} | state


def save_state(state: dict[str, Any]) -> None:
    """Write the state, whole or not at all."""
    LEARN.mkdir(exist_ok=True)
    temporary = STATE.with_suffix(".new")
    temporary.write_text(json.dumps(state, indent=1) + "\n")
    temporary.replace(STATE)


def starter_notebook(path: Path) -> files.Notebook:
    """A solved notebook as a learner gets it: regions emptied, outputs cleared."""
    notebook = files.read(path)
    for cell in notebook.cells:
        if cell.cell_type != "code":
            continue
        cell.outputs, cell.execution_count = [], None
        identifier = files.identify(cell.source)
        if identifier is not None:
            exercise = registry()[identifier]
            cell.source = regions.starter(cell.source, exercise.kind, identifier, exercise.lines)
    return notebook


def starter_kernel(text: str) -> str:
    """A kernel file as a learner gets it: the regions of its exercises emptied."""
    for identifier in sorted({r.exercise for r in regions.regions(text) if r.exercise is not None}):
        text = regions.starter(text, "mojo", identifier, registry()[identifier].lines, only=identifier)
    return text


def sources() -> Iterator[tuple[Path, Path]]:
    """(source, the learner's copy) of every file that is handed out."""
    for path in sorted(NOTEBOOKS.glob("[0-9][0-9]_*.ipynb")):
        yield path, LEARN / path.name
    for path in sorted(KERNELS.rglob("*.mojo")):
        yield path, LEARN / "kernels" / path.relative_to(KERNELS)


def content(path: Path) -> str:
    """What counts as work in a file: a notebook's cells without outputs, or the text."""
    if path.suffix != ".ipynb":
        return path.read_text()
    return json.dumps([[cell.cell_type, cell.source] for cell in files.read(path).cells])


def start(force: bool) -> list[str]:
    """Make or update the learner's copy. A file with work in it stays, unless forced: then it is kept in learn/.backup.

    Returns a line for each file that was written or kept back.
    """
    state = load_state()
    report = []
    for source, target in sources():
        name = target.relative_to(LEARN).as_posix()
        made = LEARN / ".new" / source.name
        made.parent.mkdir(parents=True, exist_ok=True)
        if source.suffix == ".ipynb":
            files.write(starter_notebook(source), made)
        else:
            made.write_text(starter_kernel(source.read_text()))
        new = fingerprint(content(made))
        if target.exists():
            now = fingerprint(content(target))
            if now == new:
                made.unlink()
                continue
            if now != state["handed_out"].get(name):
                if not force:
                    made.unlink()
                    report.append(f"kept     {name} (your work is in it)")
                    continue
                report.append(f"replaced {name} (your version: {backup(target)})")
            else:
                report.append(f"updated  {name}")
        else:
            report.append(f"created  {name}")
        target.parent.mkdir(parents=True, exist_ok=True)
        made.replace(target)
        state["handed_out"][name] = new
    shutil.rmtree(LEARN / ".new", ignore_errors=True)
    save_state(state)
    return report


def backup(path: Path) -> str:
    """Copy a learner's file aside. Returns where to, relative to the repository."""
    place = LEARN / ".backup" / time.strftime("%Y%m%d-%H%M%S") / path.relative_to(LEARN)
    place.parent.mkdir(parents=True, exist_ok=True)
    shutil.copy2(path, place)
    return os.path.relpath(place, ROOT)


def record(exercise: Exercise, source: str) -> None:
    """Note that an exercise passed with this text, and put the answer into the learner's kernel folder."""
    state = load_state()
    state["passed"][exercise.id] = fingerprint(source)
    save_state(state)
    if exercise.kernel is not None:
        try:
            write_kernel(exercise, regions.bodies(source))
        except regions.RegionError as error:
            raise CheckFailed(
                f"{exercise.id} passed, but it was not written to {exercise.kernel}: keep the lines "
                f"BEGIN SOLUTION and END SOLUTION around your code ({error})"
            ) from None


def write_kernel(exercise: Exercise, contents: list[list[str]]) -> None:
    """Write an exercise's regions into the learner's kernel file."""
    assert exercise.kernel is not None
    path = LEARN / "kernels" / exercise.kernel
    path.write_text(regions.put(path.read_text(), contents, only=exercise.id))


def write_cell(exercise: Exercise, source: str) -> str:
    """Replace an exercise's cell in the learner's notebook. Returns where the old version was kept."""
    path = files.find(LEARN, exercise.notebook)
    kept = backup(path)
    notebook = files.read(path)
    cell = files.exercise_cells(notebook)[exercise.id]
    cell.source, cell.outputs = source, []
    files.write(notebook, path)
    return kept


def reset(exercise: Exercise) -> str:
    """Give an exercise its starter back, in notebook and kernel file. Returns where the old version was kept."""
    solved = files.cell_source(NOTEBOOKS, exercise)
    kept = write_cell(exercise, regions.starter(solved, exercise.kind, exercise.id, exercise.lines))
    if exercise.kernel is not None:
        starter = starter_kernel((KERNELS / exercise.kernel).read_text())
        write_kernel(exercise, regions.bodies(starter, only=exercise.id))
    state = load_state()
    state["passed"].pop(exercise.id, None)
    save_state(state)
    return kept


def passed() -> dict[str, str]:
    """For each exercise: "passed", "changed" (it passed, and its cell was edited since) or "open"."""
    noted = load_state()["passed"]
    now: dict[str, str] = {}
    for path in sorted(LEARN.glob("[0-9][0-9]_*.ipynb")):
        for identifier, cell in files.exercise_cells(files.read(path)).items():
            now[identifier] = fingerprint(cell.source)
    return {e: "open" if e not in noted else "passed" if noted[e] == now.get(e) else "changed" for e in registry()}
