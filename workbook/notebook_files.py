"""Reading and writing notebooks: which cell is which exercise."""

import re
from pathlib import Path
from typing import Any

import nbformat

from workbook.exercise import Exercise

PYTHON_CELL = re.compile(r"\A# Exercise (\d\d\.\d+)\b.*$", re.MULTILINE)
MOJO_CELL = re.compile(r"\A%%mojo (\d\d\.\d+)\b.*$", re.MULTILINE)
Notebook = Any  # nbformat is untyped


def read(path: Path) -> Notebook:
    """A notebook, in the current format."""
    return nbformat.read(path, as_version=4)


def write(notebook: Notebook, path: Path) -> None:
    """Write a notebook as Jupyter does."""
    nbformat.validate(notebook)
    path.write_text(nbformat.writes(notebook, version=4) + "\n")


def find(folder: Path, number: str) -> Path:
    """The notebook with a two-digit number. Raises FileNotFoundError when there is not exactly one."""
    paths = sorted(folder.glob(f"{number}_*.ipynb"))
    if len(paths) != 1:
        raise FileNotFoundError(f"expected one notebook {folder.name}/{number}_*.ipynb but found {len(paths)}")
    return paths[0]


def identify(source: str) -> str | None:
    """The exercise that a code cell is, or None."""
    match = PYTHON_CELL.match(source) or MOJO_CELL.match(source)
    return match[1] if match else None


def exercise_cells(notebook: Notebook) -> dict[str, Any]:
    """The exercise cells of a notebook by id; raises ValueError when one occurs twice."""
    found: dict[str, Any] = {}
    for cell in notebook.cells:
        identifier = identify(cell.source) if cell.cell_type == "code" else None
        if identifier is not None:
            if identifier in found:
                raise ValueError(f"exercise {identifier} has two cells")
            found[identifier] = cell
    return found


def cell_source(folder: Path, exercise: Exercise) -> str:
    """The text of an exercise's cell in a folder's notebooks. Raises KeyError when there is no such cell."""
    path = find(folder, exercise.notebook)
    cells = exercise_cells(read(path))
    if exercise.id not in cells:
        raise KeyError(f"{path.name} has no cell for exercise {exercise.id}")
    source: str = cells[exercise.id].source
    return source


def title(notebook: Notebook) -> str:
    """The first heading."""
    for cell in notebook.cells:
        heading = re.search(r"^# (.+)$", cell.source, re.MULTILINE) if cell.cell_type == "markdown" else None
        if heading:
            return heading[1].strip()
    raise ValueError("the notebook has no heading")
