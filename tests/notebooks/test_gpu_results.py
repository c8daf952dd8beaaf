"""Recorded GPU results are shown with device, date and command; where there are none, that is said."""

import ast
import json
import subprocess
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from benchmarks.ladder import GPU
from mili.hardware import find_gpus
from workbook import figures, gpu_results
from workbook.gpu_results import latest, recorded
from workbook.paths import ROOT


def write(folder: Path, name: str, date: str, microseconds: float) -> None:
    """A result file with one timing."""
    info = {"device": "NVIDIA H100", "date": date, "command": "run_all.py --json x"}
    rows = [{"op": "rms_norm", "rows": 64, "us": microseconds}, {"op": "swiglu", "rows": 64, "us": 99.0}]
    (folder / name).write_text(json.dumps({"info": info, "timings": rows}))


def test_the_newest_run_is_shown(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write(tmp_path, "a.json", "2026-11-24 10:00 UTC", 2.5)
    write(tmp_path, "b.json", "2026-11-23 10:00 UTC", 7.5)
    (tmp_path / "other.json").write_text("[1, 2]")
    recorded("rms_norm", folder=tmp_path)
    assert capsys.readouterr().out.splitlines() == [
        "NVIDIA H100, 2026-11-24 10:00 UTC: run_all.py --json x",
        "rows   µs",
        "  64  2.5",
    ]


def test_none_recorded_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    recorded("rms_norm", folder=tmp_path)
    assert "No GPU results of rms_norm are recorded yet" in capsys.readouterr().out


def test_rows_are_chosen_by_their_values(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    timings = [{"op": "linear", "what": what, "us": us} for what, us in (("qkv", 1.5), ("head", 9.0))]
    (tmp_path / "a.json").write_text(json.dumps({"info": {"device": "H"}, "timings": timings}))
    recorded("linear", ["what", "us"], tmp_path, {"what": "head"})
    assert capsys.readouterr().out.splitlines()[1:] == ["what  µs", "head   9"]
    with pytest.raises(ValueError, match="no recorded timing"):
        recorded("linear", [], tmp_path, {"what": "none"})


def test_with_a_gpu_the_ladder_is_timed_on_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert set(gpu_results.LADDERS) == set(GPU)
    asked: list[list[str]] = []

    def run(command: list[str], **options: object) -> SimpleNamespace:
        asked.append(command[1:])
        return SimpleNamespace(stdout="naive 1 us", stderr="", returncode=0)

    monkeypatch.setattr(subprocess, "run", run)
    recorded("rms_norm", folder=tmp_path)
    assert asked == []
    monkeypatch.setattr(gpu_results, "find_gpus", lambda: SimpleNamespace(usable=[0]))
    monkeypatch.setattr(gpu_results, "find_spec", lambda name: None)
    recorded("rms_norm", folder=tmp_path)
    assert "install PyTorch" in capsys.readouterr().out
    monkeypatch.setattr(gpu_results, "find_spec", lambda name: name)
    recorded("swiglu", folder=tmp_path)
    recorded("rms_norm", folder=tmp_path)
    assert asked == [["-m", "benchmarks.ladder", "rms_norm", "--device", "gpu"]]
    assert "naive 1 us" in capsys.readouterr().out


def shown(notebook: Path) -> list[tuple[str, str, dict[str, Any]]]:
    """The cells of a notebook that show recorded results: source, printed text, and the functions that they call."""
    defined: dict[str, ast.stmt] = {}
    found = []
    for cell in json.loads(notebook.read_text())["cells"]:
        source = "".join(cell["source"])
        if cell["cell_type"] != "code" or source.startswith("%%"):
            continue
        tree = ast.parse(source)
        if "recorded(" in source or "latest(" in source:
            text = "".join("".join(output.get("text", "")) for output in cell["outputs"])
            functions: dict[str, Any] = {}
            for name in {node.id for node in ast.walk(tree) if isinstance(node, ast.Name)} & set(defined):
                exec(compile(ast.Module([defined[name]], []), notebook.name, "exec"), functions)
            found.append((source, text, functions))
        defined |= {node.name: node for node in tree.body if isinstance(node, ast.FunctionDef)}
    return found


@pytest.mark.skipif(find_gpus().usable, reason="with a GPU the cells time kernels on it")
@pytest.mark.parametrize("notebook", sorted((ROOT / "notebooks").glob("*.ipynb")), ids=lambda path: path.stem[:2])
def test_notebooks_show_the_newest_results(notebook: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for source, text, functions in shown(notebook):
        capsys.readouterr()
        exec(source, functions | {"recorded": recorded, "latest": latest, "figures": figures})
        assert capsys.readouterr().out == text, f"run this cell of {notebook.name} again:\n{source}"
