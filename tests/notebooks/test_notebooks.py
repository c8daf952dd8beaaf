"""What every notebook must be like: its grammar, its links and its spelling (running them is nbval's part)."""

import re
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from workbook import notebook_files as files
from workbook.exercises import order, registry
from workbook.paths import NOTEBOOKS, ROOT

PATHS = sorted(NOTEBOOKS.glob("*.ipynb"))
every_notebook = pytest.mark.parametrize("path", PATHS, ids=lambda path: path.stem)
KERNELS = ("02", "03", "04", "05", "06", "07", "08", "09", "10", "12")  # notebooks that build kernels
ORIENTATION = ("00", "13", "14")  # no NumPy or Mojo exercise is asked of these
IGNORED = "nbval-ignore-output"


def markdown(notebook: Any) -> str:
    """The text of a notebook, without code and formulas."""
    text = "\n\n".join(cell.source for cell in notebook.cells if cell.cell_type == "markdown")
    return re.sub(r"\$\$.*?\$\$|\$[^$\n]+\$|```.*?```", " ", text, flags=re.DOTALL)


def code_cells(notebook: Any) -> list[Any]:
    """The code cells of a notebook."""
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def test_the_course_is_whole() -> None:
    assert all(re.fullmatch(r"\d\d_[a-z0-9_]+\.ipynb", path.name) for path in PATHS)
    assert [int(path.name[:2]) for path in PATHS] == list(range(15))
    assert len(registry()) >= 40


@pytest.mark.parametrize("number", KERNELS)
def test_a_kernel_notebook_has_exercises_in_numpy_and_in_mojo(number: str) -> None:
    assert {e.kind for e in registry().values() if e.notebook == number} == {"python", "mojo"}


def test_the_learning_path_in_the_readme_is_the_course() -> None:
    table = re.findall(r"^\| (\d\d) .*\| *(\d+) \|$", (ROOT / "README.md").read_text(), re.MULTILINE)
    exercises = Counter(exercise.notebook for exercise in registry().values())
    assert table == [(path.name[:2], str(exercises[path.name[:2]])) for path in PATHS]


@every_notebook
def test_size(path: Path) -> None:
    notebook = files.read(path)
    words = len(re.findall(r"[A-Za-z][\w'-]*", markdown(notebook)))
    lines = sum(len([x for x in cell.source.split("\n") if x.strip()]) for cell in code_cells(notebook))
    assert 35 <= len(notebook.cells) <= 90, f"{len(notebook.cells)} cells"
    assert 700 <= words <= 1400, f"{words} words"
    assert lines <= 300, f"{lines} lines of code"


@every_notebook
def test_outputs_are_stored_and_most_are_compared(path: Path) -> None:
    cells = code_cells(files.read(path))
    assert all(cell.execution_count for cell in cells), "run the notebook from top to bottom and save it"
    assert [cell.execution_count for cell in cells] == list(range(1, len(cells) + 1)), "it was not run in order"
    shown = [cell for cell in cells if cell.outputs]
    compared = [cell for cell in shown if IGNORED not in cell.metadata.get("tags", [])]
    assert 2 * len(compared) >= len(shown), f"only {len(compared)} of {len(shown)} outputs are compared"
    for cell in shown:
        for output in cell.outputs:
            assert output.output_type != "error"
            assert output.get("name") != "stderr", f"a warning is in the output: {output.get('text', '')[:200]}"


@every_notebook
def test_every_ignored_output_is_a_figure_a_timing_or_shown_source(path: Path) -> None:
    for cell in code_cells(files.read(path)):
        if IGNORED in cell.metadata.get("tags", []):
            reason = re.search(r"figure|time|seconds|ceilings|machine|show\(|recorded\(|bench", cell.source)
            assert reason, f"why is this output not compared?\n{cell.source[:300]}"


@every_notebook
def test_grammar(path: Path) -> None:
    notebook = files.read(path)
    number = path.name[:2]
    text = markdown(notebook)
    assert len(re.findall(r"^# ", text, re.MULTILINE)) == 1, "one title"
    assert notebook.cells[0].cell_type == "markdown"
    assert "You will build" in notebook.cells[0].source
    assert re.search(r"^## .*mislead", text, re.MULTILINE), "what could mislead you"
    assert re.search(r"^## Questions", text, re.MULTILINE)
    assert text.count("<details>") == text.count("</details>") >= 2, "questions have folded answers"
    cells = files.exercise_cells(notebook)
    assert list(cells) == sorted(cells, key=order), "exercises are out of order"
    assert list(cells) == [e for e in registry() if e.startswith(number + ".")]
    for identifier in cells:
        assert any(f'check("{identifier}")' in cell.source for cell in code_cells(notebook)), (
            f"no check of {identifier}"
        )
        assert f"xercise {identifier}" in text, f"the text does not introduce exercise {identifier}"
    if number not in ORIENTATION:
        assert any(registry()[e].kind == "python" for e in cells)


@every_notebook
def test_links_lead_somewhere(path: Path) -> None:
    text = re.sub(r"`[^`\n]+`", "", markdown(files.read(path)))  # code such as load[width=4](i) is no link
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        if target.startswith(("http://", "https://")):
            assert re.fullmatch(r"https?://[\w.-]+(/\S*)?", target), target
        elif not target.startswith("#"):
            assert (path.parent / target.split("#")[0]).exists(), f"{target} does not exist"


@every_notebook
def test_numbers_of_other_notebooks_exist_in_the_course(path: Path) -> None:
    for number in re.findall(r"\b[Nn]otebook (\d\d)\b", markdown(files.read(path))):
        assert 0 <= int(number) <= 14, f"there is no notebook {number}"


@every_notebook
def test_spelling(path: Path, tmp_path: Path) -> None:
    notebook = files.read(path)
    text = tmp_path / f"{path.stem}.md"
    text.write_text("\n\n".join(cell.source for cell in notebook.cells))
    codespell = Path(sys.executable).with_name("codespell")
    done = subprocess.run([codespell, text], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
