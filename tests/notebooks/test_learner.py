"""The learner's copy: made, kept, checked, reset; and the whole way walked with the solutions."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from workbook import learner, regions
from workbook import notebook_files as files
from workbook.exercises import registry
from workbook.mojo_build import mojo
from workbook.paths import KERNELS, NOTEBOOKS, ROOT
from workbook.serving import Server

FIRST = "03.1"  # a Python exercise
KERNEL = "03.4"  # a Mojo exercise that is part of a kernel file


@pytest.fixture
def learn(tmp_path: Path) -> Path:
    """An empty place for a learner's copy."""
    return tmp_path / "learn"


def workbook(learn: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run `python -m workbook` on that copy."""
    return subprocess.run(
        [sys.executable, "-m", "workbook", *arguments],
        env=os.environ | {"MILI_LEARN": str(learn)},
        cwd=ROOT,
        capture_output=True,
        text=True,
        stdin=subprocess.DEVNULL,
        timeout=280,
    )


def edit(learn: Path, identifier: str, old: str, new: str) -> Path:
    """Change an exercise cell of the learner's notebook."""
    path = files.find(learn, identifier[:2])
    notebook = files.read(path)
    cell = files.exercise_cells(notebook)[identifier]
    assert old in cell.source
    cell.source = cell.source.replace(old, new)
    files.write(notebook, path)
    return path


@pytest.mark.parametrize("path", sorted(NOTEBOOKS.glob("*.ipynb")), ids=lambda path: path.stem)
def test_copy_equals_source_outside_the_solutions(path: Path) -> None:
    source, copy = files.read(path), learner.starter_notebook(path)
    assert len(source.cells) == len(copy.cells)
    for ours, theirs in zip(source.cells, copy.cells, strict=True):
        assert ours.cell_type == theirs.cell_type
        assert regions.outside(ours.source) == regions.outside(theirs.source)
        assert not theirs.get("outputs")
        for body, emptied in zip(regions.bodies(ours.source), regions.bodies(theirs.source), strict=True):
            assert not set(filter(str.strip, body)) & set(emptied), "a line of the solution is left"


def test_kernel_copy_equals_source_outside_the_solutions_and_compiles(tmp_path: Path) -> None:
    emptied = 0
    for path in KERNELS.rglob("*.mojo"):
        text = path.read_text()
        starter = learner.starter_kernel(text)
        assert regions.outside(starter) == regions.outside(text)
        emptied += starter != text
        target = tmp_path / "kernels" / path.relative_to(KERNELS)
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(starter)
    assert emptied >= 1
    done = mojo(["precompile", str(tmp_path / "kernels"), "-o", str(tmp_path / "kernels.mojoc")])
    assert done.returncode == 0, done.stderr


def test_start_keeps_work_and_force_keeps_a_backup(learn: Path) -> None:
    assert "created  03_rms_norm.ipynb" in workbook(learn, "start").stdout
    path = edit(learn, FIRST, "raise NotImplementedError", "return x  # mine\n    raise NotImplementedError")
    again = workbook(learn, "start")
    assert "kept     03_rms_norm.ipynb" in again.stdout
    assert "created" not in again.stdout
    assert "# mine" in path.read_text()
    forced = workbook(learn, "start", "--force")
    assert "replaced 03_rms_norm.ipynb" in forced.stdout
    assert "# mine" not in path.read_text()
    (kept,) = learn.glob(".backup/*/03_rms_norm.ipynb")
    assert "# mine" in kept.read_text()


def test_an_untouched_copy_follows_its_source(learn: Path) -> None:
    workbook(learn, "start")
    path = files.find(learn, "03")
    state = (learn / ".state.json").read_text()
    notebook = files.read(path)
    notebook.cells.pop()  # as if an older version had been handed out
    files.write(notebook, path)
    import json

    from workbook.checks import fingerprint

    older = json.loads(state)
    older["handed_out"][path.name] = fingerprint(learner.content(path))
    (learn / ".state.json").write_text(json.dumps(older))
    assert f"updated  {path.name}" in workbook(learn, "start").stdout


def test_wrong_work_is_told_so_and_reset_gives_the_starter_back(learn: Path) -> None:
    workbook(learn, "start")
    starter = files.cell_source(learn, registry()[FIRST])
    unwritten = workbook(learn, "check", FIRST)
    assert unwritten.returncode == 1
    assert f"not yet  {FIRST}" in unwritten.stdout
    edit(learn, FIRST, "raise NotImplementedError", "return x / np.sqrt(np.mean(x * x, -1, keepdims=True)) * weight #")
    wrong = workbook(learn, "check", FIRST)
    assert wrong.returncode == 1
    assert "Hint: eps is missing" in wrong.stdout
    refused = workbook(learn, "reset", FIRST)
    assert refused.returncode == 1, "nobody was there to ask"
    assert workbook(learn, "reset", FIRST, "--force").returncode == 0
    assert files.cell_source(learn, registry()[FIRST]) == starter


def test_a_kernel_exercise_goes_into_the_kernel_folder(learn: Path) -> None:
    workbook(learn, "start")
    exercise = registry()[KERNEL]
    assert exercise.kernel is not None
    file = learn / "kernels" / exercise.kernel
    assert f"exercise {KERNEL} is not written yet" in file.read_text()
    workbook(learn, "solution", KERNEL, "--write", "--force")
    checked = workbook(learn, "check", KERNEL)
    assert checked.returncode == 0, checked.stdout + checked.stderr
    solved = (KERNELS / exercise.kernel).read_text()
    assert regions.bodies(file.read_text(), only=KERNEL) == regions.bodies(solved, only=KERNEL)
    assert workbook(learn, "reset", KERNEL, "--force").returncode == 0
    assert f"exercise {KERNEL} is not written yet" in file.read_text()


IN_A_NOTEBOOK = """
import sys
from IPython.core.interactiveshell import InteractiveShell
shell = InteractiveShell.instance()
for cell in ("from workbook.lab import check", sys.argv[1], "check('03.1')"):
    shell.run_cell(cell)
"""


def test_a_check_in_a_notebook_counts_as_progress(learn: Path) -> None:
    workbook(learn, "start")
    workbook(learn, "solution", FIRST, "--write", "--force")

    def run(source: str) -> str:
        done = subprocess.run(
            [sys.executable, "-c", IN_A_NOTEBOOK, source],
            env=os.environ | {"MILI_LEARN": str(learn)},
            cwd=learn,
            capture_output=True,
            text=True,
            timeout=120,
        )
        return done.stdout + done.stderr

    solved = files.cell_source(learn, registry()[FIRST])
    wrong = run(solved.replace(" + eps", ""))
    assert "Not yet. 03.1 RMSNorm in NumPy: case" in wrong
    assert "Hint: eps is missing" in wrong
    assert "Traceback" not in wrong
    assert "0 of " in workbook(learn, "progress").stdout
    assert "03.1 RMSNorm in NumPy: passed (8 cases)" in run(solved)
    assert "1 of " in workbook(learn, "progress").stdout


WAY = """
import contextlib, io, sys
from workbook.__main__ import main
from workbook.exercises import registry


def command(*arguments):
    sys.argv = ["workbook", *arguments]
    out = io.StringIO()
    with contextlib.redirect_stdout(out):
        status = main()
    if status != 0:
        sys.exit(f"{arguments}: status {status}, {out.getvalue()}")
    return out.getvalue()


total = len(registry())
for number, identifier in enumerate(registry(), 1):
    command("solution", identifier, "--write", "--force")
    command("check", identifier)
    if identifier.endswith(".1"):  # once a notebook, since it reads them all
        progress = command("progress")
        assert f"{number} of {total} exercises" in progress, progress
"""


@pytest.mark.timeout(1800)
def test_the_whole_way(learn: Path) -> None:
    """From `start`, solution by solution, to the server that answers with the learner's kernels."""
    workbook(learn, "start")
    total = len(registry())
    assert f"0 of {total} exercises, 0%" in workbook(learn, "progress").stdout
    with pytest.raises(RuntimeError, match=f"exercises? .*{KERNEL}.* not written yet"):
        Server(learn / "kernels")
    done = subprocess.run(
        [sys.executable, "-c", WAY],
        env=os.environ | {"MILI_LEARN": str(learn)},
        cwd=ROOT,
        capture_output=True,
        text=True,
        stdin=subprocess.DEVNULL,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"{total} of {total} exercises, 100%" in workbook(learn, "progress").stdout
    for path in KERNELS.rglob("*.mojo"):
        assert (learn / "kernels" / path.relative_to(KERNELS)).read_text() == path.read_text()
    server = Server(learn / "kernels", "--num-pages", "64", "--max-running", "4")
    try:
        assert server.get("/status")["launch"]["kernels"] == str(learn / "kernels")
        answer = server.post(
            "/v1/completions", prompt="Once upon a time", max_tokens=16, temperature=0, ignore_eos=True
        )
    finally:
        server.stop()
    assert answer["usage"]["completion_tokens"] == 16
    assert re.search(r"[a-z]{3,} [a-z]{3,}", answer["choices"][0]["text"])
    assert server.process.returncode == 0
    edit(learn, FIRST, "mean_square", "mean_of_squares")
    assert f"edited since: {FIRST}" in workbook(learn, "progress").stdout


def test_unknown_exercise_and_missing_copy_are_named(learn: Path) -> None:
    assert "there is no learn/ yet" in workbook(learn, "check", "03").stderr
    workbook(learn, "start")
    assert "no exercise '99.9'" in workbook(learn, "check", "99.9").stderr
