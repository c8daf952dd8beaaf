"""The lists of packages and the pins agree wherever they are written."""

import tomllib
from pathlib import Path

import yaml

ROOT = Path(__file__).resolve().parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


def test_environment_yml_lists_what_pyproject_lists() -> None:
    environment = yaml.safe_load((ROOT / "environment.yml").read_text())
    extras = PROJECT["optional-dependencies"]
    wanted = {*PROJECT["dependencies"], *extras["lab"], *extras["test"], "-e ."}
    (through_pip,) = [entry["pip"] for entry in environment["dependencies"] if isinstance(entry, dict)]
    assert set(through_pip) == wanted
    assert len(through_pip) == len(wanted), "a package is listed twice"
    assert "python=3.12" in environment["dependencies"]


def test_toolchain_is_pinned_exactly() -> None:
    pins = [entry for entry in PROJECT["dependencies"] if entry.startswith(("mojo", "max"))]
    assert sorted(entry.split("==")[0] for entry in pins) == ["max", "mojo"]


def test_no_machine_paths_in_the_repository() -> None:
    words = [f"/{name}/" for name in ("work", "root", "farm")]  # spelled so that this file does not match itself
    folders = ("mili", "kernels", "reference", "workbook", "benchmarks", "tests", "docs", "notebooks", "deploy")
    suffixes = {".py", ".mojo", ".md", ".ipynb", ".toml", ".yml", ".yaml", ".cfg", ".sh"}
    for folder in folders:
        for path in (ROOT / folder).rglob("*"):
            if path.suffix in suffixes and path.is_file():
                text = path.read_text()
                found = [word for word in words if f'"{word}' in text or f" {word}" in text]
                assert not found, f"{path.relative_to(ROOT)} names {found}"
